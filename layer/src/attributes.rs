//! Owner, mode, extended attributes and times: what is kept of them, and in which order they are set.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Timespec, Timestamps, UTIME_OMIT, XattrFlags};
use rustix::io::Errno;

use crate::options::XattrFlavour;

/// The ACL that what is made in a directory begins with.
pub(crate) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
/// The longest list of names, and the longest value (xattr(7)).
const LONGEST: usize = 65536;

/// The name and the value of an extended attribute.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// Whether a layer keeps this extended attribute. Those of the overlay are never taken from a tar (a mount would obey them),
/// labels of security modules belong to the machine.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability"
        || name == b"system.posix_acl_access"
        || name == DEFAULT_ACL
        || (name.starts_with(b"user.") && !is_overlay(name))
}

/// The extended attributes of a file that a layer keeps, by name; none where the file system has no such thing.
///
/// # Errors
/// When they cannot be read.
pub fn kept_attributes(file: BorrowedFd<'_>) -> Result<Vec<Xattr>, Errno> {
    let mut names = vec![0; 4096];
    let length = list(file, &mut names)?;
    let names = names[..length].split(|b| *b == 0);
    let mut kept = Vec::new();
    for name in names.filter(|name| is_kept(name)) {
        kept.push((name.to_vec(), value(file, name)?));
    }
    kept.sort();
    Ok(kept)
}

/// Reads the names of a file's extended attributes, each with a NUL behind it, into `names`, which grows where it has to; gives the
/// length of the list.
pub(crate) fn list(file: impl AsFd, names: &mut Vec<u8>) -> Result<usize, Errno> {
    loop {
        match rustix::fs::flistxattr(&file, names.as_mut_slice()) {
            Ok(length) => return Ok(length),
            Err(Errno::OPNOTSUPP) => return Ok(0),
            Err(Errno::RANGE) if names.len() < LONGEST => names.resize(LONGEST, 0),
            Err(error) => return Err(error),
        }
    }
}

/// The value of an extended attribute.
pub(crate) fn value(file: impl AsFd, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; 256];
    loop {
        match rustix::fs::fgetxattr(&file, name, value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                return Ok(value);
            }
            Err(Errno::RANGE) if value.len() < LONGEST => value.resize(LONGEST, 0),
            Err(error) => return Err(error),
        }
    }
}

/// Whether it is one of the overlay's own marks, of either flavour.
pub(crate) fn is_overlay(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Marks a directory as hiding the one below it.
pub(crate) fn set_opaque(directory: BorrowedFd<'_>, flavour: XattrFlavour) -> Result<(), Errno> {
    rustix::fs::fsetxattr(directory, flavour.opaque(), b"y", XattrFlags::empty())
}

/// Whether a directory of a tree hides the one below it.
///
/// # Errors
/// When its attributes cannot be read.
pub fn is_opaque(directory: BorrowedFd<'_>, flavour: XattrFlavour) -> Result<bool, Errno> {
    let mut value = [0; 1];
    match rustix::fs::fgetxattr(directory, flavour.opaque(), &mut value) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::RANGE) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Only the time of the last change is set.
pub(crate) fn times(mtime: (i64, u32)) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.0,
            tv_nsec: i64::from(mtime.1),
        },
    }
}

/// A file capability in the form that names no user namespace (revision 2), which is what a tar carries.
pub(crate) fn portable_capability(value: Vec<u8>) -> Vec<u8> {
    const REVISION_2: u8 = 2;
    const REVISION_3: u8 = 3;
    // struct vfs_ns_cap_data: magic and flags, two pairs of sets, the owner's id.
    if value.len() == 24 && value[3] == REVISION_3 {
        let mut shorter = value[..20].to_vec();
        shorter[3] = REVISION_2;
        return shorter;
    }
    value
}
