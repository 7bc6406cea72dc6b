//! Removal of trees, however deep.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// So many directories are held open at once; what lies deeper is moved up first.
const DEPTH: usize = 100;

/// Removes `name` in `parent` with all that lies in it; nothing happens where there is none. No link is followed, and what is
/// mounted there stays: it belongs to somebody else.
///
/// # Errors
/// When something cannot be removed, such as a mount, which the error names.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(refused(parent, name, error)),
    }
    let top = open(parent, name)?;
    let mut moved = 0;
    empty(&top, &top, DEPTH, &mut moved)?;
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
        .map_err(|error| refused(parent, name, error))
}

fn empty(top: &OwnedFd, directory: &OwnedFd, depth: usize, moved: &mut u64) -> io::Result<()> {
    // What is moved up into `top` while it is being read may be missed by that reading, so it is read until nothing is found.
    loop {
        let mut found = false;
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            found = true;
            remove_entry(top, directory, name, entry.file_type(), depth, moved)?;
        }
        if !found {
            return Ok(());
        }
    }
}

fn remove_entry(
    top: &OwnedFd,
    directory: &OwnedFd,
    name: &[u8],
    file_type: FileType,
    depth: usize,
    moved: &mut u64,
) -> io::Result<()> {
    if file_type != FileType::Directory {
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(error) => return Err(refused(directory.as_fd(), name, error)),
        }
    }
    match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
        Ok(()) => return Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(error) => return Err(refused(directory.as_fd(), name, error)),
    }
    if depth == 0 {
        return move_up(top, directory, name, moved);
    }
    let inner = open(directory.as_fd(), name)?;
    empty(top, &inner, depth - 1, moved)?;
    rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?;
    Ok(())
}

/// Moves a directory up into `top`, under a name that nothing there has: who began to remove the tree and was killed may have left some.
fn move_up(top: &OwnedFd, directory: &OwnedFd, name: &[u8], moved: &mut u64) -> io::Result<()> {
    loop {
        *moved += 1;
        let aside = format!(".removing-{}-{moved}", std::process::id());
        match rustix::fs::renameat(directory, name, top, aside.as_str()) {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            done => return Ok(done?),
        }
    }
}

fn open(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    match open_here(parent, name) {
        Err(Errno::ACCESS) => {
            // A directory that its owner may not read; who is not root has to open it up first.
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            open_here(parent, name)
        }
        other => other,
    }
    .map_err(|error| refused(parent, name, error))
}

/// Opens a directory that is on the same mount as `parent`.
fn open_here(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat2(parent, name, flags, Mode::empty(), ResolveFlags::NO_XDEV) {
        // Before Linux 5.6.
        Err(Errno::NOSYS) => rustix::fs::openat(parent, name, flags, Mode::empty()),
        opened => opened,
    }
}

/// The error of an entry that cannot be removed; where it is a mount, that is said.
fn refused(parent: BorrowedFd<'_>, name: &[u8], error: Errno) -> io::Error {
    if !matches!(error, Errno::XDEV | Errno::BUSY) {
        return error.into();
    }
    let directory = std::fs::read_link(format!("/proc/self/fd/{}", parent.as_raw_fd()));
    let mount = directory.unwrap_or_default().join(OsStr::from_bytes(name));
    let said = format!(
        "something is mounted on {}; unmount it first",
        mount.display()
    );
    io::Error::new(io::Error::from(error).kind(), said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_deeper_than_descriptors_last_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let base = OwnedFd::from(std::fs::File::open(place.path()).unwrap());
        rustix::fs::mkdirat(&base, "deep", Mode::RWXU).unwrap();
        let mut at = open(base.as_fd(), b"deep").unwrap();
        for _ in 0..1500 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = open(at.as_fd(), b"d").unwrap();
        }
        remove_tree(base.as_fd(), b"deep").unwrap();
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
        remove_tree(base.as_fd(), b"deep").unwrap();
    }

    #[test]
    fn what_a_killed_removal_moved_up_is_not_in_the_way() {
        let place = tempfile::tempdir().unwrap();
        let base = OwnedFd::from(std::fs::File::open(place.path()).unwrap());
        rustix::fs::mkdirat(&base, "deep", Mode::RWXU).unwrap();
        let top = open(base.as_fd(), b"deep").unwrap();
        for number in [1, 2] {
            let left = format!("deep/.removing-{}-{number}", std::process::id());
            std::fs::create_dir(place.path().join(&left)).unwrap();
            std::fs::write(place.path().join(&left).join("file"), "").unwrap();
        }
        rustix::fs::mkdirat(&top, "d", Mode::RWXU).unwrap();
        let mut moved = 0;
        move_up(&top, &top, b"d", &mut moved).unwrap();
        assert_eq!(moved, 3);
        remove_tree(base.as_fd(), b"deep").unwrap();
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
