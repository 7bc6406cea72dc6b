//! The person's terminal, and what a foreground container sees of it.

use std::io::{IsTerminal, Stderr, Stdin, Stdout};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::ensure;
use dhow_engine::StandardStreams;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// This process's three streams.
pub(crate) struct OwnStreams {
    stdin: Stdin,
    stdout: Stdout,
    stderr: Stderr,
    interactive: bool,
}

impl OwnStreams {
    /// The streams, of which the container reads only when it is `interactive`.
    pub(crate) fn new(interactive: bool) -> Self {
        Self {
            stdin: std::io::stdin(),
            stdout: std::io::stdout(),
            stderr: std::io::stderr(),
            interactive,
        }
    }

    /// Refuses a terminal for a container whose input comes from elsewhere.
    pub(crate) fn check(&self, tty: bool) -> anyhow::Result<()> {
        ensure!(
            !(tty && self.interactive) || self.stdin.is_terminal(),
            "standard input is not a terminal; leave -t out"
        );
        Ok(())
    }

    pub(crate) fn for_engine(&self) -> StandardStreams<'_> {
        let terminal = if self.stdout.is_terminal() {
            Some(self.stdout.as_fd())
        } else {
            Some(self.stdin.as_fd()).filter(|_| self.stdin.is_terminal())
        };
        StandardStreams {
            stdin: self.interactive.then(|| self.stdin.as_fd()),
            stdout: self.stdout.as_fd(),
            stderr: self.stderr.as_fd(),
            terminal,
        }
    }

    /// Lets every key pass until the answer is dropped, where the container has a terminal and reads from this one.
    pub(crate) fn raw(&self, tty: bool) -> anyhow::Result<Option<RawMode>> {
        if !(tty && self.interactive && self.stdin.is_terminal()) {
            return Ok(None);
        }
        let terminal = self.stdin.as_fd().try_clone_to_owned()?;
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Drain, &raw)?;
        Ok(Some(RawMode { terminal, before }))
    }
}

/// A terminal that passes every key on; dropping it makes it as it was.
pub(crate) struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// Runs something while what a person types at standard input is not shown.
pub(crate) fn without_echo<R>(work: impl FnOnce() -> R) -> anyhow::Result<R> {
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin)?;
    let mut silent = before.clone();
    silent.local_modes.remove(rustix::termios::LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Now, &silent)?;
    let result = work();
    tcsetattr(&stdin, OptionalActions::Now, &before)?;
    Ok(result)
}
