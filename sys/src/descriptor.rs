//! Descriptors that were passed to this program by their number.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::Result;

/// Takes over a descriptor that the caller of this program passed and named by its number. It must be taken once only, and
/// none of this program's own.
///
/// # Errors
/// `EBADF` when it is not open for writing; also for the first three, which are everybody's.
pub fn take(number: RawFd) -> Result<OwnedFd> {
    if number < 3 {
        return Err(rustix::io::Errno::BADF);
    }
    // SAFETY: F_GETFL takes no argument and touches no memory.
    let flags = crate::check(libc::c_long::from(unsafe {
        libc::fcntl(number, libc::F_GETFL)
    }))?;
    if flags & libc::c_long::from(libc::O_ACCMODE) == libc::c_long::from(libc::O_RDONLY) {
        return Err(rustix::io::Errno::BADF);
    }
    // SAFETY: it is open (above), and by this function's contract nobody else in this program has it.
    let taken = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&taken, rustix::io::FdFlags::CLOEXEC)?;
    Ok(taken)
}
