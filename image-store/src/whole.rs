//! Whether an image is all here, as far as it can be told without reading its layers.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use dhow_image::{ChainId, Descriptor, Digest};

use crate::blobs::digest_of;
use crate::check::Flaw;
use crate::store::remove_file;
use crate::{Image, Store, StoreError};

/// A blob of this size is read again rather than believed when it is asked for: documents are, layers are not.
const SMALL: u64 = 4 << 20;

/// The names of the images to which blobs and layers belong.
pub(crate) type Owners = HashMap<Digest, BTreeSet<String>>;

impl Store {
    /// What is missing or plainly damaged of an image, in words; none where it looks whole. What a registry is known to hold need
    /// not be here, where the layer's tree is.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn lack(&self, image: &Image) -> Result<Option<String>, StoreError> {
        for document in [image.descriptor(), image.manifest().config()] {
            let digest = digest_of(document)?;
            if self.digest_of_file(&digest)? != Some(digest) {
                return Ok(Some(format!("{} is damaged", document.digest())));
            }
        }
        let mut parent: Option<ChainId> = None;
        for (diff_id, blob) in image.diff_ids.iter().zip(image.manifest.layers()) {
            let digest = digest_of(blob)?;
            let has_tree = self.layer(diff_id, parent.as_ref())?.is_some();
            let size = self.blob_size(&digest)?;
            if !has_tree {
                return Ok(Some(format!(
                    "the tree of layer {} is missing",
                    diff_id.0.short()
                )));
            }
            if size.is_some_and(|size| size != blob.size()) {
                return Ok(Some(format!("blob {digest} has the wrong size")));
            }
            if size.is_none() && !self.can_do_without(&digest)? {
                return Ok(Some(format!("blob {digest} is missing")));
            }
            parent = Some(ChainId::above(parent.as_ref(), diff_id));
        }
        Ok(None)
    }

    /// Whether containers of an image can be made: each layer's tree is here, or a blob to make it from.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn is_runnable(&self, image: &Image) -> Result<bool, StoreError> {
        Ok(self.missing_to_run(image)?.is_empty())
    }

    /// The blobs of an image that containers of it cannot be made without, and that are not here: of layers whose tree is not here either.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn missing_to_run(&self, image: &Image) -> Result<Vec<Descriptor>, StoreError> {
        let mut missing = Vec::new();
        let mut parent: Option<ChainId> = None;
        for (diff_id, blob) in image.diff_ids.iter().zip(image.manifest.layers()) {
            if self.layer(diff_id, parent.as_ref())?.is_none() && !self.has_blob(&digest_of(blob)?)
            {
                missing.push(blob.clone());
            }
            parent = Some(ChainId::above(parent.as_ref(), diff_id));
        }
        Ok(missing)
    }

    /// Whether the blob of a layer whose tree is here need not be: a registry has it, or the tree packs to it.
    fn can_do_without(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.is_dropped(digest) || self.is_packable(digest)?)
    }

    /// Removes a blob that is not what its name says, so that it is taken anew: one of another size than it is announced with, or
    /// a small one with other bytes. What has the right digest stays, whatever is announced. Gives
    /// whether one was removed.
    pub(crate) fn remove_damaged(
        &self,
        descriptor: &Descriptor,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let path = self.blob_path(digest);
        let Ok(found) = fs::metadata(&path) else {
            return Ok(false);
        };
        if found.len() == descriptor.size() && found.len() > SMALL {
            return Ok(false);
        }
        if !self.is_bad(digest)? {
            return Ok(false);
        }
        // Another process may have put a good one in its place meanwhile.
        match fs::metadata(&path) {
            Ok(now) if now.ino() == found.ino() => remove_file(&path).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Whether a blob is here and is not what its name says.
    pub(crate) fn is_bad(&self, digest: &Digest) -> Result<bool, StoreError> {
        let found = self.digest_of_file(digest)?;
        Ok(found.is_some_and(|found| found != *digest))
    }

    /// Adds to `flaws` what the images that have names lack; whose parts the blobs and layers are.
    pub(crate) fn check_images(&self, flaws: &mut Vec<Flaw>) -> Result<Owners, StoreError> {
        let mut owners = Owners::new();
        for (path, tag) in self.tags()? {
            let digest = digest_of(&tag.manifest)?;
            let name = match &tag.reference {
                Some(reference) => reference.familiar(),
                None => digest.to_string(),
            };
            owners.entry(digest).or_default().insert(name.clone());
            let image = match Image::read(self, &tag.manifest) {
                Ok(image) => image,
                // Removed since its name was read.
                Err(_) if !path.exists() => continue,
                Err(error @ StoreError::Io { .. }) => return Err(error),
                Err(error) => {
                    flaws.push(Flaw {
                        what: format!("image {name}"),
                        reason: error.to_string(),
                        repaired: false,
                        remedy: Some(pull(&name)),
                    });
                    continue;
                }
            };
            self.check_layers(&image, &name, &mut owners, flaws)?;
        }
        Ok(owners)
    }

    fn check_layers(
        &self,
        image: &Image,
        name: &str,
        owners: &mut Owners,
        flaws: &mut Vec<Flaw>,
    ) -> Result<(), StoreError> {
        let mut own = |digest: &Digest| {
            owners
                .entry(digest.clone())
                .or_default()
                .insert(name.to_owned());
        };
        own(image.id());
        let mut parent: Option<ChainId> = None;
        for (diff_id, blob) in image.diff_ids.iter().zip(image.manifest.layers()) {
            let digest = digest_of(blob)?;
            own(&digest);
            own(&diff_id.0);
            let has_tree = self.layer(diff_id, parent.as_ref())?.is_some();
            parent = Some(ChainId::above(parent.as_ref(), diff_id));
            if self.has_blob(&digest) {
                continue;
            }
            let reason = match has_tree {
                false => "neither its tree nor its blob is here",
                true if self.can_do_without(&digest)? => continue,
                true => "its blob is not here, and no registry is known to have it",
            };
            flaws.push(Flaw {
                what: format!("layer {} of image {name}", diff_id.0.short()),
                reason: reason.to_owned(),
                repaired: false,
                remedy: Some(pull(name)),
            });
        }
        Ok(())
    }
}

/// How an image is had again.
pub(crate) fn pull(name: &str) -> String {
    format!("`dhow pull {name}` fetches it again")
}
