//! Removal of trees, however deep.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// So many directories are held open at once; what lies deeper is moved up first.
const DEPTH: usize = 100;

/// Removes `name` in `parent` with all that lies in it; nothing happens where there is none. No link is followed.
///
/// # Errors
/// When something cannot be removed.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let top = open(parent, name)?;
    let mut moved = 0;
    empty(&top, &top, DEPTH, &mut moved)?;
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?;
    Ok(())
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
            Err(error) => return Err(error.into()),
        }
    }
    match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
        Ok(()) => return Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    if depth == 0 {
        *moved += 1;
        let aside = format!(".removing-{}-{moved}", std::process::id());
        rustix::fs::renameat(directory, name, top, aside.as_str())?;
        return Ok(());
    }
    let inner = open(directory.as_fd(), name)?;
    empty(top, &inner, depth - 1, moved)?;
    rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?;
    Ok(())
}

fn open(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            // A directory that its owner may not read; who is not root has to open it up first.
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
        }
        other => Ok(other?),
    }
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
}
