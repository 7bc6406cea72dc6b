//! A program's file where nobody can write to it, nor get in the way of those who execute it.
//!
//! A process in a container can open `/proc/PID/exe` of a program that enters it, and once that process has ended, write to the
//! file: the host would execute what it wrote (CVE-2019-5736). A read-only mount alone keeps it from writing, but not from trying:
//! the kernel counts who opens a *file* for writing before it looks at the mount, and while it counts one, nobody can execute the
//! file (ETXTBSY). So what containers see is another file: that of an overlay of the program's directory which has no
//! layer to write to. Such a file system is read-only as a whole, which the kernel looks at first, and what is counted is its own
//! file's. It is in no mount namespace, so that nobody can change its attributes.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// An overlay without a layer to write to takes two others. The second one shows nothing of itself, as long as the first has the
/// file; sysfs is everywhere, and no mount is in this part of it (one that an unprivileged user could not have
/// removed would keep it from being a layer).
pub(crate) const SECOND_LAYER: &[u8] = b":/sys/class";
/// The mount's attributes. Read-only is what is wanted; together the others tell such a mount from an overlay that a host or a
/// container has as its root: nothing goes without symbolic links.
pub(crate) const ATTRIBUTES: u64 = libc::MOUNT_ATTR_RDONLY
    | libc::MOUNT_ATTR_NODEV
    | libc::MOUNT_ATTR_NOATIME
    | libc::MOUNT_ATTR_NODIRATIME
    | libc::MOUNT_ATTR_NOSYMFOLLOW;
/// The same as statfs(2) tells them.
const FLAGS: u64 =
    libc::ST_RDONLY | libc::ST_NODEV | libc::ST_NOATIME | libc::ST_NODIRATIME | ST_NOSYMFOLLOW;
const ST_NOSYMFOLLOW: u64 = 0x2000;
const OVERLAY: u64 = libc::OVERLAYFS_SUPER_MAGIC as u64;

// What the entry point needs, which makes the same calls before there is a C library.
/// Of fsopen(2) and fsmount(2).
#[cfg(target_arch = "x86_64")]
pub(crate) const CLOSE_ON_EXEC: usize = 1;
/// Of fsconfig(2).
#[cfg(target_arch = "x86_64")]
pub(crate) const SET_STRING: usize = 1;
/// Of fsconfig(2).
#[cfg(target_arch = "x86_64")]
pub(crate) const CREATE: usize = 6;

/// Whether a file system's kind and flags, as statfs(2) tells them, are those of a sealed mount.
#[inline(always)]
pub(crate) fn is_mark(kind: u64, flags: u64) -> bool {
    kind == OVERLAY && flags & FLAGS == FLAGS
}

/// Whether an open file is on a sealed mount.
///
/// # Errors
/// The kernel's.
pub fn is_sealed(file: impl AsFd) -> Result<bool> {
    let kind = rustix::fs::fstatfs(&file)?.f_type;
    let flags = rustix::fs::fstatvfs(&file)?.f_flag.bits();
    Ok(is_mark(kind.cast_unsigned(), flags))
}

/// A program as a sealed file, to be executed through this descriptor and nothing else (O_PATH, close-on-exec).
///
/// The mount belongs to no namespace when this returns: while the descriptor that made it were open, it would be in one of its own,
/// and whoever came by a path on it could make it writable again.
///
/// # Errors
/// The kernel's: no overlays, no power to mount, a program that is not at its path any more. NOENT where the file of this name
/// in the directory's own file system is another: a layer shows nothing that is mounted below the directory.
pub fn open(program: &Path) -> Result<OwnedFd> {
    // An overlay takes a real directory, and the file must not be a link to elsewhere.
    let program = std::fs::canonicalize(program)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let (Some(directory), Some(name)) = (program.parent(), program.file_name()) else {
        return Err(Errno::INVAL);
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let meant = rustix::fs::open(&program, flags, Mode::empty())?;
    let mut layers = Vec::new();
    for byte in directory.as_os_str().as_bytes() {
        // Both have a meaning to the file system.
        if matches!(byte, b':' | b'\\') {
            layers.push(b'\\');
        }
        layers.push(*byte);
    }
    layers.extend_from_slice(SECOND_LAYER);
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "lowerdir", OsString::from_vec(layers))?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::from_bits_retain(ATTRIBUTES as u32);
    let mount = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let file = rustix::fs::openat(&mount, name, flags, Mode::empty())?;
    if !is_same(&meant, &file)? {
        return Err(Errno::NOENT);
    }
    Ok(file)
}

/// Whether both are the same file, one of them seen through an overlay, where it has another device.
///
/// # Errors
/// The kernel's.
pub fn is_same(one: impl AsFd, other: impl AsFd) -> Result<bool> {
    let status = |file: &dyn AsFd| {
        let status = rustix::fs::statat(file.as_fd(), "", AtFlags::EMPTY_PATH)?;
        Ok::<_, Errno>((
            status.st_size,
            (status.st_mtime, status.st_mtime_nsec),
            (status.st_ctime, status.st_ctime_nsec),
        ))
    };
    Ok(status(&one)? == status(&other)?)
}
