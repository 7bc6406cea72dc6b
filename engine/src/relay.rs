//! What a person types and a container writes, on its way through the foreground process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dhow_supervise::Exit;
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::EngineError;
use crate::foreground::{Ending, Remote, Signals, StandardStreams};
use crate::launch::Streams;

/// After so many requests to end, the caller leaves the container alone, as Docker does.
const PATIENCE: u32 = 3;

/// Bytes and signals on their way.
pub(crate) struct Relay<'a> {
    streams: &'a mut Streams,
    own: StandardStreams<'a>,
    /// What was read from the person and not yet taken by the container.
    pending: Vec<u8>,
    requests_to_end: u32,
}

/// What became ready.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ready {
    Remote,
    Signal,
    Stdout,
    Stderr,
    OwnInput,
    RemoteInput,
}

impl<'a> Relay<'a> {
    pub(crate) fn new(
        streams: &'a mut Streams,
        own: StandardStreams<'a>,
    ) -> Result<Self, EngineError> {
        if let Some(input) = streams.terminal.as_ref().or(streams.stdin.as_ref()) {
            rustix::io::ioctl_fionbio(input, true)
                .map_err(EngineError::system("using the container's input"))?;
        }
        Ok(Self {
            streams,
            own,
            pending: Vec::new(),
            requests_to_end: 0,
        })
    }

    /// Passes everything on until the process has ended and what it wrote is out.
    pub(crate) fn run(
        mut self,
        remote: &mut dyn Remote,
        signals: &Signals,
    ) -> Result<Ending, EngineError> {
        self.resize();
        let mut exit: Option<Exit> = None;
        loop {
            for ready in self.wait(remote, signals, exit.is_some())? {
                match ready {
                    Ready::Remote => exit = remote.hear()?,
                    Ready::Signal => {
                        if self.pass_signals(remote, signals) {
                            return Ok(Ending::Left);
                        }
                    }
                    Ready::Stdout => copy(&mut self.streams.stdout, self.own.stdout),
                    Ready::Stderr => copy(&mut self.streams.stderr, self.own.stderr),
                    Ready::OwnInput => self.read_input(),
                    Ready::RemoteInput => self.write_input(),
                }
            }
            let is_silent = self.streams.stdout.is_none() && self.streams.stderr.is_none();
            if let Some(exit) = &exit
                && is_silent
            {
                return Ok(Ending::Exited(exit.clone()));
            }
        }
    }

    fn wait(
        &self,
        remote: &dyn Remote,
        signals: &Signals,
        ended: bool,
    ) -> Result<Vec<Ready>, EngineError> {
        let has_input = self.pending.is_empty();
        let input = self.remote_input();
        let sources = [
            (Ready::Signal, Some(signals.as_fd()), PollFlags::IN),
            (
                Ready::Stdout,
                self.streams.stdout.as_ref().map(AsFd::as_fd),
                PollFlags::IN,
            ),
            (
                Ready::Stderr,
                self.streams.stderr.as_ref().map(AsFd::as_fd),
                PollFlags::IN,
            ),
            (
                Ready::OwnInput,
                self.own.stdin.filter(|_| has_input && input.is_some()),
                PollFlags::IN,
            ),
            (
                Ready::RemoteInput,
                input.filter(|_| !has_input),
                PollFlags::OUT,
            ),
            // Last, so that what the process wrote before its end is seen first.
            (
                Ready::Remote,
                Some(remote.descriptor()).filter(|_| !ended),
                PollFlags::IN,
            ),
        ];
        let (kinds, mut polled): (Vec<Ready>, Vec<PollFd<'_>>) = sources
            .into_iter()
            .filter_map(|(kind, fd, flags)| Some((kind, PollFd::from_borrowed_fd(fd?, flags))))
            .unzip();
        match poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(EngineError::system("waiting for the container")(errno)),
        }
        Ok(kinds
            .into_iter()
            .zip(&polled)
            .filter_map(|(kind, fd)| (!fd.revents().is_empty()).then_some(kind))
            .collect())
    }

    fn remote_input(&self) -> Option<BorrowedFd<'_>> {
        let input = self
            .streams
            .terminal
            .as_ref()
            .or(self.streams.stdin.as_ref());
        input.map(AsFd::as_fd)
    }

    fn read_input(&mut self) {
        let Some(own) = self.own.stdin else { return };
        let mut buffer = [0; 32 << 10];
        match rustix::io::read(own, &mut buffer) {
            Ok(count) if count > 0 => {
                self.pending.extend_from_slice(&buffer[..count]);
                self.write_input();
            }
            Err(Errno::INTR | Errno::WOULDBLOCK) => {}
            // The end of the person's input is the end of the container's; a terminal stays.
            Ok(_) | Err(_) => {
                self.own.stdin = None;
                self.streams.stdin = None;
            }
        }
    }

    fn write_input(&mut self) {
        while !self.pending.is_empty() {
            let Some(input) = self.remote_input() else {
                self.pending.clear();
                return;
            };
            match rustix::io::write(input, &self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return,
                // The container does not read any more.
                Err(_) => {
                    self.pending.clear();
                    self.own.stdin = None;
                    self.streams.stdin = None;
                }
            }
        }
    }

    /// Passes on what has come; true when the person has had enough of waiting.
    fn pass_signals(&mut self, remote: &dyn Remote, signals: &Signals) -> bool {
        while let Some(signal) = signals.next() {
            if signal == Signal::SIGWINCH as i32 {
                self.resize();
                continue;
            }
            remote.signal(signal);
            if signal == Signal::SIGINT as i32 || signal == Signal::SIGTERM as i32 {
                self.requests_to_end += 1;
            }
        }
        self.requests_to_end >= PATIENCE
    }

    /// Gives the container's terminal the size of the person's.
    fn resize(&self) {
        if let (Some(terminal), Some(own)) = (&self.streams.terminal, self.own.terminal)
            && let Ok(size) = rustix::termios::tcgetwinsize(own)
        {
            let _ = rustix::termios::tcsetwinsize(terminal, size);
        }
    }
}

/// Moves what waits in `from`; at its end `from` becomes none. What cannot be written (a closed pipe) is dropped: the container goes on.
fn copy(from: &mut Option<OwnedFd>, to: BorrowedFd<'_>) {
    let Some(source) = from else { return };
    let mut buffer = [0; 64 << 10];
    match rustix::io::read(&*source, &mut buffer) {
        Ok(count) if count > 0 => write_all(to, &buffer[..count]),
        Err(Errno::INTR | Errno::WOULDBLOCK) => {}
        // A terminal whose last user is gone answers EIO.
        Ok(_) | Err(_) => *from = None,
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => {
                // Someone made the shared description non-blocking; wait for room.
                let mut room = [PollFd::from_borrowed_fd(to, PollFlags::OUT)];
                let _ = poll(&mut room, None);
            }
            Err(_) => return,
        }
    }
}
