//! A process that holds a scope until the container's own is in it: systemd makes no scope without one, and the limits are to be
//! there before the container's process is.

use std::os::fd::{AsFd, OwnedFd};

use dhow_sys::clone::{CloneOptions, Cloned, clone_process};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{WaitId, WaitIdOptions};

/// The process. It ends when this does, or when its maker does.
#[derive(Debug)]
pub(in crate::cgroup) struct Anchor {
    pid: u32,
    process: OwnedFd,
    /// The other end of what it reads from.
    held: Option<OwnedFd>,
    maker: u32,
}

impl Anchor {
    /// Makes it.
    pub(in crate::cgroup) fn new() -> rustix::io::Result<Self> {
        let (theirs, ours) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        match clone_process(&CloneOptions::default())? {
            Cloned::Child => {
                drop(ours);
                let mut byte = [0];
                while rustix::io::read(&theirs, &mut byte) == Err(Errno::INTR) {}
                dhow_sys::exec::exit_now(0)
            }
            Cloned::Parent { pid, pidfd } => Ok(Self {
                pid: pid.as_raw_nonzero().get().unsigned_abs(),
                process: pidfd,
                held: Some(ours),
                maker: std::process::id(),
            }),
        }
    }

    /// Its id.
    pub(in crate::cgroup) fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        drop(self.held.take());
        // A copy of this that a clone took with it only lets go.
        if self.maker == std::process::id() {
            let _ =
                rustix::process::waitid(WaitId::PidFd(self.process.as_fd()), WaitIdOptions::EXITED);
        }
    }
}
