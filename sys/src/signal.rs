//! Signals: held back, read as data, and given back to the next program as it expects them.

use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Result;

/// A set of all signals, as the kernel has it: the C library keeps the first two real-time signals out of its sets.
static ALL_SIGNALS: u64 = u64::MAX;

/// Blocks all signals of this thread; they wait for [`signal_fd`].
///
/// # Errors
/// The kernel's.
pub fn block_all() -> Result<()> {
    // SAFETY: reads one set of the kernel's size, and gives no old one back.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const ALL_SIGNALS,
            std::ptr::null_mut::<u64>(),
            size_of_val(&ALL_SIGNALS),
        )
    };
    crate::check(answer).map(drop)
}

/// Lets a write to a pipe that nobody reads fail instead of ending the process.
pub fn ignore_broken_pipes() {
    // SAFETY: SIG_IGN is a valid disposition for it.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
}

/// Gives the next program a fresh start: no signal blocked, and none ignored of those that shells, `nohup`, test runners and our own
/// language ignore (execve resets handlers itself, but keeps what is ignored).
pub fn reset_all() {
    // HUP, INT, QUIT, PIPE, TERM, CHLD, TSTP, TTIN, TTOU, and the two that the C library keeps to itself.
    const BY_HABIT: [u32; 11] = [1, 2, 3, 13, 15, 17, 20, 21, 22, 32, 33];
    reset_ignored(
        BY_HABIT
            .iter()
            .fold(0, |set, number| set | 1 << (number - 1)),
    );
}

/// The same, where it is known which signals are ignored: bit N - 1 for signal N, as /proc/PID/status tells it.
pub fn reset_ignored(ignored: u64) {
    for number in (1..=64).filter(|number| ignored & (1 << (number - 1)) != 0) {
        // The kernel's struct sigaction: handler (SIG_DFL is 0), flags, restorer, mask.
        let default = [0u64; 4];
        // SAFETY: the kernel reads as much of `default` as its struct has, 32 bytes, and gives no old one back. By number, since
        // the C library refuses two of them.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            );
        }
    }
    // SAFETY: all zeros is a valid set, sigemptyset writes into one, sigprocmask reads it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}

/// Lets a command begin as [`reset_all`] leaves a program, whatever this process holds back or ignores.
pub fn reset_in_child(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec only async-signal-safe calls are made: signal and sigprocmask.
    unsafe {
        command.pre_exec(|| {
            reset_all();
            Ok(())
        });
    }
}

/// Blocks no signal of this thread: a program that is started inherits what its parent held back.
///
/// # Errors
/// The kernel's.
pub fn unblock_all() -> Result<()> {
    // SAFETY: all zeros is a valid set, sigemptyset writes into one, sigprocmask reads it.
    let answer = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut())
    };
    crate::check(libc::c_long::from(answer)).map(drop)
}

/// A descriptor from which all blocked signals are read (close-on-exec, non-blocking).
///
/// # Errors
/// The kernel's.
pub fn signal_fd() -> Result<OwnedFd> {
    // SAFETY: reads one set of the kernel's size and makes a new descriptor, which nobody else has.
    unsafe {
        let fd = crate::check(libc::syscall(
            libc::SYS_signalfd4,
            -1,
            &raw const ALL_SIGNALS,
            size_of_val(&ALL_SIGNALS),
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        ))?;
        Ok(OwnedFd::from_raw_fd(fd as libc::c_int))
    }
}

/// A signal that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub number: i32,
    /// Why it came: above 0 the kernel's own reasons, else a process sent it.
    pub code: i32,
    /// Who sent it, if a process did.
    pub sender: i32,
}

/// The next waiting signal; `None` when there is none.
///
/// # Errors
/// The kernel's.
pub fn read_signal(fd: &OwnedFd) -> Result<Option<Received>> {
    let mut buffer = [0u8; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(fd, &mut buffer) {
        // The first fields, 32 bits each: ssi_signo, ssi_errno, ssi_code, ssi_pid.
        Ok(read) if read >= 16 => {
            let field = |at: usize| {
                let mut bytes = [0u8; 4];
                bytes.copy_from_slice(&buffer[4 * at..4 * at + 4]);
                i32::from_ne_bytes(bytes)
            };
            Ok(Some(Received {
                number: field(0),
                code: field(2),
                sender: field(3),
            }))
        }
        Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(error) => Err(error),
    }
}

/// pidfd_send_signal(2) by number, so that real-time signals pass too.
///
/// # Errors
/// The kernel's; `ESRCH` when the process has ended.
pub fn send(pidfd: std::os::fd::BorrowedFd<'_>, signal: i32) -> Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: no siginfo is passed; the call touches no memory.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    crate::check(answer).map(drop)
}

/// kill(2) by number; a negative `pid` is a process group.
///
/// # Errors
/// The kernel's.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: kill takes two numbers.
    let answer = unsafe { libc::kill(pid, signal) };
    crate::check(libc::c_long::from(answer)).map(drop)
}
