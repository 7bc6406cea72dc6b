//! Layers' bytes become trees of the store.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dhow_image::{Algorithm, ChainId, Compression, Descriptor, DiffId, Hasher};
use dhow_layer::{UnpackError, UnpackOptions, Unpacked};
use flate2::bufread::MultiGzDecoder;

use crate::blobs::digest_of;
use crate::error::{damaged, io};
use crate::layers::{LayerRecord, record_name};
use crate::lease::ChainState;
use crate::pipe::pipe;
use crate::store::remove_file;
use crate::zstd_frames::Frames;
use crate::{Lease, Store, StoreError};

/// Where a compressed stream is inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inflating {
    /// By the thread that unpacks.
    Here,
    /// In a thread of its own.
    Beside,
}

/// Unpacks a tar stream, compressed or not as its first bytes show, into the empty directory `tree`. Gives also the DiffId where
/// `hash`.
pub(crate) fn unpack_stream(
    tree: &OwnedFd,
    options: UnpackOptions,
    inflating: Inflating,
    mut input: impl BufRead + Send,
    hash: bool,
) -> Result<(Unpacked, Option<DiffId>), UnpackError> {
    let mut start = Vec::new();
    input
        .by_ref()
        .take(4)
        .read_to_end(&mut start)
        .map_err(UnpackError::Read)?;
    let compression = Compression::of_bytes(&start);
    let mut input = Cursor::new(start).chain(input);
    let unpack = |tar: &mut dyn Read| {
        let mut tar = HashingReader {
            inner: tar,
            hasher: hash.then(|| Hasher::new(Algorithm::Sha256)),
        };
        let unpacked = dhow_layer::unpack(&mut tar, tree.as_fd(), &options)?;
        Ok((unpacked, tar.hasher.map(|hasher| DiffId(hasher.finish()))))
    };
    match (compression, inflating) {
        (Compression::None, _) => return unpack(&mut input),
        (Compression::Zstd, Inflating::Here) => {
            return unpack(&mut Decoding(Frames::new(input)));
        }
        (_, Inflating::Here) => return unpack(&mut Decoding(MultiGzDecoder::new(input))),
        (_, Inflating::Beside) => {}
    }
    std::thread::scope(|scope| {
        let (writer, mut reader) = pipe();
        scope.spawn(move || match compression {
            Compression::Zstd => writer.send_all(Decoding(Frames::new(input))),
            _ => writer.send_all(Decoding(MultiGzDecoder::new(input))),
        });
        let unpacked = unpack(&mut reader);
        // So that the other thread ends where unpacking failed.
        drop(reader);
        unpacked
    })
}

/// A decoder whose errors of what it was given are of one kind, [`io::ErrorKind::InvalidData`]; the system's come through as they are.
struct Decoding<R>(R);

impl<R: Read> Read for Decoding<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out).map_err(|error| {
            let is_own = error.raw_os_error().is_some();
            match is_own || error.kind() == io::ErrorKind::Interrupted {
                true => error,
                false => io::Error::new(io::ErrorKind::InvalidData, error),
            }
        })
    }
}

struct HashingReader<'a> {
    inner: &'a mut dyn Read,
    hasher: Option<Hasher>,
}

impl Read for HashingReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&out[..count]);
        }
        Ok(count)
    }
}

/// A layer's tree before it is recorded.
pub(crate) struct FreshTree {
    pub(crate) name: String,
    pub(crate) unpacked: Unpacked,
}

impl FreshTree {
    /// Whether it is finished only when layers below have come.
    pub(crate) fn waits(&self, lease: &Lease, parent: Option<&ChainId>) -> bool {
        !self.unpacked.implied.is_empty() && !lease.is_settled(parent)
    }
}

impl Lease {
    /// Gives left-out directories what the layers below say, and records the tree, which must be all that is not synced yet.
    pub(crate) fn finish_layer(
        &self,
        diff_id: &DiffId,
        parent: Option<&ChainId>,
        fresh: &FreshTree,
        before_record: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<LayerRecord, StoreError> {
        let store = self.store();
        let implied = &fresh.unpacked.implied;
        if !implied.is_empty() {
            let lowers = self.wait_for_chain(parent)?;
            let lowers = open_trees(store, &lowers)?;
            let lowers: Vec<BorrowedFd<'_>> = lowers.borrowed();
            let tree = store.open_tree(&fresh.name)?;
            dhow_layer::inherit(tree.as_fd(), implied, &lowers).map_err(unpacking(diff_id))?;
        }
        store.sync()?;
        before_record()?;
        let mut record = store.record(
            &fresh.name,
            fresh.unpacked.tar_size,
            fresh.unpacked.entries,
            false,
        );
        // Only a layer that leaves nothing out is the same on top of every other.
        record.leaves_out = !implied.is_empty();
        let parent = parent.filter(|_| !implied.is_empty());
        self.record_once(diff_id, parent, record)
    }

    /// Makes the record, or gives the one that another made meanwhile, whose tree may be in use by now; then this tree goes.
    fn record_once(
        &self,
        diff_id: &DiffId,
        parent: Option<&ChainId>,
        record: LayerRecord,
    ) -> Result<LayerRecord, StoreError> {
        let store = self.store();
        let lock = store.lock_work(&format!("{}.record", record_name(diff_id, parent)), || {
            false
        })?;
        let recorded = match self.hold_layer(diff_id, parent) {
            Ok(Some(other)) => store.remove_tree(&record.tree).map(|()| other),
            Ok(None) => store
                .write_record(diff_id, parent, &record)
                .map(|()| record),
            Err(error) => Err(error),
        };
        if let Some((path, _locked)) = lock {
            remove_file(&path)?;
        }
        recorded
    }

    /// The trees of these layers, lowest first, held by the lease; what is missing is unpacked from its blob.
    pub(crate) fn ensure_layers(
        &self,
        diff_ids: &[DiffId],
        blobs: &[Descriptor],
    ) -> Result<Vec<LayerRecord>, StoreError> {
        if let Ok(records) = self.hold_layers(diff_ids)? {
            return Ok(records);
        }
        let mut records = Vec::new();
        let mut parent: Option<ChainId> = None;
        for (index, diff_id) in diff_ids.iter().enumerate() {
            let record = match self.hold_layer(diff_id, parent.as_ref())? {
                Some(record) => record,
                None => self.unpack_blob(diff_id, parent.as_ref(), blobs.get(index))?,
            };
            let chain = ChainId::above(parent.as_ref(), diff_id);
            let state = ChainState::There {
                parent: parent.replace(chain.clone()),
                tree: record.tree.clone(),
            };
            self.set_chain(chain, state);
            records.push(record);
        }
        Ok(records)
    }

    /// Unpacks a layer from its blob in the store; the chain below must be known to the lease.
    pub(crate) fn unpack_blob(
        &self,
        diff_id: &DiffId,
        parent: Option<&ChainId>,
        blob: Option<&Descriptor>,
    ) -> Result<LayerRecord, StoreError> {
        let store = self.store();
        let noted = store.compressed(diff_id)?;
        let missing = || {
            damaged(
                format!("layer {diff_id}"),
                "neither its tree nor its blob is there",
            )
        };
        let digest = digest_of(blob.or(noted.as_ref()).ok_or_else(missing)?)?;
        self.hold_blobs([&digest])?;
        let path = store.blob_path(&digest);
        if !store.has_blob(&digest) {
            return Err(missing());
        }
        // Only one unpacks; the others find its tree.
        let work = format!("{}-{}.tree", diff_id.0.algorithm().name(), diff_id.0.hex());
        let mut lock = store.lock_work(&work, || false)?;
        if let Some(record) = self.hold_layer(diff_id, parent)? {
            if let Some((path, _locked)) = lock {
                remove_file(&path)?;
            }
            return Ok(record);
        }
        let file = File::open(&path).map_err(io("opening the blob", &path))?;
        let file = BufReader::with_capacity(128 * 1024, file);
        let name = self.new_tree()?;
        let tree = store.open_tree(&name)?;
        let options = UnpackOptions {
            flavour: store.flavour(),
        };
        let unpacked = unpack_stream(&tree, options, Inflating::Beside, file, true)
            .map_err(unpacking(diff_id));
        let finished = unpacked.and_then(|(unpacked, found)| {
            check_diff_id(diff_id, found.as_ref())?;
            let fresh = FreshTree {
                name: name.clone(),
                unpacked,
            };
            if fresh.waits(self, parent)
                && let Some((path, _locked)) = lock.take()
            {
                // The layer that is waited for may be this one, further down.
                remove_file(&path)?;
            }
            self.finish_layer(diff_id, parent, &fresh, || Ok(()))
        });
        if finished.is_err() {
            let _ = store.remove_tree(&name);
        }
        if let Some((path, _locked)) = lock {
            remove_file(&path)?;
        }
        finished
    }
}

/// That a layer's bytes are those that the image's config names.
pub(crate) fn check_diff_id(expected: &DiffId, found: Option<&DiffId>) -> Result<(), StoreError> {
    match found {
        Some(found) if found == expected => Ok(()),
        found => Err(StoreError::Digest {
            what: "the layer's tar".to_owned(),
            expected: expected.to_string(),
            found: found.map_or_else(|| "none".to_owned(), ToString::to_string),
        }),
    }
}

pub(crate) fn unpacking(diff_id: &DiffId) -> impl FnOnce(UnpackError) -> StoreError {
    let layer = diff_id.0.short().to_owned();
    move |source| StoreError::Unpack { layer, source }
}

/// Trees that are open.
pub(crate) struct OpenTrees {
    trees: Vec<OwnedFd>,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl OpenTrees {
    /// Their descriptors, in the order in which they were named.
    pub(crate) fn borrowed(&self) -> Vec<BorrowedFd<'_>> {
        self.trees.iter().map(AsFd::as_fd).collect()
    }
}

/// Opens these trees. Of several threads that want very many, one has them at a time: each might hold half of the
/// descriptors that a process may have.
pub(crate) fn open_trees(store: &Store, trees: &[String]) -> Result<OpenTrees, StoreError> {
    const MANY: usize = 64;
    static TURN: Mutex<()> = Mutex::new(());
    let turn = (trees.len() > MANY).then(|| TURN.lock().unwrap_or_else(PoisonError::into_inner));
    let trees = trees.iter().map(|tree| store.open_tree(tree));
    Ok(OpenTrees {
        trees: trees.collect::<Result<_, _>>()?,
        _turn: turn,
    })
}
