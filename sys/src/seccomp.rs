//! seccomp(2): a filter of the calling thread's system calls.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::Result;

use crate::check;

/// One instruction of a classic BPF program (`struct sock_filter`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions a jump skips when its test holds.
    pub when_true: u8,
    /// How many it skips when it does not.
    pub when_false: u8,
    /// The operand.
    pub operand: u32,
}

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: the call gives a descriptor on which calls are asked about.
pub const NEW_LISTENER: u32 = 1 << 3;

/// Puts a filter on the calling thread for good; with [`NEW_LISTENER`] in `flags`, gives the listener (close-on-exec).
///
/// Async-signal-safe. The thread must have no_new_privs set or CAP_SYS_ADMIN in its user namespace.
///
/// # Errors
/// The kernel's: `EACCES` without either of these, `EINVAL` for a program or flag that it does not take.
pub fn install_filter(program: &[Instruction], flags: u32) -> Result<Option<OwnedFd>> {
    let Ok(len) = u16::try_from(program.len()) else {
        return Err(rustix::io::Errno::INVAL);
    };
    let program = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: Instruction has the layout of sock_filter, and the kernel only reads `len` of them.
    let answer = check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    })?;
    if flags & NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: with this flag the answer is a new descriptor that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(answer as RawFd) }))
}

/// Whether the kernel knows an action (`SECCOMP_RET_*` without data).
///
/// # Errors
/// The kernel's; `EOPNOTSUPP` is given as `false`.
pub fn action_available(action: u32) -> Result<bool> {
    // SAFETY: the kernel reads one u32 from this address.
    let answer = check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            &raw const action,
        )
    });
    match answer {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(false),
        Err(other) => Err(other),
    }
}
