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
    /// What the container wrote and was not yet shown.
    shown: Vec<u8>,
    /// Whether there may be more to show.
    output: bool,
    /// Standard output, where a write that would wait can be told from one that would not.
    screen: Option<OwnedFd>,
}

/// How much is shown at most when the container's process has ended: all that a terminal can hold, and no more, since others
/// may still write to it.
const LEFT: usize = 1 << 20;

/// Standard output, opened anew so that a write which would wait fails instead. Only pipes and terminals make one wait.
fn reopen_screen() -> Option<OwnedFd> {
    use rustix::fs::FileType;
    let stat = rustix::fs::fstat(rustix::stdio::stdout()).ok()?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo | FileType::CharacterDevice => {}
        _ => return None,
    }
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open("/proc/self/fd/1", flags, rustix::fs::Mode::empty()).ok()
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
            shown: Vec::new(),
            output: true,
            screen: reopen_screen(),
        };
        relay.resize();
        Ok(relay)
    }

    /// Gives the container's terminal the size of the person's.
    pub(crate) fn resize(&self) {
        // What is no terminal has no size to give.
        let standard = [
            rustix::stdio::stdin(),
            rustix::stdio::stdout(),
            rustix::stdio::stderr(),
        ];
        let mut sizes = standard.iter().map(rustix::termios::tcgetwinsize);
        if let Some(Ok(size)) = sizes.find(Result::is_ok) {
            let _ = rustix::termios::tcsetwinsize(&self.master, size);
        }
    }

    /// What to wait for.
    pub(crate) fn poll_for<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let mut flags = PollFlags::empty();
        if self.output && self.shown.is_empty() {
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
        if !self.shown.is_empty() {
            fds.push(PollFd::from_borrowed_fd(self.screen(), PollFlags::OUT));
        }
    }

    /// Carries what there is, one turn each way.
    pub(crate) fn turn(&mut self) {
        if self.output && self.shown.is_empty() {
            self.take();
        }
        self.show();
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

    fn screen(&self) -> BorrowedFd<'_> {
        match &self.screen {
            Some(screen) => screen.as_fd(),
            None => rustix::stdio::stdout(),
        }
    }

    /// Shows what is left when the process has ended. Whoever reads it may be slow, or never read on: `gives_up` says after each
    /// signal whether to wait longer.
    pub(crate) fn drain(&mut self, signals: &OwnedFd, gives_up: impl Fn() -> bool) {
        let mut left = LEFT;
        loop {
            if self.shown.is_empty() {
                if left == 0 || !self.output || !readable(self.master.as_fd()) {
                    return;
                }
                self.take();
                left = left.saturating_sub(self.shown.len());
            }
            self.show();
            if self.shown.is_empty() {
                continue;
            }
            let mut fds = [
                PollFd::from_borrowed_fd(self.screen(), PollFlags::OUT),
                PollFd::new(signals, PollFlags::IN),
            ];
            let waited = rustix::event::poll(&mut fds, None);
            let signalled = waited.is_ok() && !fds[1].revents().is_empty();
            if signalled && gives_up() {
                return;
            }
        }
    }

    /// Takes what the container wrote.
    fn take(&mut self) {
        let mut buffer = [0u8; 16384];
        match rustix::io::read(&self.master, &mut buffer) {
            Ok(0) => self.output = false,
            Ok(read) => self.shown.extend_from_slice(&buffer[..read]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // EIO: nobody has the other end open.
            Err(_) => self.output = false,
        }
    }

    /// Shows what was taken, as much as does not have to wait.
    fn show(&mut self) {
        while !self.shown.is_empty() {
            match rustix::io::write(self.screen(), &self.shown) {
                Ok(written) => drop(self.shown.drain(..written)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // Nobody looks any more; what the container writes is taken all the same.
                Err(_) => self.shown.clear(),
            }
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
