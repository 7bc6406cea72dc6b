//! The plainest loop over the bytes of layers: no store, no checks, no owners and times, nothing durable.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::Context as _;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};

const CHUNK: usize = 256 << 10;

/// Unpacks each blob into a directory of its own below `into`. Two threads take a layer each; of a single layer one reads, digests and
/// inflates, the other digests and creates.
pub(crate) fn run(threads: usize, into: &Path, blobs: &[&str]) -> anyhow::Result<()> {
    if threads > 1 && blobs.len() == 1 {
        return two_threads(&directory(into, 0)?, blobs[0]);
    }
    let next = AtomicUsize::new(0);
    let work = || -> anyhow::Result<()> {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(blob) = blobs.get(at) else {
                return Ok(());
            };
            let mut tar = inflated(blob)?;
            create(&mut tar, &directory(into, at)?)?;
            end(tar)?;
        }
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        for other in others {
            other
                .join()
                .map_err(|_| anyhow::anyhow!("a thread died"))??;
        }
        own
    })
}

fn directory(into: &Path, number: usize) -> anyhow::Result<OwnedFd> {
    let path = into.join(number.to_string());
    std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    Ok(File::open(path)?.into())
}

type Blob = BufReader<Digesting<Box<dyn Read>>>;
type Inflated = flate2::bufread::MultiGzDecoder<Blob>;

/// A blob that lies in a file or in a registry.
fn open(blob: &str) -> anyhow::Result<Blob> {
    let bytes: Box<dyn Read> = match blob.strip_prefix("http://") {
        Some(address) => Box::new(crate::fetch::get(address).with_context(|| blob.to_owned())?),
        None => Box::new(File::open(blob).with_context(|| blob.to_owned())?),
    };
    Ok(BufReader::with_capacity(CHUNK, Digesting::new(bytes)))
}

fn inflated(blob: &str) -> anyhow::Result<Digesting<Inflated>> {
    let blob = open(blob)?;
    Ok(Digesting::new(flate2::bufread::MultiGzDecoder::new(blob)))
}

/// Reads the rest, and has the digests worked out.
fn end(mut tar: Digesting<Inflated>) -> anyhow::Result<()> {
    io::copy(&mut tar, &mut io::sink())?;
    std::hint::black_box(tar.digest.finalize());
    std::hint::black_box(tar.inner.into_inner().into_inner().digest.finalize());
    Ok(())
}

fn two_threads(into: &OwnedFd, blob: &str) -> anyhow::Result<()> {
    let (sender, receiver) = sync_channel(8);
    let (back, spare) = sync_channel(8);
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || -> anyhow::Result<()> {
            let tar = flate2::bufread::MultiGzDecoder::new(open(blob)?);
            send(tar, &sender, &spare)
        });
        let mut tar = Digesting::new(Received {
            receiver,
            back,
            chunk: Vec::new(),
            at: 0,
        });
        create(&mut tar, into)?;
        io::copy(&mut tar, &mut io::sink())?;
        std::hint::black_box(tar.digest.finalize());
        reading
            .join()
            .map_err(|_| anyhow::anyhow!("a thread died"))?
    })
}

fn send(
    mut from: impl Read,
    to: &SyncSender<Vec<u8>>,
    spare: &Receiver<Vec<u8>>,
) -> anyhow::Result<()> {
    loop {
        let mut chunk = spare.try_recv().unwrap_or_default();
        chunk.clear();
        let count = from
            .by_ref()
            .take(CHUNK as u64)
            .read_to_end(&mut chunk)
            .context("inflating")?;
        if count == 0 {
            return Ok(());
        }
        if to.send(chunk).is_err() {
            return Ok(());
        }
    }
}

struct Received {
    receiver: Receiver<Vec<u8>>,
    back: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for Received {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            let used = std::mem::take(&mut self.chunk);
            self.at = 0;
            let _ = self.back.try_send(used);
            match self.receiver.recv() {
                Ok(chunk) => self.chunk = chunk,
                Err(_) => return Ok(0),
            }
        }
        let count = out.len().min(self.chunk.len() - self.at);
        out[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

struct Digesting<R> {
    inner: R,
    digest: Sha256,
}

impl<R> Digesting<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            digest: Sha256::new(),
        }
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        self.digest.update(&out[..count]);
        Ok(count)
    }
}

/// Makes directories, files and links as they come, by their paths; the bench's own layers are trusted.
fn create(tar: &mut impl Read, into: &OwnedFd) -> anyhow::Result<()> {
    let mut archive = tar::Archive::new(BufReader::with_capacity(CHUNK, tar));
    let mut buffer = vec![0; CHUNK];
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path: PathBuf = entry.path()?.into_owned();
        let failed = || path.display().to_string();
        let mode = Mode::from_raw_mode(entry.header().mode()? & 0o7777);
        match entry.header().entry_type() {
            tar::EntryType::Directory => match rustix::fs::mkdirat(into, &path, mode) {
                Err(rustix::io::Errno::EXIST) => {}
                made => made.with_context(failed)?,
            },
            tar::EntryType::Symlink => {
                let target = entry.link_name()?.unwrap_or_default();
                rustix::fs::symlinkat(&*target, into, &path).with_context(failed)?;
            }
            tar::EntryType::Link => {
                let target = entry.link_name()?.unwrap_or_default();
                let flags = rustix::fs::AtFlags::empty();
                rustix::fs::linkat(into, &*target, into, &path, flags).with_context(failed)?;
            }
            _ => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let file = rustix::fs::openat(into, &path, flags, mode).with_context(failed)?;
                write(&mut entry, file.as_fd(), &mut buffer).with_context(failed)?;
            }
        }
    }
    // What comes after the end goes by the reader's own buffer.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(())
}

fn write(from: &mut impl Read, file: BorrowedFd<'_>, buffer: &mut [u8]) -> anyhow::Result<()> {
    loop {
        let count = from.read(buffer)?;
        if count == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let written = rustix::io::write(file, rest)?;
            rest = &rest[written..];
        }
    }
}
