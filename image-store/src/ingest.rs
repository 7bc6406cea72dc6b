//! Blobs on their way in: digested, inflated and unpacked while they arrive.

use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Write};
use std::path::PathBuf;
use std::thread::JoinHandle;

use dhow_image::{
    Begun, BlobSink, BlobWriter, ChainId, Descriptor, DiffId, Digest, Hasher, TransferError,
    TransferErrorKind, Want,
};
use dhow_layer::{UnpackError, UnpackOptions, Unpacked};
use rustix::fs::FlockOperation;

use crate::blobs::digest_of;
use crate::error::io;
use crate::lease::ChainState;
use crate::pipe::{PipeWriter, pipe};
use crate::store::{flock, is_named, remove_file, sync_directory};
use crate::unpacking::{FreshTree, Inflating, check_diff_id, unpack_stream, unpacking};
use crate::{Lease, Store, StoreError};

/// A layer whose blob has at most so many bytes is unpacked when they have come, by the thread that took them. Starting threads for it
/// and handing them pieces would take longer than they save, and the image's other layers come meanwhile.
const SMALL: u64 = 1 << 20;

impl BlobSink for Lease {
    fn begin(&self, descriptor: &Descriptor, want: &Want) -> Result<Begun<'_>, TransferError> {
        let chain = match want {
            Want::Blob => None,
            Want::Layer { diff_id, parent } => {
                let chain = ChainId::above(parent.as_ref(), diff_id);
                self.begin_chain(chain.clone());
                Some(chain)
            }
        };
        let begun = self.begin_blob(descriptor, want);
        if let (Err(_), Some(chain)) = (&begun, chain) {
            self.give_up_chain(&chain, false);
        }
        Ok(begun?)
    }

    fn announce(&self, want: &Want) {
        if let Want::Layer { diff_id, parent } = want {
            self.announce_chain(ChainId::above(parent.as_ref(), diff_id));
        }
    }

    fn withdraw(&self, want: &Want) {
        if let Want::Layer { diff_id, parent } = want {
            self.give_up_chain(&ChainId::above(parent.as_ref(), diff_id), true);
        }
    }
}

impl Lease {
    fn begin_blob(&self, descriptor: &Descriptor, want: &Want) -> Result<Begun<'_>, StoreError> {
        let digest = digest_of(descriptor)?;
        self.hold_blobs([&digest])?;
        // What was here until now is to be here again; what was dropped need not be.
        let was_bad = self.store().remove_damaged(descriptor, &digest)?;
        let is_elsewhere = matches!(want, Want::Layer { .. }) && self.store().is_dropped(&digest);
        if is_elsewhere && !was_bad && !self.takes_all() && self.offer_tree(descriptor, want)? {
            // Its tree is here, and a registry has it for whoever needs its bytes.
            return Ok(Begun::Present);
        }
        let taken = self.store().take_part(&digest)?;
        // Asked after the wait, in which another process may have unpacked it.
        let has_tree = self.offer_tree(descriptor, want)?;
        let Some((path, part)) = taken else {
            if let (Want::Layer { diff_id, parent }, false) = (want, has_tree) {
                // The bytes are here, the tree is not.
                match self.unpack_blob(diff_id, parent.as_ref(), Some(descriptor)) {
                    Ok(record) => self.layer_is_there(diff_id, parent.as_ref(), record.tree),
                    // The bytes were damaged since they came: they come once more.
                    Err(error) if !error.is_of_writing() && self.store().is_bad(&digest)? => {
                        remove_file(&self.store().blob_path(&digest))?;
                        return self.begin_blob(descriptor, want);
                    }
                    Err(error) => return Err(error),
                }
            }
            return Ok(Begun::Present);
        };
        let mut writer = Writer {
            lease: self,
            descriptor: descriptor.clone(),
            want: want.clone(),
            has_tree,
            hasher: Hasher::new(digest.algorithm()),
            digest,
            path,
            part,
            offset: 0,
            unpacking: None,
            committed: false,
        };
        writer.begin_unpacking()?;
        writer.resume()?;
        Ok(Begun::Write(Box::new(writer)))
    }

    /// Whether the wanted layer's tree is there already; then it is held.
    fn offer_tree(&self, descriptor: &Descriptor, want: &Want) -> Result<bool, StoreError> {
        let Want::Layer { diff_id, parent } = want else {
            return Ok(true);
        };
        let Some(record) = self.hold_layer(diff_id, parent.as_ref())? else {
            return Ok(false);
        };
        self.layer_is_there(diff_id, parent.as_ref(), record.tree);
        if self.store().compressed(diff_id)?.is_none() {
            self.store().note_compressed(diff_id, descriptor)?;
        }
        Ok(true)
    }

    fn layer_is_there(&self, diff_id: &DiffId, parent: Option<&ChainId>, tree: String) {
        let state = ChainState::There {
            parent: parent.cloned(),
            tree,
        };
        self.set_chain(ChainId::above(parent, diff_id), state);
    }
}

impl Store {
    /// The locked part file of a blob, after waiting for whoever fetches it; none where the blob is there.
    fn take_part(&self, digest: &Digest) -> Result<Option<(PathBuf, File)>, StoreError> {
        let name = format!("{}-{}.part", digest.algorithm().name(), digest.hex());
        self.lock_work(&name, || self.has_blob(digest))
    }

    /// The locked file of a work that only one process should do, after waiting for whoever does it; none where it is done.
    pub(crate) fn lock_work(
        &self,
        name: &str,
        is_done: impl Fn() -> bool,
    ) -> Result<Option<(PathBuf, File)>, StoreError> {
        let path = self.path("ingest").join(name);
        loop {
            if is_done() {
                return Ok(None);
            }
            let mut options = File::options();
            let options = options.read(true).append(true).create(true);
            let part = options.open(&path).map_err(io("making", &path))?;
            flock(&part, FlockOperation::LockExclusive).map_err(io("locking", &path))?;
            // The file may have become the blob, or been removed, while it was waited for; then what is to be done may be done.
            if is_named(&part, &path) {
                return Ok(Some((path, part)));
            }
        }
    }
}

/// Takes one blob.
struct Writer<'a> {
    lease: &'a Lease,
    descriptor: Descriptor,
    want: Want,
    /// Nothing is to be unpacked.
    has_tree: bool,
    hasher: Hasher,
    digest: Digest,
    path: PathBuf,
    /// Locked until the writer is gone.
    part: File,
    offset: u64,
    unpacking: Option<Unpacking>,
    committed: bool,
}

/// A layer that is being unpacked in a thread of its own.
struct Unpacking {
    tree: String,
    pipe: PipeWriter,
    thread: JoinHandle<UnpackedLayer>,
}

type UnpackedLayer = Result<(Unpacked, Option<DiffId>), UnpackError>;

impl Writer<'_> {
    fn begin_unpacking(&mut self) -> Result<(), StoreError> {
        if self.has_tree || self.descriptor.size() <= SMALL {
            return Ok(());
        }
        let store = self.lease.store();
        let name = self.lease.new_tree()?;
        let tree = store.open_tree(&name)?;
        let options = UnpackOptions {
            flavour: store.flavour(),
        };
        let (writer, reader) = pipe();
        let thread = std::thread::spawn(move || {
            unpack_stream(&tree, options, Inflating::Beside, reader, true)
        });
        self.unpacking = Some(Unpacking {
            tree: name,
            pipe: writer,
            thread,
        });
        Ok(())
    }

    /// Takes what an earlier attempt left.
    fn resume(&mut self) -> Result<(), StoreError> {
        let length = self
            .part
            .metadata()
            .map_err(io("looking at", &self.path))?
            .len();
        if length > self.descriptor.size() {
            return self.start_over().map_err(io("emptying", &self.path));
        }
        if length == 0 {
            return Ok(());
        }
        let mut file = File::open(&self.path).map_err(io("opening", &self.path))?;
        let mut buffer = vec![0; 256 * 1024];
        while self.offset < length {
            let count = file.read(&mut buffer).map_err(io("reading", &self.path))?;
            if count == 0 {
                break;
            }
            self.pass_on(&buffer[..count]);
        }
        Ok(())
    }

    /// Digests and unpacks bytes that are in the part.
    fn pass_on(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
        if let Some(unpacking) = &mut self.unpacking {
            // An unpacker that has given up says why when it is asked for its result.
            let _ = unpacking.pipe.write_all(bytes);
        }
    }

    fn stop_unpacking(&mut self) {
        if let Some(unpacking) = self.unpacking.take() {
            drop(unpacking.pipe);
            let _ = unpacking.thread.join();
            let _ = self.lease.store().remove_tree(&unpacking.tree);
        }
    }

    fn start_over(&mut self) -> io::Result<()> {
        self.stop_unpacking();
        self.part.set_len(0)?;
        self.offset = 0;
        self.hasher = Hasher::new(self.digest.algorithm());
        self.begin_unpacking().map_err(io::Error::other)
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        let found = self.hasher.clone().finish();
        if self.offset != self.descriptor.size() || found != self.digest {
            return Err(StoreError::Digest {
                what: format!(
                    "the blob ({} of {} bytes)",
                    self.offset,
                    self.descriptor.size()
                ),
                expected: self.digest.to_string(),
                found: found.to_string(),
            });
        }
        match self.want.clone() {
            Want::Layer { diff_id, parent } if !self.has_tree => {
                self.finish_layer(&diff_id, parent.as_ref())
            }
            _ => {
                self.part.sync_all().map_err(io("syncing", &self.path))?;
                self.publish()
            }
        }
    }

    /// The blob's bytes are the right ones, and all there.
    fn finish_layer(
        &mut self,
        diff_id: &DiffId,
        parent: Option<&ChainId>,
    ) -> Result<(), StoreError> {
        let (tree, unpacked) = match self.unpacking.take() {
            Some(unpacking) => unpacking.end(),
            None => self.unpack_small()?,
        };
        let finished = (|| {
            let (unpacked, found) = unpacked.map_err(unpacking(diff_id))?;
            check_diff_id(diff_id, found.as_ref())?;
            let fresh = FreshTree {
                name: tree.clone(),
                unpacked,
            };
            let waits = fresh.waits(self.lease, parent);
            if waits {
                self.publish_and_unlock()?;
            }
            // One sync covers the tree and the part.
            let publish = || if waits { Ok(()) } else { self.publish() };
            self.lease.finish_layer(diff_id, parent, &fresh, publish)
        })();
        let store = self.lease.store();
        if finished.is_err() {
            let _ = store.remove_tree(&tree);
        }
        let record = finished?;
        store.note_compressed(diff_id, &self.descriptor)?;
        self.lease.layer_is_there(diff_id, parent, record.tree);
        Ok(())
    }

    /// Unpacks the part, which is whole and has been digested.
    fn unpack_small(&self) -> Result<(String, UnpackedLayer), StoreError> {
        let store = self.lease.store();
        let options = UnpackOptions {
            flavour: store.flavour(),
        };
        let part = File::open(&self.path).map_err(io("opening", &self.path))?;
        let part = BufReader::with_capacity(64 * 1024, part);
        let name = self.lease.new_tree()?;
        let tree = store.open_tree(&name)?;
        let unpacked = unpack_stream(&tree, options, Inflating::Here, part, true);
        Ok((name, unpacked))
    }

    /// Makes the part the blob that it is and lets others have it, before a layer below is waited for: that one may be made of
    /// the same blob, by this process or by one that waits for a layer of ours in turn.
    fn publish_and_unlock(&self) -> Result<(), StoreError> {
        self.part.sync_all().map_err(io("syncing", &self.path))?;
        self.publish()?;
        flock(&self.part, FlockOperation::Unlock).map_err(io("unlocking", &self.path))
    }

    /// Removes what came: all of it is here, and it is not what it should be or cannot be unpacked, so that nobody can go on with it.
    /// Under its name may be another one's by now, or nothing, if it has become a blob.
    fn give_up_part(&self) {
        if is_named(&self.part, &self.path) {
            let _ = remove_file(&self.path);
        }
    }

    /// Gives the synced part its name as a blob.
    fn publish(&self) -> Result<(), StoreError> {
        let blob = self.lease.store().blob_path(&self.digest);
        fs::rename(&self.path, &blob).map_err(io("writing", &blob))?;
        blob.parent().map_or(Ok(()), sync_directory)
    }
}

impl Unpacking {
    /// No more bytes come. They have been digested already, so what the unpacker says matters more than that it hung up.
    fn end(self) -> (String, UnpackedLayer) {
        let _ = self.pipe.finish();
        let broken = |_| UnpackError::Read(io::Error::other("the unpacking thread panicked"));
        let unpacked = self.thread.join().map_err(broken);
        (self.tree, unpacked.and_then(|unpacked| unpacked))
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.offset + bytes.len() as u64 > self.descriptor.size() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{} has more bytes than the {} that its manifest says",
                    self.digest,
                    self.descriptor.size()
                ),
            ));
        }
        self.part.write_all(bytes)?;
        self.pass_on(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for Writer<'_> {
    fn offset(&self) -> u64 {
        self.offset
    }

    fn restart(&mut self) -> io::Result<()> {
        self.start_over()
    }

    fn commit(mut self: Box<Self>) -> Result<(), TransferError> {
        self.finish()
            .map_err(|error| {
                if error.is_final() {
                    self.give_up_part();
                }
                match &error {
                    StoreError::Digest { .. } => {
                        TransferError::new(TransferErrorKind::Corrupt, error.to_string())
                    }
                    _ => error.into(),
                }
            })
            .inspect(|()| self.committed = true)
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        self.stop_unpacking();
        if let (false, false, Want::Layer { diff_id, parent }) =
            (self.committed, self.has_tree, &self.want)
        {
            let chain = ChainId::above(parent.as_ref(), diff_id);
            self.lease.give_up_chain(&chain, false);
        }
    }
}
