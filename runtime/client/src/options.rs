//! What a caller may ask when a process is started.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The three descriptors that a container's process begins with; `None` is the caller's own.
#[derive(Debug, Default)]
pub struct Stdio3 {
    /// Standard input.
    pub stdin: Option<OwnedFd>,
    /// Standard output.
    pub stdout: Option<OwnedFd>,
    /// Standard error.
    pub stderr: Option<OwnedFd>,
}

/// How to create a container, or to run it from creation on.
#[derive(Debug, Default)]
pub struct CreateOptions {
    /// Where to write the process id of its init.
    pub pid_file: Option<PathBuf>,
    /// The unix socket that receives the master end of its terminal.
    pub console_socket: Option<PathBuf>,
    /// What its process reads and writes.
    pub stdio: Stdio3,
    /// How many descriptors after the first three its process inherits; the caller has them at these numbers, not
    /// close-on-exec.
    pub preserve_fds: u32,
}

/// How to execute a process in a container.
#[derive(Debug, Default)]
pub struct ExecOptions {
    /// Return when the process has begun.
    pub detach: bool,
    /// Where to write its process id.
    pub pid_file: Option<PathBuf>,
    /// The unix socket that receives the master end of its terminal.
    pub console_socket: Option<PathBuf>,
    /// What it reads and writes.
    pub stdio: Stdio3,
    /// How many descriptors after the first three it inherits.
    pub preserve_fds: u32,
}
