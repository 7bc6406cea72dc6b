//! Mount attributes.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Result;

/// Read-only.
pub const ATTR_RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
/// Set-user-id bits and file capabilities do nothing.
pub const ATTR_NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
/// Device files cannot be opened.
pub const ATTR_NODEV: u64 = libc::MOUNT_ATTR_NODEV;
/// No program can be executed.
pub const ATTR_NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
/// The bits in which the access time policy stands; to change it, clear these.
pub const ATTR_ATIME: u64 = libc::MOUNT_ATTR__ATIME;
/// Access times when older than the modification (the default; a value of [`ATTR_ATIME`]).
pub const ATTR_RELATIME: u64 = libc::MOUNT_ATTR_RELATIME;
/// No access times (a value of [`ATTR_ATIME`]).
pub const ATTR_NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
/// Every access time (a value of [`ATTR_ATIME`]).
pub const ATTR_STRICTATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
/// No access times of directories.
pub const ATTR_NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
/// Symbolic links are not followed.
pub const ATTR_NOSYMFOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;

/// Propagation: none.
pub const PRIVATE: u64 = libc::MS_PRIVATE;
/// Propagation: both ways.
pub const SHARED: u64 = libc::MS_SHARED;
/// Propagation: from the master only.
pub const SLAVE: u64 = libc::MS_SLAVE;
/// Propagation: none, and it cannot be bind-mounted.
pub const UNBINDABLE: u64 = libc::MS_UNBINDABLE;

/// A change of a mount's attributes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear.
    pub clear: u64,
    /// The propagation to give; 0 leaves it.
    pub propagation: u64,
}

impl Attributes {
    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// open_tree_attr(2): a copy of the mount of an open file or directory, from there down, with other attributes from the start;
/// `recursive` with all mounts below it, and for them.
///
/// # Errors
/// The kernel's; `ENOSYS` before Linux 6.15.
pub fn clone_with_attributes(
    of: BorrowedFd<'_>,
    attributes: &Attributes,
    recursive: bool,
) -> Result<OwnedFd> {
    /// The same for all processors.
    const OPEN_TREE_ATTR: libc::c_long = 467;
    let args = raw(attributes);
    let mut flags =
        libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as libc::c_uint;
    if recursive {
        flags |= libc::AT_RECURSIVE as libc::c_uint;
    }
    // SAFETY: the path is null-terminated, `args` lives through the call and its size is the one given; the descriptor is new,
    // and nobody else has it.
    unsafe {
        let answer = libc::syscall(
            OPEN_TREE_ATTR,
            of.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(&args),
            size_of::<libc::mount_attr>(),
        );
        crate::check(answer).map(|fd| OwnedFd::from_raw_fd(fd as i32))
    }
}

/// The kind of the file system that an open file is on, as its magic number, without a word to the file system itself:
/// statfs(2) would ask the server of one that has a server, which may never answer.
///
/// # Errors
/// The kernel's; `ENOSYS` before Linux 6.8.
pub fn file_system_of(file: BorrowedFd<'_>) -> Result<u64> {
    /// The same for all processors.
    const STATMOUNT: libc::c_long = 457;
    const STATMOUNT_SB_BASIC: u64 = 1;
    /// `STATX_MNT_ID_UNIQUE`.
    const MNT_ID_UNIQUE: u32 = 0x4000;
    /// Of the structure's 64-bit words, the one with the magic number.
    const MAGIC: usize = 3;
    let flags = rustix::fs::AtFlags::EMPTY_PATH | rustix::fs::AtFlags::STATX_DONT_SYNC;
    let wanted = rustix::fs::StatxFlags::from_bits_retain(MNT_ID_UNIQUE);
    let found = rustix::fs::statx(file, c"", flags, wanted)?;
    if found.stx_mask & MNT_ID_UNIQUE == 0 {
        return Err(rustix::io::Errno::NOSYS);
    }
    // The size, in the first half of the first word.
    let request: [u64; 3] = [24, found.stx_mnt_id, STATMOUNT_SB_BASIC];
    let mut answer = [0u64; 64];
    // SAFETY: `request` is a struct mnt_id_req of the size that it says (on a big-endian processor the kernel would refuse it), and
    // the kernel writes no more to `answer` than the size that is given.
    crate::check(unsafe {
        libc::syscall(
            STATMOUNT,
            request.as_ptr(),
            answer.as_mut_ptr(),
            size_of_val(&answer),
            0,
        )
    })?;
    Ok(answer[MAGIC])
}

fn raw(attributes: &Attributes) -> libc::mount_attr {
    libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: 0,
    }
}

/// mount_setattr(2) on an open mount; `recursive` for all mounts below it too.
///
/// # Errors
/// The kernel's; `ENOSYS` before Linux 5.12.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    attributes: &Attributes,
    recursive: bool,
) -> Result<()> {
    set_attributes_at(mount, c"", attributes, recursive)
}

/// Maps the ids of an open mount's files as the user namespace does (MOUNT_ATTR_IDMAP); `recursive` for all mounts below
/// it too. The mount must be detached.
///
/// # Errors
/// The kernel's; `EINVAL` for a file system that cannot, `ENOSYS` before Linux 5.12.
pub fn set_id_map(mount: BorrowedFd<'_>, namespace: BorrowedFd<'_>, recursive: bool) -> Result<()> {
    let args = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: namespace.as_raw_fd() as u64,
    };
    set(mount, c"", &args, recursive)
}

/// mount_setattr(2) on the mount at a path (relative to `dir`; the empty path is `dir` itself).
///
/// # Errors
/// The kernel's; `ENOSYS` before Linux 5.12.
pub fn set_attributes_at(
    dir: BorrowedFd<'_>,
    path: &std::ffi::CStr,
    attributes: &Attributes,
    recursive: bool,
) -> Result<()> {
    let args = raw(attributes);
    set(dir, path, &args, recursive)
}

fn set(
    dir: BorrowedFd<'_>,
    path: &std::ffi::CStr,
    args: &libc::mount_attr,
    recursive: bool,
) -> Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is null-terminated, `args` lives through the call and its size is the one given.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(args),
            size_of::<libc::mount_attr>(),
        )
    };
    crate::check(answer).map(drop)
}
