//! Copying what a root has at a place into the tmpfs that will cover it (`tmpcopyup`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Result;

use super::permissions;

/// Copies directories, files and links below `from` into `to`. Other kinds of files are left out: devices have no place
/// in a tmpfs of a container, and sockets and pipes no content.
pub(super) fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let from = open_directory(from.as_fd(), c".")?;
    copy_directory(from.as_fd(), to.as_fd(), 0)
}

fn open_directory(parent: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> Result<()> {
    if depth > 64 {
        return Err(rustix::io::Errno::LOOP);
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = permissions(stat.st_mode);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, mode)?;
                let inner_from = open_directory(from, name)?;
                let inner_to = open_directory(to, name)?;
                copy_directory(inner_from.as_fd(), inner_to.as_fd(), depth + 1)?;
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let target = rustix::fs::openat(to, name, flags, mode)?;
                let mut left = usize::try_from(stat.st_size).unwrap_or(0);
                while left > 0 {
                    let sent = rustix::fs::sendfile(&target, &source, None, left)?;
                    if sent == 0 {
                        break;
                    }
                    left -= sent;
                }
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(&*target, to, name)?;
            }
            _ => continue,
        }
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            // A change of owner takes set-user-id bits away.
            rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
        }
    }
    Ok(())
}
