//! Leases: what a living process makes or uses is not collected.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use dhow_image::{ChainId, Descriptor, DiffId, Digest};
use rustix::fs::FlockOperation;

use crate::blobs::digest_of;
use crate::error::{damaged, io};
use crate::layers::LayerRecord;
use crate::settling::Settling;
use crate::store::{flock, random_name};
use crate::{Image, Store, StoreError};

/// Keeps what is made or used under it from collection until it is dropped, by which time a durable reference should stand.
/// Clones are the same lease.
#[derive(Clone, Debug)]
pub struct Lease {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    path: PathBuf,
    /// Open and locked as long as the lease lives.
    file: File,
    /// The layers that are being taken in or were offered under this lease.
    chains: Mutex<HashMap<ChainId, ChainState>>,
    changed: Condvar,
    /// Layers that become durable beside what is done under this lease.
    settling: Arc<Settling>,
    /// Also blobs that a registry has and that the store can do without.
    takes_all: bool,
}

/// How far a layer that was offered under a lease has come.
#[derive(Clone, Debug)]
pub(crate) enum ChainState {
    /// Its bytes are still coming. Of one that was announced, only its announcer says that it does not come after all.
    Coming { announced: bool },
    /// Its tree is there, on top of this chain.
    There {
        parent: Option<ChainId>,
        tree: String,
    },
    /// Whoever was to write it gave up.
    Failed,
}

impl Store {
    /// A new lease.
    ///
    /// # Errors
    /// When its file cannot be made.
    pub fn lease(&self) -> Result<Lease, StoreError> {
        self.make_lease(false)
    }

    /// A lease under which all blobs that are offered are taken, also those that a registry is known to have: who offers them has
    /// their bytes at hand.
    pub(crate) fn taking_lease(&self) -> Result<Lease, StoreError> {
        self.make_lease(true)
    }

    fn make_lease(&self, takes_all: bool) -> Result<Lease, StoreError> {
        let path = self.path("leases").join(random_name(12)?);
        // Under the lock no collection can take the file for a dead one's before it is locked.
        let _lock = self.lock_shared()?;
        let mut options = File::options();
        let file = options
            .append(true)
            .create_new(true)
            .open(&path)
            .map_err(io("making the lease", &path))?;
        flock(&file, FlockOperation::LockExclusive).map_err(io("locking the lease", &path))?;
        let inner = Inner {
            store: self.clone(),
            path,
            file,
            chains: Mutex::default(),
            changed: Condvar::new(),
            settling: Arc::default(),
            takes_all,
        };
        Ok(Lease {
            inner: Arc::new(inner),
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A record must not appear after its tree is nobody's.
        let _ = self.settling.settle();
        let _ = fs::remove_file(&self.path);
    }
}

impl Lease {
    /// The store.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    pub(crate) fn takes_all(&self) -> bool {
        self.inner.takes_all
    }

    /// Keeps a small blob (a config, a manifest).
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        self.hold_blobs([&Digest::of(bytes)])?;
        self.store().write_blob(bytes)
    }

    /// Keeps an image that is in the store: its documents, blobs and trees.
    ///
    /// # Errors
    /// When the lease cannot be written, or the image is gone by now.
    pub fn hold(&self, image: &Image) -> Result<(), StoreError> {
        let mut digests = vec![digest_of(&image.descriptor)?, image.id.clone()];
        for layer in image.manifest.layers() {
            digests.push(digest_of(layer)?);
        }
        self.hold_blobs(&digests)?;
        if !self.store().has_blob(&digests[0]) {
            return Err(StoreError::NoSuchImage(image.id.to_string()));
        }
        let _ = self.hold_layers(&image.diff_ids)?;
        Ok(())
    }

    /// Keeps blobs, whether they are there already or not.
    pub(crate) fn hold_blobs<'a>(
        &self,
        digests: impl IntoIterator<Item = &'a Digest>,
    ) -> Result<(), StoreError> {
        let lines: String = digests
            .into_iter()
            .map(|digest| format!("blob {digest}\n"))
            .collect();
        let _lock = self.store().lock_shared()?;
        self.append(&lines)
    }

    /// Keeps a tree, which may not be there yet.
    pub(crate) fn hold_tree(&self, tree: &str) -> Result<(), StoreError> {
        let _lock = self.store().lock_shared()?;
        self.append(&format!("tree {tree}\n"))
    }

    /// Keeps the trees of these layers, lowest first; where one is missing, its index instead.
    pub(crate) fn hold_layers(
        &self,
        diff_ids: &[DiffId],
    ) -> Result<Result<Vec<LayerRecord>, usize>, StoreError> {
        let _lock = self.store().lock_shared()?;
        let found = self.records(diff_ids)?;
        if let Ok(records) = &found {
            let lines: String = records
                .iter()
                .map(|record| format!("tree {}\n", record.tree))
                .collect();
            self.append(&lines)?;
        }
        Ok(found)
    }

    /// Keeps the tree of one layer.
    pub(crate) fn hold_layer(
        &self,
        diff_id: &DiffId,
        parent: Option<&ChainId>,
    ) -> Result<Option<LayerRecord>, StoreError> {
        let _lock = self.store().lock_shared()?;
        let found = self.record(diff_id, parent)?;
        if let Some(record) = &found {
            self.append(&format!("tree {}\n", record.tree))?;
        }
        Ok(found)
    }

    /// The layer's record, be it written yet or not.
    fn record(
        &self,
        diff_id: &DiffId,
        parent: Option<&ChainId>,
    ) -> Result<Option<LayerRecord>, StoreError> {
        match self.settling().record(diff_id) {
            Some(record) => Ok(Some(record)),
            None => self.store().layer(diff_id, parent),
        }
    }

    fn records(&self, diff_ids: &[DiffId]) -> Result<Result<Vec<LayerRecord>, usize>, StoreError> {
        let mut records = Vec::with_capacity(diff_ids.len());
        let mut parent: Option<ChainId> = None;
        for (index, diff_id) in diff_ids.iter().enumerate() {
            match self.record(diff_id, parent.as_ref())? {
                Some(record) => records.push(record),
                None => return Ok(Err(index)),
            }
            parent = Some(ChainId::above(parent.as_ref(), diff_id));
        }
        Ok(Ok(records))
    }

    pub(crate) fn settling(&self) -> &Arc<Settling> {
        &self.inner.settling
    }

    /// A new, empty tree.
    pub(crate) fn new_tree(&self) -> Result<String, StoreError> {
        self.store().make_tree(|name| self.hold_tree(name))
    }

    fn append(&self, lines: &str) -> Result<(), StoreError> {
        (&self.inner.file)
            .write_all(lines.as_bytes())
            .map_err(io("writing the lease", &self.inner.path))
    }

    pub(crate) fn set_chain(&self, chain: ChainId, state: ChainState) {
        self.chains().insert(chain, state);
        self.inner.changed.notify_all();
    }

    /// That a layer is about to be begun.
    pub(crate) fn announce_chain(&self, chain: ChainId) {
        let mut chains = self.chains();
        if !matches!(chains.get(&chain), Some(ChainState::There { .. })) {
            chains.insert(chain, ChainState::Coming { announced: true });
        }
    }

    /// That a layer is begun.
    pub(crate) fn begin_chain(&self, chain: ChainId) {
        let mut chains = self.chains();
        if !matches!(chains.get(&chain), Some(ChainState::Coming { .. })) {
            chains.insert(chain, ChainState::Coming { announced: false });
        }
    }

    /// That a layer's writer, or its announcer, gave up.
    pub(crate) fn give_up_chain(&self, chain: &ChainId, by_announcer: bool) {
        let mut chains = self.chains();
        if let Some(state) = chains.get_mut(chain)
            && let ChainState::Coming { announced } = *state
            && (by_announcer || !announced)
        {
            *state = ChainState::Failed;
            self.inner.changed.notify_all();
        }
    }

    /// The trees of `chain`, topmost first, after waiting for those that are still coming. Nobody may wait here with a lock
    /// on a blob or a layer: who brings what is waited for may need the same one.
    pub(crate) fn wait_for_chain(
        &self,
        chain: Option<&ChainId>,
    ) -> Result<Vec<String>, StoreError> {
        let mut trees = Vec::new();
        let mut next = chain.cloned();
        let mut chains = self.chains();
        while let Some(chain) = &next {
            match chains.get(chain) {
                Some(ChainState::There { parent, tree }) => {
                    trees.push(tree.clone());
                    next = parent.clone();
                }
                Some(ChainState::Coming { .. }) => {
                    chains = self
                        .inner
                        .changed
                        .wait(chains)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                Some(ChainState::Failed) => {
                    return Err(damaged(chain, "the layer below did not arrive"));
                }
                None => {
                    return Err(damaged(chain, "the layer below was never offered"));
                }
            }
        }
        Ok(trees)
    }

    /// Whether the trees of `chain` are there, as far as this lease knows.
    pub(crate) fn has_chain(&self, chain: Option<&ChainId>) -> bool {
        let chains = self.chains();
        chain.is_none_or(|chain| matches!(chains.get(chain), Some(ChainState::There { .. })))
    }

    /// Whether nothing of `chain` is still coming, so that it is not waited for.
    pub(crate) fn is_settled(&self, chain: Option<&ChainId>) -> bool {
        let chains = self.chains();
        let mut next = chain;
        while let Some(state) = next.and_then(|chain| chains.get(chain)) {
            next = match state {
                ChainState::Coming { .. } => return false,
                ChainState::There { parent, .. } => parent.as_ref(),
                ChainState::Failed => None,
            };
        }
        true
    }

    fn chains(&self) -> MutexGuard<'_, HashMap<ChainId, ChainState>> {
        self.inner
            .chains
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A descriptor of a blob of this type.
pub(crate) fn descriptor(
    media_type: oci_spec::image::MediaType,
    size: u64,
    digest: &Digest,
) -> Descriptor {
    Descriptor::new(media_type, size, digest)
}
