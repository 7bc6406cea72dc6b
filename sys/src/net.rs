//! Network interfaces.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Result;

/// Brings the loopback interface of the calling process's network namespace up, by any socket made in that namespace.
///
/// # Errors
/// The kernel's.
pub fn loopback_up(socket: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: all zeros is a valid `ifreq`: an empty name and no flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    // A new namespace's loopback has the flag IFF_LOOPBACK, which cannot be changed; UP and RUNNING is what `ip` sets.
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which lives through the call.
    let answer = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            std::ptr::from_ref(&request),
        )
    };
    crate::check(libc::c_long::from(answer)).map(drop)
}
