//! What a container writes, on its way to the log and to whoever is attached.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::{LogWriter, StreamName};

/// As much is read at once.
const PIECE: usize = 64 << 10;

/// A pipe holds no more (fs.pipe-max-size): what its writer left behind is not longer.
const LARGEST_PIPE: usize = 1 << 20;

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

    /// Moves one piece of what can be moved without waiting. One only: a container that writes faster than this reads must not keep the
    /// caller from hearing that it is to be stopped.
    pub fn step(&mut self, log: &mut LogWriter) {
        self.flush();
        if self.pending.is_empty() {
            self.read(log);
            self.flush();
        }
        if self.is_done() {
            self.sink = None;
        }
    }

    /// Takes a piece from the source; whether there may be more.
    fn read(&mut self, log: &mut LogWriter) -> bool {
        let Some(source) = &self.source else {
            return false;
        };
        let mut buffer = [0; PIECE];
        match rustix::io::read(source, &mut buffer) {
            Err(Errno::WOULDBLOCK) => false,
            Err(Errno::INTR) => true,
            // A terminal whose last user is gone answers EIO.
            Ok(0) | Err(_) => {
                self.source = None;
                // A log that cannot be written (a full disk) must not stop the container.
                let _ = log.end(self.name);
                false
            }
            Ok(count) => {
                let _ = log.add(self.name, &buffer[..count]);
                if self.sink.is_some() {
                    self.pending.extend_from_slice(&buffer[..count]);
                }
                true
            }
        }
    }

    /// Takes what is there and reads no more: what still holds the other end is not the container. A slow reader still gets all of it.
    pub fn close_source(&mut self, log: &mut LogWriter) {
        for _ in 0..LARGEST_PIPE / PIECE {
            if !self.read(log) {
                break;
            }
        }
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

#[cfg(test)]
mod tests {
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[test]
    fn a_slow_reader_gets_all_and_a_fast_writer_does_not_keep_the_caller() {
        let (source, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let (reader, sink) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let path = std::env::temp_dir().join(format!("dhow-pump-{}", std::process::id()));
        let mut log = LogWriter::new(&path);
        let mut pump = Pump::new(StreamName::Stdout, source, Some(sink)).unwrap();
        let mut written = 0;
        // The reader sleeps until pipes and pump are full.
        while let Ok(count) = rustix::io::write(&writer, &[b'x'; 4096]) {
            written += count;
            pump.step(&mut log);
        }
        // The writer's end stays open in somebody else's hands.
        pump.close_source(&mut log);
        assert!(pump.source().is_none() && !pump.is_done());
        let (mut read, mut buffer) = (0, [0; 4096]);
        while !pump.is_done() || read < written {
            pump.step(&mut log);
            read += rustix::io::read(&reader, &mut buffer).unwrap();
        }
        assert_eq!(read, written);
        let _ = std::fs::remove_file(path);
    }
}
