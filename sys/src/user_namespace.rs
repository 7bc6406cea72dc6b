//! User namespaces as others see them: made for somebody else, and asked where they come from.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Result;
use rustix::process::{Pid, WaitId, WaitIdOptions};

use crate::clone::clone3;

/// Calls `meanwhile` with a process that is in a user namespace of its own, not mapped yet, and does nothing; it is gone afterwards. The
/// namespace stays while somebody holds a descriptor of it. The caller may have any number of threads.
///
/// # Errors
/// The kernel's.
pub fn with_new<T>(meanwhile: impl FnOnce(Pid) -> T) -> Result<T> {
    // As long as the caller lives, and no longer.
    let (end, held) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let mut pidfd: libc::c_int = -1;
    // SAFETY: all fields may be 0.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (libc::CLONE_NEWUSER | libc::CLONE_PIDFD) as u64;
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: the child has its own copy of all memory and, of several threads, goes on alone; it calls nothing but `wait_for_end`,
    // which takes no lock. `pidfd` is written before the call returns.
    let Some(pid) = unsafe { clone3(&args) }? else {
        wait_for_end(end.as_fd(), held.as_fd())
    };
    // SAFETY: CLONE_PIDFD made this descriptor for us and nobody else has it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let done = meanwhile(pid);
    // It may be stopped by now, or another process may have the pipe.
    let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
    let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    drop(held);
    Ok(done)
}

/// What the process does: nothing until nobody holds the other end, and then it ends.
fn wait_for_end(end: BorrowedFd<'_>, held: BorrowedFd<'_>) -> ! {
    let mut byte = 0u8;
    // SAFETY: plain system calls: its own copy of the descriptor is closed once, and one byte may be written to `byte`.
    unsafe {
        libc::close(held.as_raw_fd());
        libc::read(end.as_raw_fd(), std::ptr::from_mut(&mut byte).cast(), 1);
        libc::_exit(0)
    }
}

/// The user namespace in which this one was made (NS_GET_PARENT).
///
/// # Errors
/// The kernel's; `EPERM` where that is not the caller's own nor one below it.
pub fn parent(namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    /// `_IO(0xb7, 2)`, the same for all processors that this is compiled for.
    const NS_GET_PARENT: libc::c_ulong = 0xb702;
    // SAFETY: the request takes no argument, and the descriptor that it gives is new and nobody else's.
    unsafe {
        let answer = libc::ioctl(namespace.as_raw_fd(), NS_GET_PARENT as _);
        crate::check(libc::c_long::from(answer)).map(|fd| OwnedFd::from_raw_fd(fd as i32))
    }
}

/// Whose it is: the user who made it, by his id in the caller's namespace (NS_GET_OWNER_UID).
///
/// # Errors
/// The kernel's.
pub fn owner(namespace: BorrowedFd<'_>) -> Result<u32> {
    /// `_IO(0xb7, 4)`.
    const NS_GET_OWNER_UID: libc::c_ulong = 0xb704;
    let mut owner: libc::uid_t = 0;
    // SAFETY: the kernel writes a user's id to `owner`, which lives through the call.
    let answer = unsafe {
        libc::ioctl(
            namespace.as_raw_fd(),
            NS_GET_OWNER_UID as _,
            std::ptr::from_mut(&mut owner),
        )
    };
    crate::check(libc::c_long::from(answer)).map(|_| owner)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_namespace_is_made_of_ours_and_is_ours() {
        let own = std::fs::metadata("/proc/self/ns/user").unwrap();
        let made = with_new(|pid| {
            let pid = pid.as_raw_nonzero();
            File::open(format!("/proc/{pid}/ns/user")).unwrap()
        });
        // A machine may keep users from making one.
        let Ok(made) = made else { return };
        assert_ne!(made.metadata().unwrap().ino(), own.ino());
        let above = File::from(parent(made.as_fd()).unwrap());
        assert_eq!(above.metadata().unwrap().ino(), own.ino());
        let user = rustix::process::geteuid().as_raw();
        assert_eq!(owner(made.as_fd()).unwrap(), user);
    }
}
