//! The typed kernel calls that nix and rustix lack.
//!
//! The only crate in which `unsafe` stands: one function per call, each with the reason why it is sound.

pub mod bpf;
pub mod clone;
pub mod descriptor;
pub mod entry;
pub mod exec;
pub mod mount;
pub mod namespace;
pub mod net;
pub mod path;
pub mod process;
pub mod sealed;
pub mod seccomp;
pub mod signal;
pub mod user_namespace;
pub mod writeback;

use rustix::io::Errno;

/// Turns a raw system call's answer into a result.
fn check(answer: libc::c_long) -> rustix::io::Result<libc::c_long> {
    if answer == -1 {
        return Err(last_error());
    }
    Ok(answer)
}

/// The calling thread's `errno`.
fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
