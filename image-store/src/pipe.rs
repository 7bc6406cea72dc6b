//! Bytes from one thread to another, a bounded number of them at a time.

use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

const CHUNK: usize = 128 * 1024;
/// Chunks on the way; with those at either end, about a megabyte a layer.
const CHUNKS: usize = 6;

/// The end that is written to. Without [`PipeWriter::finish`] the reader sees an error, never a silent end.
pub(crate) struct PipeWriter {
    sender: Option<SyncSender<io::Result<Vec<u8>>>>,
    /// Chunks that have been read.
    spare: Receiver<Vec<u8>>,
    buffer: Vec<u8>,
}

/// The end that is read from.
pub(crate) struct PipeReader {
    receiver: Receiver<io::Result<Vec<u8>>>,
    back: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    ended: bool,
}

pub(crate) fn pipe() -> (PipeWriter, PipeReader) {
    let (sender, receiver) = sync_channel(CHUNKS);
    let (back, spare) = sync_channel(CHUNKS);
    let writer = PipeWriter {
        sender: Some(sender),
        spare,
        buffer: Vec::with_capacity(CHUNK),
    };
    let reader = PipeReader {
        receiver,
        back,
        chunk: Vec::new(),
        at: 0,
        ended: false,
    };
    (writer, reader)
}

impl PipeWriter {
    /// Sends all of `input` and ends; an error of `input` goes to the reader.
    pub(crate) fn send_all(mut self, mut input: impl Read) {
        loop {
            // One that comes back is full already, and needs no zeros.
            let mut chunk = self.spare();
            chunk.resize(CHUNK, 0);
            let mut filled = 0;
            while filled < CHUNK {
                match input.read(&mut chunk[filled..]) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return self.fail(error),
                }
            }
            let is_end = filled < CHUNK;
            chunk.truncate(filled);
            if self.send(chunk).is_err() {
                return;
            }
            if is_end {
                let _ = self.finish();
                return;
            }
        }
    }

    /// A chunk to fill, with whatever is in it.
    fn spare(&self) -> Vec<u8> {
        let spare = self.spare.try_recv();
        spare.unwrap_or_else(|_| Vec::with_capacity(CHUNK))
    }

    /// The reader's next read fails with this error.
    pub(crate) fn fail(mut self, error: io::Error) {
        if let Some(sender) = self.sender.take() {
            let _ = sender.send(Err(error));
        }
    }

    /// What was written is all.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.buffer);
        if !rest.is_empty() {
            self.send(rest)?;
        }
        // An empty chunk is the end.
        self.send(Vec::new())
    }

    fn send(&mut self, chunk: Vec<u8>) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let sender = self.sender.as_ref().ok_or_else(gone)?;
        sender.send(Ok(chunk)).map_err(|_| gone())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            let mut empty = self.spare();
            empty.clear();
            let full = std::mem::replace(&mut self.buffer, empty);
            self.send(full)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BufRead for PipeReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.chunk.len() && !self.ended {
            let broken = |_| io::Error::new(io::ErrorKind::UnexpectedEof, "the stream broke off");
            let chunk = self.receiver.recv().map_err(broken)??;
            let read = std::mem::replace(&mut self.chunk, chunk);
            // Where enough are on their way back, or nobody fills any more, it just goes.
            let _ = self.back.try_send(read);
            self.at = 0;
            self.ended = self.chunk.is_empty();
        }
        Ok(&self.chunk[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.chunk.len());
    }
}

impl Read for PipeReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let chunk = self.fill_buf()?;
        let count = chunk.len().min(out.len());
        out[..count].copy_from_slice(&chunk[..count]);
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_arrive_and_a_broken_end_is_an_error() {
        let (writer, mut reader) = pipe();
        let data: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
        let copy = data.clone();
        let thread = std::thread::spawn(move || writer.send_all(copy.as_slice()));
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        thread.join().unwrap();
        assert!(got == data);

        let (mut writer, mut reader) = pipe();
        writer.write_all(b"half").unwrap();
        drop(writer);
        assert!(reader.read_to_end(&mut Vec::new()).is_err());
    }
}
