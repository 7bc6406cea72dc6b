//! In the foreground: a person's terminal and signals on one side, a container on the other, until it ends.

use std::os::fd::{AsFd, BorrowedFd};

use dhow_supervise::{Channel, Exit, Report, Request};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::io::Errno;

use crate::relay::Relay;
use crate::{Engine, EngineError, Session};

/// The caller's own descriptors.
#[derive(Clone, Copy, Debug)]
pub struct StandardStreams<'a> {
    /// What is passed to the container; none when it reads nothing from here.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Where the container's standard output goes; with a terminal all its output.
    pub stdout: BorrowedFd<'a>,
    /// Where its standard error goes.
    pub stderr: BorrowedFd<'a>,
    /// The terminal whose size the container's terminal follows.
    pub terminal: Option<BorrowedFd<'a>>,
}

/// How a foreground session ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// The container's process ended.
    Exited(Exit),
    /// The person has had enough; the container goes on.
    Left,
}

/// The signals that are passed on. From here on they are held back in this process and read as data.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Takes hold of the signals that a person or a supervisor sends to a program; before other threads start.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take() -> Result<Self, EngineError> {
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGALRM,
            Signal::SIGTERM,
            Signal::SIGCONT,
            Signal::SIGWINCH,
        ] {
            set.add(signal);
        }
        let failed = |errno: nix::errno::Errno| EngineError::System {
            doing: "taking hold of signals".into(),
            source: Errno::from_raw_os_error(errno as i32),
        };
        set.thread_block().map_err(failed)?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(failed)?;
        Ok(Self { fd })
    }

    /// The next signal that has come; none when there is none.
    pub(crate) fn next(&self) -> Option<i32> {
        let info = self.fd.read_signal().ok()??;
        i32::try_from(info.ssi_signo).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What of a process in a container is watched and spoken to.
pub(crate) trait Remote {
    /// What to wait for.
    fn descriptor(&self) -> BorrowedFd<'_>;
    /// Something is to be heard; gives the end when it is one.
    fn hear(&mut self) -> Result<Option<Exit>, EngineError>;
    /// Passes a signal on.
    fn signal(&self, signal: i32);
}

/// A container, through its monitor.
struct Monitored<'a> {
    channel: &'a Channel,
    name: &'a str,
}

impl Remote for Monitored<'_> {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    fn hear(&mut self) -> Result<Option<Exit>, EngineError> {
        let word = self
            .channel
            .receive::<Report>()
            .map_err(EngineError::system("hearing from the monitor"))?;
        match word.map(|word| word.message) {
            Some(Report::Exited { exit, .. }) => Ok(Some(exit)),
            Some(Report::Ended) => Ok(Some(unknown())),
            Some(_) => Ok(None),
            None => Err(EngineError::MonitorDied(self.name.to_owned())),
        }
    }

    fn signal(&self, signal: i32) {
        let request = Request::Signal {
            container: None,
            signal,
        };
        // Who has ended in the meantime needs no signal.
        let _ = self.channel.send(&request, &[]);
    }
}

fn unknown() -> Exit {
    Exit::failed(dhow_supervise::UNKNOWN_EXIT, "its end was not seen")
}

impl Engine {
    /// Stays with a started container until it ends, and removes it then if that was asked for.
    ///
    /// # Errors
    /// When its monitor dies, or it cannot be removed.
    pub fn foreground(
        &self,
        mut session: Session,
        own: StandardStreams<'_>,
        signals: &Signals,
    ) -> Result<Ending, EngineError> {
        let name = session.spec.name.to_string();
        let mut remote = Monitored {
            channel: &session.channel,
            name: &name,
        };
        let ended = Relay::new(&mut session.streams, own)?.run(&mut remote, signals);
        let ending = match ended {
            Ok(ending) => ending,
            Err(EngineError::MonitorDied(_)) => {
                let _ = session.monitor.wait();
                return self.after_a_dead_monitor(&session);
            }
            Err(error) => return Err(error),
        };
        if let Ending::Exited(_) = ending {
            if session.spec.auto_remove {
                // While the runtime removes what it keeps; under the lock that the monitor holds until it hears that this is done.
                self.remove_roots(&session.spec)?;
            }
            session.await_end()?;
            if session.spec.auto_remove {
                self.remove_all(&session.spec)?;
            }
            let _ = session.channel.send(&Request::Cleaned, &[]);
            let _ = session.monitor.wait();
        }
        Ok(ending)
    }

    /// Whoever sees that a monitor was killed ends what it held.
    fn after_a_dead_monitor(&self, session: &Session) -> Result<Ending, EngineError> {
        let spec = &session.spec;
        let lock = dhow_supervise::PodLock::wait_and_take(&self.files(&spec.id).lock())?;
        self.settle(spec, &lock)?;
        if spec.auto_remove {
            self.remove_all(spec)?;
        }
        Err(EngineError::MonitorDied(spec.name.to_string()))
    }
}
