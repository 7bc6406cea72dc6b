//! gzip by several threads: the same bytes, however many there are.
//!
//! What is written is cut into blocks of one size. Each is compressed for itself, with the end of the one before it as its dictionary, and
//! ends at a whole byte, so that the pieces in their order are one deflate stream (RFC 1951) of one gzip member (RFC 1952), as pigz does it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Part of what decides the bytes: another size is other bytes.
const BLOCK: usize = 512 << 10;
/// As far back as deflate can look.
const WINDOW: usize = 32 << 10;
/// No name, no time, no flags, from an unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Compresses what is written to it into `out`. Without [`Gzip::finish`] the stream has no end.
pub(crate) struct Gzip<W> {
    out: W,
    jobs: Option<SyncSender<Job>>,
    workers: Vec<JoinHandle<()>>,
    /// The results of the blocks that are being compressed, in their order.
    pending: VecDeque<Receiver<io::Result<Packed>>>,
    most: usize,
    block: Vec<u8>,
    window: Vec<u8>,
    crc: Crc,
    header_written: bool,
}

/// A block to compress.
struct Job {
    block: Vec<u8>,
    window: Vec<u8>,
    is_last: bool,
    done: Sender<io::Result<Packed>>,
}

/// A compressed block, and the checksum of what it was.
struct Packed {
    bytes: Vec<u8>,
    crc: Crc,
}

impl<W: Write> Gzip<W> {
    /// Compresses at a level of zlib's with so many threads.
    pub(crate) fn new(out: W, level: u32, threads: usize) -> Self {
        let threads = threads.max(1);
        let (jobs, queue) = sync_channel::<Job>(threads);
        let queue = Arc::new(Mutex::new(queue));
        let workers = (0..threads).map(|_| {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || work(&queue, level))
        });
        Self {
            out,
            jobs: Some(jobs),
            workers: workers.collect(),
            pending: VecDeque::new(),
            most: 2 * threads,
            block: Vec::with_capacity(BLOCK),
            window: Vec::new(),
            crc: Crc::new(),
            header_written: false,
        }
    }

    /// Writes what is left, and gives back where it went.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.submit(true)?;
        while !self.pending.is_empty() {
            self.collect()?;
        }
        // The length modulo 2^32, as the checksum counts it.
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        self.jobs = None;
        for worker in self.workers.drain(..) {
            worker.join().map_err(|_| died())?;
        }
        Ok(self.out)
    }

    /// Hands the block over; waits for the oldest where too many are under way.
    fn submit(&mut self, is_last: bool) -> io::Result<()> {
        while self.pending.len() >= self.most {
            self.collect()?;
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let window = block[block.len().saturating_sub(WINDOW)..].to_vec();
        let (done, result) = channel();
        let job = Job {
            block,
            window: std::mem::replace(&mut self.window, window),
            is_last,
            done,
        };
        let jobs = self.jobs.as_ref().ok_or_else(died)?;
        jobs.send(job).map_err(|_| died())?;
        self.pending.push_back(result);
        Ok(())
    }

    fn collect(&mut self) -> io::Result<()> {
        let Some(result) = self.pending.pop_front() else {
            return Ok(());
        };
        let packed = result.recv().map_err(|_| died())??;
        if !std::mem::replace(&mut self.header_written, true) {
            self.out.write_all(&HEADER)?;
        }
        self.crc.combine(&packed.crc);
        self.out.write_all(&packed.bytes)
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.submit(false)?;
        }
        let count = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn died() -> io::Error {
    io::Error::other("a compressing thread ended")
}

/// Compresses blocks until nobody has any more.
fn work(queue: &Mutex<Receiver<Job>>, level: u32) {
    let mut coder = Compress::new(Compression::new(level), false);
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let packed = compress(&mut coder, &job);
        // Whoever wanted it may have given up.
        let _ = job.done.send(packed);
    }
}

fn compress(coder: &mut Compress, job: &Job) -> io::Result<Packed> {
    coder.reset();
    if !job.window.is_empty() {
        coder
            .set_dictionary(&job.window)
            .map_err(io::Error::other)?;
    }
    // A block that ends before the stream does ends with an empty stored block, which is whole bytes.
    let flush = match job.is_last {
        true => FlushCompress::Finish,
        false => FlushCompress::Sync,
    };
    let mut bytes = Vec::with_capacity(job.block.len() / 2 + 1024);
    let begin = coder.total_in();
    loop {
        let taken = usize::try_from(coder.total_in() - begin).unwrap_or(usize::MAX);
        let status = coder
            .compress_vec(&job.block[taken..], &mut bytes, flush)
            .map_err(io::Error::other)?;
        // It has room left only when it has nothing more to say.
        match status {
            Status::StreamEnd => break,
            _ if !job.is_last && bytes.len() < bytes.capacity() => break,
            _ => bytes.reserve(64 << 10),
        }
    }
    let mut crc = Crc::new();
    crc.update(&job.block);
    Ok(Packed { bytes, crc })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Text, noise and zeros, each longer than a block or not.
    fn samples() -> Vec<Vec<u8>> {
        let text: Vec<u8> = (0..400_000u32)
            .flat_map(|i| format!("{i} ").into_bytes())
            .collect();
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .take(3 * BLOCK + 17)
        .collect();
        vec![
            Vec::new(),
            b"short".to_vec(),
            vec![0; BLOCK],
            vec![0; 2 * BLOCK + 1],
            noise,
            text,
        ]
    }

    fn gzip(data: &[u8], threads: usize, piece: usize) -> Vec<u8> {
        let mut gzip = Gzip::new(Vec::new(), 5, threads);
        for piece in data.chunks(piece) {
            gzip.write_all(piece).unwrap();
        }
        gzip.finish().unwrap()
    }

    #[test]
    fn what_goes_in_comes_out_whoever_compresses() {
        for data in samples() {
            let one = gzip(&data, 1, 1 << 20);
            assert!(
                one == gzip(&data, 4, 1 << 20),
                "other bytes by four threads"
            );
            assert!(one == gzip(&data, 2, 12_345), "other bytes by other pieces");
            let mut back = Vec::new();
            // A decoder of single members: all of it is one.
            let mut decoder = flate2::read::GzDecoder::new(one.as_slice());
            decoder.read_to_end(&mut back).unwrap();
            assert!(back == data);
        }
    }

    #[test]
    fn blocks_know_the_end_of_the_one_before() {
        let data = samples().pop().unwrap();
        let mut whole = flate2::write::GzEncoder::new(Vec::new(), Compression::new(5));
        whole.write_all(&data).unwrap();
        let whole = whole.finish().unwrap().len();
        let blocks = gzip(&data, 2, BLOCK).len();
        assert!(
            blocks < whole + whole / 100,
            "{blocks} bytes instead of {whole}"
        );
    }

    #[test]
    fn an_error_of_the_output_is_told() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut gzip = Gzip::new(Full, 5, 2);
        let written = gzip.write_all(&vec![7; 8 * BLOCK]);
        let error = written.and_then(|()| gzip.finish().map(drop)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
