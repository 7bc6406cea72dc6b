//! The runtime's file, held so that no container can write to it.
//!
//! The runtime refuses to enter a container from a file that could be written to through `/proc/PID/exe`, and executes itself anew from a
//! sealed mount ([`dhow_sys::sealed`]). Started from such a mount it need not, which saves an execution of every container.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A program, and where it is to be started from while this lives.
pub(crate) struct Handle {
    path: PathBuf,
    _file: Option<OwnedFd>,
}

impl Handle {
    /// A handle of the program; the program's own path where the kernel gives no such mount (the runtime protects itself then).
    pub(crate) fn new(program: &Path) -> Self {
        match dhow_sys::sealed::open(program) {
            Ok(file) => Self {
                // Closed by the execution, but only after it has been looked up.
                path: PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
                _file: Some(file),
            },
            Err(_) => Self {
                path: program.to_owned(),
                _file: None,
            },
        }
    }

    /// What to start.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
