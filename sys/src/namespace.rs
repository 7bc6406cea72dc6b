//! Leaving and entering namespaces.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Result;

/// A pid namespace's flag.
pub const PID: u64 = libc::CLONE_NEWPID as u64;
/// A mount namespace's flag.
pub const MOUNT: u64 = libc::CLONE_NEWNS as u64;
/// A network namespace's flag.
pub const NETWORK: u64 = libc::CLONE_NEWNET as u64;
/// An IPC namespace's flag.
pub const IPC: u64 = libc::CLONE_NEWIPC as u64;
/// A UTS namespace's flag.
pub const UTS: u64 = libc::CLONE_NEWUTS as u64;
/// A user namespace's flag.
pub const USER: u64 = libc::CLONE_NEWUSER as u64;
/// A cgroup namespace's flag.
pub const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
/// A time namespace's flag.
pub const TIME: u64 = 0x80;

/// unshare(2) of namespaces only: the caller leaves them for new ones.
///
/// # Errors
/// The kernel's.
pub fn unshare(namespaces: u64) -> Result<()> {
    let all = PID | MOUNT | NETWORK | IPC | UTS | USER | CGROUP | TIME;
    // SAFETY: only namespace flags pass, so the table of descriptors and the memory stay shared as the library expects.
    let answer = unsafe { libc::unshare((namespaces & all) as libc::c_int) };
    crate::check(libc::c_long::from(answer)).map(drop)
}

/// setns(2): enters the namespace that `fd` names, or of the process whose pidfd it is those of `namespaces`.
///
/// # Errors
/// The kernel's.
pub fn enter(fd: BorrowedFd<'_>, namespaces: u64) -> Result<()> {
    // SAFETY: setns takes two numbers and touches no memory.
    let answer = unsafe { libc::setns(fd.as_raw_fd(), namespaces as libc::c_int) };
    crate::check(libc::c_long::from(answer)).map(drop)
}
