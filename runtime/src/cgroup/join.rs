//! How a process joins a container's cgroup.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The descriptors through which a process joins.
///
/// Joining by `cgroup.procs` costs milliseconds on an idle machine, since the kernel then waits for every processor; a
/// thread that writes `0` to a v1 `tasks` file, and a process born in its v2 cgroup, cost a tenth of one.
#[derive(Debug)]
pub struct Joiner {
    pub(super) v2: Option<OwnedFd>,
    pub(super) tasks: Vec<OwnedFd>,
}

impl Joiner {
    /// The v2 cgroup's directory, for CLONE_INTO_CGROUP; none where there is no v2 tree.
    pub fn v2(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(AsFd::as_fd)
    }

    /// Moves the calling thread, the only one of its process, into every v1 hierarchy. Async-signal-safe.
    ///
    /// # Errors
    /// The kernel's.
    pub fn join_self(&self) -> io::Result<()> {
        for tasks in &self.tasks {
            rustix::io::write(tasks, b"0")?;
        }
        Ok(())
    }
}
