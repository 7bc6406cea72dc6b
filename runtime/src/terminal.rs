//! Between a person's terminal and a container's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios};

use crate::error::Error;

/// Carries bytes both ways. While it lives, the person's terminal is raw: keys pass as they are.
#[derive(Debug)]
pub(crate) struct Relay {
    master: OwnedFd,
    /// How the person's terminal was before.
    saved: Option<Termios>,
    /// What was typed and not yet taken by the container.
    typed: Vec<u8>,
    /// Whether there may be more to type.
    input: bool,
    /// Whether there may be more to show.
    output: bool,
}

impl Relay {
    pub(crate) fn new(master: OwnedFd) -> Result<Self, Error> {
        let error = |errno| Error::system("set up the terminal", errno);
        let flags = rustix::fs::fcntl_getfl(&master).map_err(error)?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK).map_err(error)?;
        let stdin = rustix::stdio::stdin();
        let saved = rustix::termios::tcgetattr(stdin).ok();
        if let Some(saved) = &saved {
            let mut raw = saved.clone();
            raw.make_raw();
            rustix::termios::tcsetattr(stdin, OptionalActions::Now, &raw).map_err(error)?;
        }
        let relay = Self {
            master,
            saved,
            typed: Vec::new(),
            input: true,
            output: true,
        };
        relay.resize();
        Ok(relay)
    }

    /// Gives the container's terminal the size of the person's.
    pub(crate) fn resize(&self) {
        // A standard input that is no terminal has no size to give.
        if let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
            let _ = rustix::termios::tcsetwinsize(&self.master, size);
        }
    }

    /// What to wait for.
    pub(crate) fn poll_for<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let mut flags = PollFlags::empty();
        if self.output {
            flags |= PollFlags::IN;
        }
        if !self.typed.is_empty() {
            flags |= PollFlags::OUT;
        }
        if !flags.is_empty() {
            fds.push(PollFd::from_borrowed_fd(self.master.as_fd(), flags));
        }
        if self.input && self.typed.is_empty() {
            fds.push(PollFd::from_borrowed_fd(
                rustix::stdio::stdin(),
                PollFlags::IN,
            ));
        }
    }

    /// Carries what there is, one turn each way.
    pub(crate) fn turn(&mut self) {
        if self.output {
            self.show();
        }
        if self.input && self.typed.is_empty() && readable(rustix::stdio::stdin()) {
            let mut buffer = [0u8; 4096];
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
                Ok(0) => {
                    self.input = false;
                    // End of file, as a terminal says it.
                    self.typed.push(4);
                }
                Ok(read) => self.typed.extend_from_slice(&buffer[..read]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => self.input = false,
            }
        }
        if !self.typed.is_empty() {
            match rustix::io::write(&self.master, &self.typed) {
                Ok(written) => drop(self.typed.drain(..written)),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => {
                    self.typed.clear();
                    self.input = false;
                }
            }
        }
    }

    /// Shows what is left when the process has ended.
    pub(crate) fn drain(&mut self) {
        while self.output && readable(self.master.as_fd()) {
            self.show();
        }
    }

    fn show(&mut self) {
        let mut buffer = [0u8; 16384];
        match rustix::io::read(&self.master, &mut buffer) {
            Ok(0) => self.output = false,
            Ok(read) => {
                let mut left = &buffer[..read];
                while !left.is_empty() {
                    match rustix::io::write(rustix::stdio::stdout(), left) {
                        Ok(written) => left = &left[written..],
                        Err(Errno::INTR) => {}
                        // Nobody looks any more; what the container writes is taken all the same.
                        Err(_) => break,
                    }
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            // EIO: nobody has the other end open.
            Err(_) => self.output = false,
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            let stdin = rustix::stdio::stdin();
            let _ = rustix::termios::tcsetattr(stdin, OptionalActions::Now, saved);
        }
    }
}

/// Whether a read would not wait.
fn readable(fd: BorrowedFd<'_>) -> bool {
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(ready) if ready > 0)
}
