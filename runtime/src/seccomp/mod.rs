//! A seccomp profile to a program for the kernel, made here without libseccomp.

use dhow_sys::seccomp::Instruction;
use oci_spec::runtime::LinuxSeccomp;

/// A filter that can be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// For `dhow_sys::seccomp::install_filter`.
    pub instructions: Vec<Instruction>,
    /// Its flags, with `NEW_LISTENER` when the profile asks somebody about calls.
    pub flags: u32,
}

/// A profile that cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// An architecture whose system calls are not known.
    #[error(
        "the seccomp profile names the architecture {0}, which dhow does not know; remove it from the profile"
    )]
    Architecture(String),
    /// An argument that does not exist.
    #[error(
        "the seccomp rule for {syscall} looks at argument {index}; a system call has arguments 0 to 5"
    )]
    Argument {
        /// The call.
        syscall: String,
        /// The argument.
        index: usize,
    },
    /// An errno that does not fit.
    #[error("the seccomp rule for {syscall} answers with errno {errno}; the largest is 4095")]
    Errno {
        /// The call, or "all others".
        syscall: String,
        /// The number.
        errno: u32,
    },
    /// A profile in which somebody is asked about a call that is needed to tell him.
    #[error(
        "the seccomp profile asks about {0}, which the runtime itself needs to hand over the listener"
    )]
    Notify(&'static str),
    /// A listener that nobody was named for.
    #[error("the seccomp profile has SCMP_ACT_NOTIFY but no listenerPath")]
    NoListener,
    /// Too long for the kernel.
    #[error("the seccomp profile needs {0} instructions; the kernel takes 4096")]
    TooLong(usize),
}

/// Compiles a profile for the host's architectures; with what the kernel is told beside it.
///
/// # Errors
/// When the profile cannot be.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Program, SeccompError> {
    let _ = seccomp;
    todo!("next landing")
}
