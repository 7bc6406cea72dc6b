//! Paths of the host's that init may not reach: in a user namespace, root is nobody in a directory that only the host's root may
//! enter. Who makes the container may, and opens them for it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use dhow_sys::clone::{CloneOptions, Cloned, clone_process};
use dhow_sys::namespace;
use rustix::fs::{Mode, OFlags};
use rustix::process::{WaitId, WaitIdOptions};

use super::Parent;
use crate::channel::Message;
use crate::error::Error;
use crate::init::StepError;
use crate::plan::{Carrier, MountSource, Step};

impl Parent<'_> {
    /// Opens a path that the plan names in init's mount namespace, and sends what is there to init.
    ///
    /// It is opened there, by a process for this alone, and not here: of a mount of another namespace, init's could be made
    /// without the flags that the host has locked.
    pub(super) fn open_source(&self, path: &Path) -> Result<(), Error> {
        let error = |errno| Error::system(format!("open {} for init", path.display()), errno);
        let channel = self.channel()?;
        let answer = match self.is_planned(path) {
            true => match clone_process(&CloneOptions::default()).map_err(error)? {
                Cloned::Child => {
                    let answer = match self.open_beside_init(path) {
                        Ok(source) => Message::Source(source),
                        Err(errno) => Message::Failed(StepError::system("", errno)),
                    };
                    let sent = channel.send(&answer).is_ok();
                    dhow_sys::exec::exit_now(i32::from(!sent))
                }
                Cloned::Parent { pidfd, .. } => {
                    let id = WaitId::PidFd(pidfd.as_fd());
                    let ended = rustix::process::waitid(id, WaitIdOptions::EXITED);
                    let sent = ended.map_err(error)?;
                    if sent.is_some_and(|status| status.exit_status() == Some(0)) {
                        return Ok(());
                    }
                    "the process that was to open it was killed"
                }
            },
            false => "it is not in the configuration",
        };
        let refused = Message::Failed(StepError::other(answer));
        channel.send(&refused).map_err(error)
    }

    fn is_planned(&self, wanted: &Path) -> bool {
        self.plan.of(Carrier::Init).any(|step| match step {
            Step::BindRoot { path } => path == wanted,
            Step::Mount {
                source: MountSource::Bind(path),
                ..
            } => path == wanted,
            _ => false,
        })
    }

    fn open_beside_init(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let init = self.made.as_ref().ok_or(rustix::io::Errno::SRCH)?;
        namespace::enter(init.pidfd.as_fd(), namespace::MOUNT)?;
        rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
    }
}
