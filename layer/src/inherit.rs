//! Directories that a layer's tar leaves out take owner, mode, attributes and time from the layers below.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, XattrFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use crate::UnpackError;
use crate::attributes::{kept_attributes, times};
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
            doing: "set owner, mode, attributes and time as in the layer below",
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
    let below = lowers.iter().find_map(|lower| same_in(*lower, path));
    let (mut owner, mut mode, mut mtime, mut attributes) = ((0, 0), 0o755, (0, 0), Vec::new());
    if let Some(below) = below {
        let stat = rustix::fs::fstat(&below)?;
        owner = (stat.st_uid, stat.st_gid);
        mode = stat.st_mode & 0o7777;
        mtime = (
            stat.st_mtime,
            u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        );
        attributes = kept_attributes(below.as_fd())?;
    }
    let owner = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    rustix::fs::fchown(directory, Some(owner.0), Some(owner.1))?;
    rustix::fs::fchmod(directory, Mode::from_raw_mode(mode))?;
    for (name, value) in &attributes {
        match rustix::fs::fsetxattr(directory, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    rustix::fs::futimens(directory, &times(mtime))?;
    Ok(())
}

fn same_in(lower: BorrowedFd<'_>, path: &Path) -> Option<OwnedFd> {
    open_inside(lower, or_dot(path.as_os_str().as_bytes())).ok()
}

fn or_dot(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}
