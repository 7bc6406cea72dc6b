//! Compressed blobs that a registry holds and the store does without: their layers are here as trees, and they are fetched again
//! when they are needed.

use std::collections::{HashMap, HashSet};
use std::fs;

use dhow_image::{ChainId, Descriptor, DiffId, Digest, Links, is_nondistributable};

use crate::blobs::digest_of;
use crate::collect::Collected;
use crate::reach::Walk;
use crate::store::{remove_file, sync_directory};
use crate::{Image, Store, StoreError};

/// A blob of an image's layer that is not in the store.
struct MissingBlob {
    /// Names it, as the manifest does.
    descriptor: Descriptor,
    /// The layer that it is the compressed form of.
    diff_id: DiffId,
}

/// What of the layers of the images can go, and what must stay because some image has no tree for it.
#[derive(Default)]
struct Droppable {
    sizes: HashMap<Digest, u64>,
    needed: HashSet<Digest>,
}

impl Store {
    /// Removes the blobs of layers that a registry is known to hold, where every image that has the layer has its tree, and no
    /// living process uses them.
    ///
    /// # Errors
    /// When the store cannot be read, or a blob not be removed.
    pub fn drop_blobs(&self) -> Result<Collected, StoreError> {
        let _collection = self.lock_collection()?;
        let noted = self.droppable()?;
        // What is known of where they are must outlive a crash as soon as they are gone.
        self.sync()?;
        let lock = self.lock_exclusive()?;
        let held = self.held_blobs()?;
        let mut collected = Collected::default();
        for (digest, size) in self.droppable()? {
            if held.contains(&digest) || !noted.contains_key(&digest) {
                continue;
            }
            remove_file(&self.blob_path(&digest))?;
            collected.blobs += 1;
            collected.bytes += size;
        }
        drop(lock);
        for directory in ["blobs/sha256", "blobs/sha512"] {
            sync_directory(&self.path(directory))?;
        }
        Ok(collected)
    }

    /// The blobs of an image's layers that are not in the store, lowest first. A layer in its tar form needs none where its tree
    /// packs to it.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn missing_blobs(&self, image: &Image) -> Result<Vec<Descriptor>, StoreError> {
        Ok(descriptors(self.missing_layers(image)?))
    }

    fn missing_layers(&self, image: &Image) -> Result<Vec<MissingBlob>, StoreError> {
        let mut missing = Vec::new();
        for (descriptor, diff_id) in image.manifest.layers().iter().zip(&image.diff_ids) {
            let digest = digest_of(descriptor)?;
            if self.has_blob(&digest) || self.is_packable(&digest)? {
                continue;
            }
            missing.push(MissingBlob {
                descriptor: descriptor.clone(),
                diff_id: diff_id.clone(),
            });
        }
        Ok(missing)
    }

    /// Of those, the blobs without which the layer's tar cannot be had: the tree does not pack to the bytes of the DiffId.
    ///
    /// # Errors
    /// When a tree cannot be read.
    pub fn missing_tars(&self, image: &Image) -> Result<Vec<Descriptor>, StoreError> {
        let mut missing = self.missing_layers(image)?;
        let mut parent: Option<ChainId> = None;
        for diff_id in &image.diff_ids {
            let record = self.layer(diff_id, parent.as_ref())?;
            parent = Some(ChainId::above(parent.as_ref(), diff_id));
            let is_missing = missing.iter().any(|blob| blob.diff_id == *diff_id);
            if let Some(record) = record.filter(|_| is_missing)
                && (record.tar_form.is_some()
                    || self.packed_digest(diff_id, &record.tree)? == *diff_id)
            {
                missing.retain(|blob| blob.diff_id != *diff_id);
            }
        }
        Ok(descriptors(missing))
    }

    /// Whether a blob that is not here can be had again: a registry is known to hold it.
    pub(crate) fn is_dropped(&self, digest: &Digest) -> bool {
        !self.has_blob(digest) && self.locations().are_known(digest)
    }

    /// Whether this is the tar form of a layer whose tree packs to it.
    pub(crate) fn is_packable(&self, digest: &Digest) -> Result<bool, StoreError> {
        let record = self.layer(&DiffId(digest.clone()), None)?;
        Ok(record.is_some_and(|record| record.tar_form.is_some()))
    }

    fn droppable(&self) -> Result<HashMap<Digest, u64>, StoreError> {
        let mut found = self.weigh_all(self.roots()?)?;
        found
            .sizes
            .retain(|digest, _| !found.needed.contains(digest));
        Ok(found.sizes)
    }

    /// The blobs without which an index's images cannot all be had: some are here as nothing else, or no registry is known to have them.
    pub(crate) fn needed_blobs(&self, index: &Digest) -> Result<HashSet<Digest>, StoreError> {
        Ok(self.weigh_all(vec![index.clone()])?.needed)
    }

    /// Sorts the layers of all images that these documents are or name.
    fn weigh_all(&self, documents: Vec<Digest>) -> Result<Droppable, StoreError> {
        let mut found = Droppable::default();
        let mut walk = Walk::new(self);
        for document in documents {
            walk.from(document, &mut |_, links| match links {
                Some(links) => self.weigh(links, &mut found),
                None => Ok(()),
            })?;
        }
        Ok(found)
    }

    /// Sorts the layers of one image.
    fn weigh(&self, links: &Links, found: &mut Droppable) -> Result<(), StoreError> {
        // Nothing else tells what is in it.
        if let Some(config) = &links.config {
            found.needed.insert(digest_of(config)?);
        }
        let trees = self.layers_of(links)?;
        let is_image = trees.len() == links.layers.len();
        for (at, layer) in links.layers.iter().enumerate() {
            let digest = digest_of(layer)?;
            let has_tree = is_image && trees.get(at).is_some_and(|(_, tree)| tree.is_some());
            // What its maker does not want to be distributed need not be in the registry that names it.
            let is_foreign = is_nondistributable(layer.media_type());
            if !has_tree || is_foreign || !self.locations().are_known(&digest) {
                found.needed.insert(digest);
            } else if let Ok(file) = fs::metadata(self.blob_path(&digest)) {
                found.sizes.insert(digest, file.len());
            }
        }
        Ok(())
    }
}

fn descriptors(missing: Vec<MissingBlob>) -> Vec<Descriptor> {
    missing.into_iter().map(|blob| blob.descriptor).collect()
}
