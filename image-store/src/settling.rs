//! A build's layers become durable beside its next step, which needs only their trees.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use dhow_image::{DiffId, Digest};
use dhow_layer::Packed;

use crate::layers::LayerRecord;
use crate::{Lease, Store, StoreError};

/// The layers of one lease whose records are not written yet.
#[derive(Debug, Default)]
pub(crate) struct Settling(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// All that came this way, settled or not.
    known: HashMap<DiffId, LayerRecord>,
    /// What the next sync is for.
    waiting: Vec<(DiffId, LayerRecord)>,
    thread: Option<JoinHandle<()>>,
    /// The thread looks for more before it ends.
    is_running: bool,
    failed: Option<StoreError>,
}

impl Settling {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record that this layer has, or will have.
    pub(crate) fn record(&self, diff_id: &DiffId) -> Option<LayerRecord> {
        self.state().known.get(diff_id).cloned()
    }

    /// Has the tree of a layer synced and recorded, some time before [`Settling::settle`] returns.
    fn add(self: &Arc<Self>, store: &Store, diff_id: DiffId, record: LayerRecord) {
        let mut state = self.state();
        state.known.insert(diff_id.clone(), record.clone());
        state.waiting.push((diff_id, record));
        if !state.is_running {
            state.is_running = true;
            let (own, store) = (Arc::clone(self), store.clone());
            // The one before has seen that there is nothing more, and is about to end.
            state.thread = Some(std::thread::spawn(move || own.run(&store)));
        }
    }

    fn run(&self, store: &Store) {
        loop {
            let layers = {
                let mut state = self.state();
                if state.waiting.is_empty() || state.failed.is_some() {
                    state.is_running = false;
                    return;
                }
                std::mem::take(&mut state.waiting)
            };
            // One sync for all that were finished meanwhile.
            let written = store.sync().and_then(|()| {
                layers
                    .iter()
                    .try_for_each(|(diff_id, record)| store.write_record(diff_id, None, record))
            });
            if let Err(error) = written {
                self.state().failed = Some(error);
            }
        }
    }

    /// Waits until all that was added is durable.
    pub(crate) fn settle(&self) -> Result<(), StoreError> {
        let thread = self.state().thread.take();
        if let Some(thread) = thread {
            // It cannot panic but by a fault of ours, which the missing records then show.
            let _ = thread.join();
        }
        match self.state().failed.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Lease {
    /// As [`Lease::commit_tree`], but the layer becomes durable beside what is done next under this lease;
    /// an image that is committed waits for it.
    pub(crate) fn commit_tree_beside(
        &self,
        tree: &str,
        packed: Packed,
    ) -> Result<DiffId, StoreError> {
        let store = self.store();
        if self.hold_layer(&packed.diff_id, None)?.is_some() {
            store.remove_tree(tree)?;
            return Ok(packed.diff_id);
        }
        let record = store.record(tree, packed.size, packed.entries, true);
        let diff_id = packed.diff_id;
        self.settling().add(store, diff_id.clone(), record);
        Ok(diff_id)
    }

    /// The layer that the step with this key made, where it is still there, or is about to be by a step of this lease.
    ///
    /// # Errors
    /// When the entry cannot be read.
    pub fn cached(&self, key: &Digest) -> Result<Option<DiffId>, StoreError> {
        let store = self.store();
        let Some(diff_id) = store.remembered(key)? else {
            return Ok(None);
        };
        let is_there =
            self.settling().record(&diff_id).is_some() || store.layer(&diff_id, None)?.is_some();
        Ok(is_there.then_some(diff_id))
    }
}
