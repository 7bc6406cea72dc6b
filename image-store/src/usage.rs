//! How much room the store takes, and for what.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use dhow_image::{ChainId, Descriptor, DiffId, Digest};

use crate::blobs::digest_of;
use crate::store::{names, read};
use crate::{Image, Store, StoreError};

/// What one kind of things takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// How many there are.
    pub total: u64,
    /// How many of them are in use.
    pub active: u64,
    /// Their bytes; what several share is counted once.
    pub bytes: u64,
    /// The bytes that removing those not in use would free.
    pub reclaimable: u64,
}

/// What the store's room is taken by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Images: their unpacked layers and their blobs. Those that containers use are active.
    pub images: Share,
    /// What containers wrote. All count as active: the store does not know which of them run.
    pub containers: Share,
    /// Layers that only the build cache keeps.
    pub cache: Share,
    /// How many blobs of layers are not kept, because a registry has them.
    pub dropped_blobs: u64,
    /// Their bytes, which count nowhere else.
    pub dropped_bytes: u64,
}

/// Trees and blobs with their sizes, each counted once.
#[derive(Default)]
struct Counted {
    trees: HashSet<String>,
    blobs: HashSet<Digest>,
    bytes: u64,
    /// Blobs that are elsewhere, with their bytes there.
    dropped: HashMap<Digest, u64>,
}

impl Store {
    /// Counts what is there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let mut usage = Usage::default();
        let mut used = HashSet::new();
        for owner in names(&self.path("containers"))? {
            if let Some(uses) = self.uses(&owner)? {
                used.insert(uses.image);
                usage.containers.total += 1;
                usage.containers.active += 1;
                let upper = self.path("containers").join(&owner).join("upper");
                usage.containers.bytes += bytes_below(&upper);
            }
        }
        let images = self.images()?;
        let mut counted = Counted::default();
        // Those in use first, so that what they share with others is not taken for reclaimable.
        let (active, idle): (Vec<&Image>, Vec<&Image>) =
            images.iter().partition(|image| used.contains(image.id()));
        for image in &active {
            self.count_all(image, &mut counted)?;
        }
        let active_bytes = counted.bytes;
        for image in &idle {
            self.count_all(image, &mut counted)?;
        }
        usage.images = Share {
            total: images.len() as u64,
            active: active.len() as u64,
            bytes: counted.bytes,
            reclaimable: counted.bytes - active_bytes,
        };
        usage.dropped_blobs = counted.dropped.len() as u64;
        usage.dropped_bytes = counted.dropped.values().sum();
        usage.cache = self.count_cache(&mut counted)?;
        Ok(usage)
    }

    /// Counts an image under all its manifests.
    fn count_all(&self, image: &Image, counted: &mut Counted) -> Result<(), StoreError> {
        let mut all = image.apart()?.into_iter();
        all.try_for_each(|image| self.count_image(&image, counted))
    }

    fn count_image(&self, image: &Image, counted: &mut Counted) -> Result<(), StoreError> {
        let mut parent: Option<ChainId> = None;
        for diff_id in image.diff_ids() {
            if let Some(record) = self.layer(diff_id, parent.as_ref())?
                && counted.trees.insert(record.tree)
            {
                counted.bytes += record.tar_size;
            }
            parent = Some(ChainId::above(parent.as_ref(), diff_id));
        }
        let documents = [image.descriptor(), image.manifest().config()];
        for blob in image.manifest().layers().iter().chain(documents) {
            let digest = digest_of(blob)?;
            match self.blob_size(&digest)? {
                Some(size) if counted.blobs.insert(digest.clone()) => counted.bytes += size,
                None if self.is_dropped(&digest) => {
                    counted.dropped.insert(digest, blob.size());
                }
                _ => {}
            }
        }
        for (_, index) in &image.indexes {
            self.count_index(index, counted)?;
        }
        Ok(())
    }

    /// What an index keeps besides the image that is run; what is missing of it counts nothing.
    fn count_index(&self, index: &Descriptor, counted: &mut Counted) -> Result<(), StoreError> {
        let Ok(tree) = self.tree(index) else {
            return Ok(());
        };
        let documents = tree.documents().iter().map(|document| &document.descriptor);
        for blob in documents.chain(tree.blobs()) {
            let digest = digest_of(blob)?;
            if let Some(size) = self.blob_size(&digest)?
                && counted.blobs.insert(digest)
            {
                counted.bytes += size;
            }
        }
        Ok(())
    }

    fn count_cache(&self, counted: &mut Counted) -> Result<Share, StoreError> {
        let mut share = Share::default();
        let directory = self.path("cache");
        for name in names(&directory)? {
            share.total += 1;
            let bytes = read(&directory.join(name))?.unwrap_or_default();
            let diff_id: Option<DiffId> = String::from_utf8_lossy(&bytes).trim().parse().ok();
            let record = match diff_id {
                Some(diff_id) => self.layer(&diff_id, None)?,
                None => None,
            };
            let Some(record) = record else {
                continue;
            };
            if counted.trees.insert(record.tree) {
                share.bytes += record.tar_size;
            } else {
                share.active += 1;
            }
        }
        share.reclaimable = share.bytes;
        Ok(share)
    }
}

/// The room that a tree takes on disk; what vanishes meanwhile counts nothing.
fn bytes_below(path: &Path) -> u64 {
    let mut bytes = 0;
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(found) = entry.metadata() else {
                continue;
            };
            if found.is_dir() {
                directories.push(entry.path());
            } else {
                bytes += found.blocks() * 512;
            }
        }
    }
    bytes
}
