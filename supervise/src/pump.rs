//! What a container writes, on its way to the log and to whoever is attached.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::{LogWriter, StreamName};

/// One stream of a container. Nothing here waits: the caller polls [`Pump::source`] or [`Pump::sink`] and then calls [`Pump::step`].
#[derive(Debug)]
pub struct Pump {
    source: Option<OwnedFd>,
    sink: Option<OwnedFd>,
    pending: Vec<u8>,
    name: StreamName,
}

impl Pump {
    /// A pump from `source`; `sink` is who is attached. Both are made non-blocking, so neither may be shared with a process that expects
    /// otherwise.
    ///
    /// # Errors
    /// When a descriptor is none.
    pub fn new(name: StreamName, source: OwnedFd, sink: Option<OwnedFd>) -> Result<Self, Errno> {
        rustix::io::ioctl_fionbio(&source, true)?;
        if let Some(sink) = &sink {
            rustix::io::ioctl_fionbio(sink, true)?;
        }
        Ok(Self {
            source: Some(source),
            sink,
            pending: Vec::new(),
            name,
        })
    }

    /// What to wait for to become readable; none at the end, and while the one who is attached has not taken what came before.
    pub fn source(&self) -> Option<BorrowedFd<'_>> {
        self.source
            .as_ref()
            .filter(|_| self.pending.is_empty())
            .map(AsFd::as_fd)
    }

    /// What to wait for to become writable; none where nothing is to be written.
    pub fn sink(&self) -> Option<BorrowedFd<'_>> {
        self.sink
            .as_ref()
            .filter(|_| !self.pending.is_empty())
            .map(AsFd::as_fd)
    }

    /// Moves what can be moved without waiting.
    pub fn step(&mut self, log: &mut LogWriter) {
        let mut buffer = [0; 64 << 10];
        loop {
            self.flush();
            if !self.pending.is_empty() {
                return;
            }
            let Some(source) = &self.source else {
                self.sink = None;
                return;
            };
            match rustix::io::read(source, &mut buffer) {
                Err(Errno::WOULDBLOCK) => return,
                Err(Errno::INTR) => {}
                // A terminal whose last user is gone answers EIO.
                Ok(0) | Err(_) => {
                    self.source = None;
                    // A log that cannot be written (a full disk) must not stop the container.
                    let _ = log.end(self.name);
                }
                Ok(count) => {
                    let _ = log.add(self.name, &buffer[..count]);
                    if self.sink.is_some() {
                        self.pending.extend_from_slice(&buffer[..count]);
                    }
                }
            }
        }
    }

    /// Reads no more: what still holds the other end is not the container.
    pub fn close_source(&mut self, log: &mut LogWriter) {
        if self.source.take().is_some() {
            let _ = log.end(self.name);
        }
        self.flush();
        if self.pending.is_empty() {
            self.sink = None;
        }
    }

    /// Whether everything has been moved.
    pub fn is_done(&self) -> bool {
        self.source.is_none() && self.pending.is_empty()
    }

    fn flush(&mut self) {
        let Some(sink) = &self.sink else {
            self.pending.clear();
            return;
        };
        while !self.pending.is_empty() {
            match rustix::io::write(sink, &self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return,
                // Nobody is attached any more; the log goes on.
                Err(_) => {
                    self.sink = None;
                    self.pending.clear();
                    return;
                }
            }
        }
    }
}
