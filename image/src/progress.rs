//! How long work is reported; only a front end draws it.

use std::fmt;
use std::io::{self, Read, Write};

/// Takes reports of parts of a long work (layers that move, steps that run), from any thread.
pub trait Progress: Sync {
    /// A part begins: its name (a short digest, a step), what happens to it, and its size in bytes where it is known.
    fn begin(&self, part: &str, what: &str, total: Option<u64>);
    /// So many more bytes of the part are done.
    fn advance(&self, part: &str, bytes: u64);
    /// So many of the part's bytes were there before anything moved: a transfer that is gone on with. They count, but not for its rate.
    fn resumed(&self, part: &str, bytes: u64) {
        self.advance(part, bytes);
    }
    /// The part has ended, with this outcome: `pushed`, `already there`.
    fn end(&self, part: &str, outcome: &str);
    /// A line about the whole.
    fn note(&self, line: &str);
}

/// A reader or writer of a part's bytes that reports those that pass.
pub struct Reported<'a, T> {
    inner: T,
    part: &'a str,
    progress: &'a dyn Progress,
}

impl<'a, T> Reported<'a, T> {
    /// Reports what passes through `inner` as bytes of `part`.
    pub fn new(inner: T, part: &'a str, progress: &'a dyn Progress) -> Self {
        Self {
            inner,
            part,
            progress,
        }
    }

    /// What it reads or writes.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<T> fmt::Debug for Reported<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reported({})", self.part)
    }
}

impl<T: Read> Read for Reported<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.progress.advance(self.part, count as u64);
        Ok(count)
    }
}

impl<T: Write> Write for Reported<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.progress.advance(self.part, count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Reports nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _part: &str, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _part: &str, _bytes: u64) {}
    fn end(&self, _part: &str, _outcome: &str) {}
    fn note(&self, _line: &str) {}
}
