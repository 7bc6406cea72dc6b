//! How a program begins: out of the reach of containers before the C library begins, and without what it does not need.

use std::sync::atomic::{AtomicBool, Ordering};

/// Makes `main` of a program (`#![no_main]`) of a function that gives the exit status.
///
/// Rust's own beginning reads /proc/self/maps and sets up a second stack and three handlers to say in words that the stack
/// overflowed; that is a twentieth of a short command's time. This one does what matters: standard streams that are closed
/// become /dev/null (what is opened next must not be taken for one), SIGPIPE is ignored, a panic's end is status 101, and
/// output is flushed.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        /// Where the C library's beginning hands over.
        #[unsafe(no_mangle)]
        pub extern "C" fn main(
            _: core::ffi::c_int,
            _: *const *const core::ffi::c_char,
        ) -> core::ffi::c_int {
            $crate::entry::run($main)
        }
    };
}

/// What [`program!`] does with its function.
pub fn run(main: fn() -> u8) -> ! {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    quick::end();
    if open_standard_streams().is_err() {
        crate::exec::exit_now(125);
    }
    crate::signal::ignore_broken_pipes();
    take_memory_in_large_pieces();
    let status = std::panic::catch_unwind(main).unwrap_or(101);
    // Flushes standard output, and runs what is registered to run at the end.
    std::process::exit(i32::from(status))
}

/// Lets the allocator ask the kernel seldom, and give nothing back: a command is short. What is not touched costs nothing.
fn take_memory_in_large_pieces() {
    #[cfg(target_env = "gnu")]
    // SAFETY: both parameters take any size; there is one thread.
    unsafe {
        libc::mallopt(libc::M_TOP_PAD, 1 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 20);
    }
}

/// Puts /dev/null where a standard stream is closed.
fn open_standard_streams() -> rustix::io::Result<()> {
    let mut fds = [0, 1, 2].map(|fd| libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    });
    // SAFETY: `fds` has the length that is given, and lives through the call.
    let answer = unsafe { libc::poll(fds.as_mut_ptr(), 3, 0) };
    crate::check(libc::c_long::from(answer))?;
    for stream in fds {
        if stream.revents & libc::POLLNVAL != 0 {
            // SAFETY: the path is null-terminated. The lowest free number is the stream's, since those below are open.
            let answer = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
            crate::check(libc::c_long::from(answer))?;
        }
    }
    Ok(())
}

/// Whether the entry point has found this process executed from a sealed mount.
static PROTECTED: AtomicBool = AtomicBool::new(false);

/// Whether this process is known to have been executed from where nobody can write. Where it is not known it may be so
/// nevertheless.
pub fn is_protected() -> bool {
    PROTECTED.load(Ordering::Relaxed)
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod first;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod quick;
