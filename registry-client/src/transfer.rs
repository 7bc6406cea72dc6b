//! One blob from a source into a sink.

use std::io::{self, Read as _};

use dhow_image::{
    Begun, BlobSink, BlobSource, BlobWriter, Descriptor, Progress, TransferError,
    TransferErrorKind, Want,
};

use crate::parallel::Stop;
use crate::source::unwrapped;

/// How much is handed to the sink at once.
const PIECE: usize = 256 << 10;

/// A blob on its way.
pub(crate) struct Transfer<'a> {
    pub(crate) source: &'a dyn BlobSource,
    pub(crate) descriptor: &'a Descriptor,
    pub(crate) want: &'a Want,
    pub(crate) part: &'a str,
    pub(crate) words: Words,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) stop: &'a Stop,
}

/// How a blob that moves is spoken of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    /// `pulling`
    pub(crate) doing: &'static str,
    /// `pulled`
    pub(crate) done: &'static str,
}

/// How a blob came to be in the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// It was there.
    Present,
    /// It came.
    Came,
}

impl Transfer<'_> {
    /// Brings the blob into the sink, if the sink lacks it.
    pub(crate) fn run(&self, sink: &dyn BlobSink) -> Result<Fetched, TransferError> {
        let mut writer = match sink.begin(self.descriptor, self.want)? {
            Begun::Present => {
                self.progress.end(self.part, "already there");
                return Ok(Fetched::Present);
            }
            Begun::Write(writer) => writer,
        };
        self.progress
            .begin(self.part, self.words.doing, Some(self.descriptor.size()));
        let resumed = writer.offset() > 0;
        self.fill(writer.as_mut())?;
        match writer.commit() {
            // The beginning that lay here was what did not fit: once more, from zero.
            Err(error) if resumed && error.kind() == TransferErrorKind::Corrupt => {
                match sink.begin(self.descriptor, self.want)? {
                    Begun::Present => {}
                    Begun::Write(mut writer) => {
                        self.restart(writer.as_mut())?;
                        self.fill(writer.as_mut())?;
                        writer.commit()?;
                    }
                }
            }
            other => other?,
        }
        self.progress.end(self.part, self.words.done);
        Ok(Fetched::Came)
    }

    /// Writes all bytes of the blob that the writer lacks.
    fn fill(&self, writer: &mut dyn BlobWriter) -> Result<(), TransferError> {
        let size = self.descriptor.size();
        if writer.offset() > size {
            self.restart(writer)?;
        }
        if writer.offset() == size && size > 0 {
            self.progress.resumed(self.part, size);
            return Ok(());
        }
        self.stop.check()?;
        let body = self.source.open(self.descriptor, writer.offset())?;
        if body.offset != writer.offset() {
            // A source that gives nothing in parts begins with the beginning.
            self.restart(writer)?;
            if body.offset > 0 {
                return Err(self.corrupt(format!("begins at {}, not at 0", body.offset)));
            }
        }
        self.progress.resumed(self.part, writer.offset());
        let mut left = size - writer.offset();
        let mut reader = body.reader;
        let mut buffer = vec![0; PIECE];
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) if left == 0 => return Ok(()),
                Ok(0) => return Err(self.corrupt(format!("ends {left} bytes too early"))),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let doing = format!("{} {}", self.words.doing, self.descriptor.digest());
                    return Err(unwrapped(doing, error));
                }
            };
            left = left
                .checked_sub(count as u64)
                .ok_or_else(|| self.corrupt(format!("has more than its {size} bytes")))?;
            writer
                .write_all(&buffer[..count])
                .map_err(|error| self.unkept(error))?;
            self.progress.advance(self.part, count as u64);
            self.stop.check()?;
        }
    }

    fn restart(&self, writer: &mut dyn BlobWriter) -> Result<(), TransferError> {
        writer.restart().map_err(|error| self.unkept(error))
    }

    fn unkept(&self, error: io::Error) -> TransferError {
        // A store that found the content wrong while it came says so with a kind of its own.
        let kind = match error.kind() {
            io::ErrorKind::InvalidData => TransferErrorKind::Corrupt,
            _ => TransferErrorKind::Other,
        };
        let message = format!("keeping {}", self.descriptor.digest());
        TransferError::caused(kind, message, error)
    }

    fn corrupt(&self, reason: String) -> TransferError {
        TransferError::new(
            TransferErrorKind::Corrupt,
            format!(
                "{} {}: what is to be read {reason}",
                self.words.doing,
                self.descriptor.digest()
            ),
        )
    }
}
