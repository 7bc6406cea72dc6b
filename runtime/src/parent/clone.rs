//! Making init, or the process that makes it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use dhow_sys::clone::{CloneOptions, Cloned, clone_process};
use dhow_sys::namespace;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions};

use super::{Made, Parent};
use crate::cgroup::{Cgroup, Joiner};
use crate::channel::{Channel, Message};
use crate::error::Error;
use crate::init::{Init, StepError};
use crate::plan::{Carrier, InitPlan, Step};

impl Parent<'_> {
    /// Makes the next process. Only the parent comes back from here.
    pub(super) fn clone_init(&mut self, namespaces: u64) -> Result<(), Error> {
        let (ours, theirs) =
            Channel::pair().map_err(|errno| Error::system("make a channel", errno))?;
        self.channel = Some(ours);
        if let Some(cgroup) = &self.cgroup {
            self.resources.joiner = Some(cgroup.join_below(&self.sub_cgroups)?);
        }
        let between = self.plan.of(Carrier::Intermediate).next().is_some();
        let back = self.enter_pid_namespace()?;
        // As pid 1 there is no parent to give it to.
        let sibling = self.detached && !between && std::process::id() != 1;
        let cloned = self.clone_into_cgroup(namespaces, sibling)?;
        match cloned {
            Cloned::Child => {
                // The parent's end must close when the parent does, and so must its lock on the container.
                self.channel = None;
                self.dir = None;
                // The host's cgroup directories are no business of who is in the container.
                self.cgroup = None;
                self.resources.channel = Some(theirs);
                let mut resources = std::mem::take(&mut self.resources);
                resources.first_foreign = self.plan.first_closed();
                let init = Init::new(resources);
                if between {
                    intermediate(self.plan, init)
                }
                init.run(self.plan)
            }
            Cloned::Parent { pid, pidfd } => {
                match self.resources.joiner.take() {
                    Some(joiner) => joiner.close_with(theirs.into_fd()),
                    None => drop(theirs),
                }
                self.leave_pid_namespace(back)?;
                self.resources = crate::init::Resources {
                    cgroup: self.resources.cgroup.take(),
                    ..Default::default()
                };
                if between {
                    return self.await_init(&pidfd);
                }
                self.remember(Made {
                    pid: pid.as_raw_nonzero().get(),
                    pidfd,
                });
                Ok(())
            }
        }
    }

    /// Makes a process in the container's v2 cgroup; where the container has divided that, so that nobody can be at its top any
    /// more, beside the container's init.
    fn clone_into_cgroup(&mut self, namespaces: u64, sibling: bool) -> Result<Cloned, Error> {
        let clone = |joiner: Option<&Joiner>| {
            clone_process(&CloneOptions {
                namespaces,
                sibling,
                cgroup: joiner.and_then(Joiner::v2),
            })
        };
        let failed = |errno| cannot_make(namespaces, errno);
        match clone(self.resources.joiner.as_ref()) {
            Err(Errno::BUSY) if !self.records && self.sub_cgroups.is_empty() => {}
            Err(Errno::OPNOTSUPP) if self.records => {
                if let Some(cgroup) = &self.cgroup {
                    cgroup.go_threaded()?;
                }
                return clone(self.resources.joiner.as_ref()).map_err(failed);
            }
            Err(Errno::ACCESS | Errno::PERM)
                if self.cgroup.as_ref().is_some_and(Cgroup::is_systemds) =>
            {
                return self.clone_and_attach(namespaces, sibling);
            }
            other => return other.map_err(failed),
        }
        if let Some(cgroup) = &self.cgroup {
            self.resources.joiner = Some(cgroup.join_beside(self.record.pid)?);
        }
        clone(self.resources.joiner.as_ref()).map_err(failed)
    }

    /// Makes a process that systemd puts into the container's scope: a user may not, from outside of what the user's own systemd
    /// manages. It does nothing before it is there.
    fn clone_and_attach(&mut self, namespaces: u64, sibling: bool) -> Result<Cloned, Error> {
        let failed = |errno| cannot_make(namespaces, errno);
        let (gate, held) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed)?;
        let cloned = clone_process(&CloneOptions {
            namespaces,
            sibling,
            cgroup: None,
        });
        match cloned.map_err(failed)? {
            Cloned::Child => {
                drop(held);
                let mut byte = [0];
                loop {
                    match rustix::io::read(&gate, &mut byte) {
                        Ok(1) => return Ok(Cloned::Child),
                        Err(Errno::INTR) => {}
                        // It is not to be in the scope, and so not to be.
                        _ => dhow_sys::exec::exit_now(1),
                    }
                }
            }
            Cloned::Parent { pid, pidfd } => {
                if let Some(cgroup) = &self.cgroup {
                    cgroup.attach(pid.as_raw_nonzero().get())?;
                }
                rustix::io::write(&held, b"+").map_err(failed)?;
                Ok(Cloned::Parent { pid, pidfd })
            }
        }
    }

    /// Lets the next child begin in another pid namespace; gives the way back.
    fn enter_pid_namespace(&self) -> Result<Option<OwnedFd>, Error> {
        let Some(fd) = &self.pid_namespace else {
            return Ok(None);
        };
        let what = |errno| Error::system("enter the pid namespace", errno);
        let own = Path::new("/proc/self/ns/pid");
        let back =
            rustix::fs::open(own, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(what)?;
        namespace::enter(fd.as_fd(), namespace::PID).map_err(what)?;
        Ok(Some(back))
    }

    /// Later children (hooks) begin in this process's own again.
    fn leave_pid_namespace(&self, back: Option<OwnedFd>) -> Result<(), Error> {
        match back {
            Some(own) => namespace::enter(own.as_fd(), namespace::PID)
                .map_err(|errno| Error::system("leave the pid namespace", errno)),
            None => Ok(()),
        }
    }

    /// Waits for the intermediate to make init and to end.
    fn await_init(&mut self, intermediate: &OwnedFd) -> Result<(), Error> {
        let mut failed = None;
        let made = loop {
            match self.hear_while_there(intermediate)? {
                Some(Message::Init(pid, pidfd)) => break Some(Made { pid, pidfd }),
                Some(Message::Failed(error)) => failed = Some(error),
                // Init may have been faster than who made it.
                Some(message) => self.early.push(message),
                None => break None,
            }
        };
        let _ = rustix::process::waitid(WaitId::PidFd(intermediate.as_fd()), WaitIdOptions::EXITED);
        let is_made = made.is_some();
        if let Some(made) = made {
            self.remember(made);
        }
        match failed {
            Some(error) => Err(error.into()),
            None if is_made => Ok(()),
            None => Err(self.died()),
        }
    }
}

impl Parent<'_> {
    /// The next message; none when the intermediate has ended without one, though an init that it made may hold the channel.
    fn hear_while_there(&self, intermediate: &OwnedFd) -> Result<Option<Message>, Error> {
        let error = |errno| Error::system("hear from the intermediate process", errno);
        let channel = self.channel()?;
        let heard = loop {
            let mut fds = [
                PollFd::from_borrowed_fd(channel.fd(), PollFlags::IN),
                PollFd::new(intermediate, PollFlags::IN),
            ];
            match rustix::event::poll(&mut fds, None) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(error(errno)),
                Ok(_) => break !fds[0].revents().is_empty(),
            }
        };
        match heard {
            true => channel.receive().map_err(error),
            false => Ok(None),
        }
    }
}

/// What to do when the kernel does not make the process.
fn cannot_make(namespaces: u64, errno: Errno) -> Error {
    let own_user = namespaces & namespace::USER != 0;
    let hint = match errno {
        Errno::PERM if own_user => {
            " (this host or container allows no new user namespaces: see its sysctls kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns, or the filter of system calls)"
        }
        Errno::PERM => {
            " (without privileges it takes a user namespace of the container's own: add one to linux.namespaces, with linux.uidMappings and linux.gidMappings, as in spec --rootless)"
        }
        // The kernel's word for a limit on namespaces, and for a depth of them.
        Errno::NOSPC | Errno::USERS => {
            " (too many namespaces: see the sysctls user.max_*_namespaces)"
        }
        _ => "",
    };
    Error::system(format!("make the container's process{hint}"), errno)
}

/// The intermediate's steps: enters namespaces, and makes init from there. Both it and
/// init go on from here.
fn intermediate(plan: &InitPlan, mut init: Init) -> ! {
    // As in init: modes are given in full.
    rustix::process::umask(rustix::fs::Mode::empty());
    let mut made = None;
    for step in plan.of(Carrier::Intermediate) {
        let done = match step {
            Step::Clone { namespaces } => {
                let options = CloneOptions {
                    namespaces: *namespaces,
                    // The parent's child: this process ends at once.
                    sibling: true,
                    cgroup: None,
                };
                match clone_process(&options) {
                    Ok(Cloned::Child) => init.run(plan),
                    Ok(Cloned::Parent { pid, pidfd }) => {
                        made = Some((pid.as_raw_nonzero().get(), pidfd));
                        Ok(())
                    }
                    Err(errno) => Err(StepError::system("make the container's process", errno)),
                }
            }
            other => init.step(other),
        };
        if let Err(error) = done {
            init.tell(&Message::Failed(error.in_step(step)));
            dhow_sys::exec::exit_now(1);
        }
    }
    if let Some((pid, pidfd)) = made {
        init.tell(&Message::Init(pid, pidfd));
    }
    dhow_sys::exec::exit_now(0)
}
