//! Directories that a layer's tar leaves out take owner, mode and time from the layers below.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, Stat};
use rustix::process::{Gid, Uid};

use crate::UnpackError;
use crate::attributes::times;
use crate::place::{lossy, open_inside, wrote};

/// Gives the directories `implied` of `tree` what the same directories have in `lowers`, the trees below, topmost first.
/// A directory that none of them has is 0755, root's, and from 1970.
///
/// # Errors
/// When the file system refuses.
pub fn inherit(
    tree: BorrowedFd<'_>,
    implied: &[PathBuf],
    lowers: &[BorrowedFd<'_>],
) -> Result<(), UnpackError> {
    // Deepest first, so that no time changes after it was set.
    for path in implied.iter().rev() {
        let bytes = path.as_os_str().as_bytes();
        let directory = open_inside(tree, or_dot(bytes))
            .map_err(wrote(bytes, "open a directory that the tar leaves out"))?;
        copy(directory.as_fd(), path, lowers).map_err(|source| UnpackError::Write {
            name: lossy(bytes),
            doing: "set owner, mode and time as in the layer below",
            source,
        })?;
    }
    Ok(())
}

/// Gives the fresh directory `tree` what the topmost of `lowers` has as its root, since an overlay shows the topmost root's.
///
/// # Errors
/// When the file system refuses.
pub fn inherit_root(tree: BorrowedFd<'_>, lowers: &[BorrowedFd<'_>]) -> io::Result<()> {
    copy(tree, Path::new(""), lowers)
}

fn copy(directory: BorrowedFd<'_>, path: &Path, lowers: &[BorrowedFd<'_>]) -> io::Result<()> {
    let below = lowers.iter().find_map(|lower| attributes(*lower, path));
    let (uid, gid, mode, mtime) = below.map_or((0, 0, 0o755, (0, 0)), |stat| {
        let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        (
            stat.st_uid,
            stat.st_gid,
            stat.st_mode & 0o7777,
            (stat.st_mtime, nanos),
        )
    });
    rustix::fs::fchown(
        directory,
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
    )?;
    rustix::fs::fchmod(directory, Mode::from_raw_mode(mode))?;
    rustix::fs::futimens(directory, &times(mtime))?;
    Ok(())
}

fn attributes(lower: BorrowedFd<'_>, path: &Path) -> Option<Stat> {
    let directory = open_inside(lower, or_dot(path.as_os_str().as_bytes())).ok()?;
    rustix::fs::fstat(directory).ok()
}

fn or_dot(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}
