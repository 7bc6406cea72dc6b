//! Attending a process to its end: signals pass on to it, its terminal is relayed, and its end cannot be missed, since
//! what tells of it was there before the process was.

use std::os::fd::{AsFd, OwnedFd};

use dhow_sys::signal::Received;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus};

use crate::error::Error;
use crate::notify::Notify;
use crate::terminal::Relay;

/// Made before the process.
#[derive(Debug)]
pub(crate) struct Foreground {
    signals: OwnedFd,
    /// Where the process may say that it is ready.
    notify: Option<Notify>,
}

const SIGPIPE: i32 = 13;
const SIGCHLD: i32 = 17;
const SIGWINCH: i32 = 28;

impl Foreground {
    /// Holds signals back, for passing them on.
    pub(crate) fn prepare() -> Result<Self, Error> {
        let error = |errno| Error::system("hold signals back", errno);
        dhow_sys::signal::block_all().map_err(error)?;
        let signals = dhow_sys::signal::signal_fd().map_err(error)?;
        Ok(Self {
            signals,
            notify: None,
        })
    }

    /// The same for a process that may say that it is ready.
    pub(crate) fn with(self, notify: Option<Notify>) -> Self {
        Self { notify, ..self }
    }

    /// Waits for the process's end; gives its exit status (128 + N for signal N).
    pub(crate) fn attend(
        &mut self,
        pidfd: &OwnedFd,
        console: Option<OwnedFd>,
    ) -> Result<u8, Error> {
        let error = |errno| Error::system("wait for the container's process", errno);
        let mut relay = match console {
            Some(master) => Some(Relay::new(master)?),
            None => None,
        };
        loop {
            let mut fds = vec![
                PollFd::new(pidfd, PollFlags::IN),
                PollFd::new(&self.signals, PollFlags::IN),
            ];
            // Its end is told by what comes before it, so this is last.
            if let Some(relay) = &relay {
                relay.poll_for(&mut fds);
            }
            if let Some(notify) = &self.notify {
                fds.push(PollFd::new(notify, PollFlags::IN));
            }
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(error(errno)),
            }
            let ended = !fds[0].revents().is_empty();
            let signalled = !fds[1].revents().is_empty();
            drop(fds);
            self.hear_that_it_is_ready();
            if signalled {
                self.pass_on(pidfd, relay.as_ref());
            }
            if let Some(relay) = &mut relay {
                relay.turn();
            }
            if ended {
                let id = WaitId::PidFd(pidfd.as_fd());
                let status = rustix::process::waitid(id, WaitIdOptions::EXITED).map_err(error)?;
                if let Some(relay) = &mut relay {
                    relay.drain(&self.signals, || {
                        let signal = dhow_sys::signal::read_signal(&self.signals);
                        matches!(signal, Ok(Some(signal)) if asks_for_the_end(&signal))
                    });
                }
                return Ok(status.as_ref().map_or(255, exit_status));
            }
        }
    }

    /// systemd watches this process, whose end is the container's.
    fn hear_that_it_is_ready(&mut self) {
        let Some(notify) = &self.notify else {
            return;
        };
        let own = rustix::process::getpid().as_raw_nonzero().get();
        match notify.pass_on(own) {
            Ok(false) => {}
            // Once is enough.
            Ok(true) => self.notify = None,
            Err(error) => {
                crate::log::warn(&error.to_string());
                self.notify = None;
            }
        }
    }

    fn pass_on(&self, pidfd: &OwnedFd, relay: Option<&Relay>) {
        // The next one is told by the next poll.
        if let Ok(Some(signal)) = dhow_sys::signal::read_signal(&self.signals) {
            match (signal.number, relay) {
                // Ours: a child's end is told by its descriptor, and a broken pipe by the write.
                _ if is_own(&signal) => {}
                (SIGWINCH, Some(relay)) => relay.resize(),
                (number, _) => {
                    // It may just have ended.
                    let _ = dhow_sys::signal::send(pidfd.as_fd(), number);
                }
            }
        }
    }
}

/// Whether a signal is about this process's own doing, and not for the container.
fn is_own(signal: &Received) -> bool {
    match signal.number {
        SIGCHLD => signal.code > 0,
        SIGPIPE => i64::from(signal.sender) == i64::from(std::process::id()),
        _ => false,
    }
}

/// Whether a person wants this process to end.
fn asks_for_the_end(signal: &Received) -> bool {
    const SIGHUP: i32 = 1;
    const SIGINT: i32 = 2;
    const SIGQUIT: i32 = 3;
    const SIGTERM: i32 = 15;
    matches!(signal.number, SIGHUP | SIGINT | SIGQUIT | SIGTERM)
}

/// The status that a shell would give.
pub(crate) fn exit_status(status: &WaitIdStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    };
    u8::try_from(code & 0xff).unwrap_or(255)
}
