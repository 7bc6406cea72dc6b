//! Images for several platforms that are kept as a whole under one name.

use dhow_image::{
    Descriptor, DocumentKind, ImageIndex, ImageReference, ImageTree, Platform, is_nondistributable,
};

use crate::blobs::digest_of;
use crate::check::Flaw;
use crate::error::damaged;
use crate::{Image, Lease, Store, StoreError};

impl Image {
    /// What its name stands for as a whole, where the images of all platforms are kept: the index that this image is one of.
    pub fn index(&self) -> Option<&Descriptor> {
        self.indexes.first().map(|(_, index)| index)
    }

    /// The same for one of its names; none for an image without a name.
    pub fn index_under(&self, name: Option<&ImageReference>) -> Option<&Descriptor> {
        let mut indexes = self.indexes.iter();
        let found = indexes.find(|(under, _)| under.as_ref() == name);
        found.map(|(_, index)| index)
    }

    /// What one of its names stands for: the index where the images of all platforms are kept, else the manifest.
    pub fn root_under(&self, name: Option<&ImageReference>) -> &Descriptor {
        let index = self.index_under(name);
        index.unwrap_or_else(|| self.manifest_under(name))
    }

    /// The indexes that any of its names stand for.
    pub fn indexes(&self) -> impl Iterator<Item = &Descriptor> {
        self.indexes.iter().map(|(_, index)| index)
    }

    /// The platforms that its index has; none where it has no index.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn platforms(&self) -> Result<Vec<Platform>, StoreError> {
        match self.index() {
            Some(index) => {
                let index = self.store.read_index(index)?;
                Ok(Platform::offered(index.manifests()))
            }
            None => Ok(Vec::new()),
        }
    }

    /// The image for a platform out of its index, under the same names; itself where it has no index.
    ///
    /// # Errors
    /// When the index has none for the platform, or cannot be read.
    pub fn for_platform(&self, platform: &Platform) -> Result<Self, StoreError> {
        let Some(index) = self.index() else {
            return Ok(self.clone());
        };
        let manifests = self.store.read_index(index)?;
        let Some(chosen) = platform.choose(manifests.manifests()) else {
            let offered = Platform::offered(manifests.manifests());
            let offered: Vec<String> = offered.iter().map(ToString::to_string).collect();
            return Err(StoreError::Invalid(format!(
                "{} is not there for {platform}; it is for {}",
                self.references
                    .first()
                    .map_or_else(|| self.id.to_string(), ImageReference::familiar),
                offered.join(", ")
            )));
        };
        if chosen.digest() == self.descriptor.digest() {
            return Ok(self.clone());
        }
        let mut image = Self::read(&self.store, &plain(chosen))?;
        image.references.clone_from(&self.references);
        image.indexes.clone_from(&self.indexes);
        Ok(image)
    }
}

impl Store {
    /// The image of an index that is to be run under its name: the one for `platform`, else the first that is an image at all.
    ///
    /// # Errors
    /// When it has no image, or a document of it is missing.
    pub fn image_of_index(
        &self,
        index: &Descriptor,
        platform: &Platform,
    ) -> Result<Image, StoreError> {
        let document = self.read_index(index)?;
        if let Some(chosen) = platform.choose(document.manifests()) {
            return Image::read(self, &plain(chosen));
        }
        let mut images = document.manifests().iter();
        let found = images.find_map(|manifest| Image::read(self, &plain(manifest)).ok());
        found.ok_or_else(|| {
            StoreError::Invalid(format!(
                "the index {} has no image that could be run",
                index.digest()
            ))
        })
    }

    /// Lets `reference` name what was copied into the store: an image, or an index with all its images, of which the one for `platform` is
    /// run. Durable when it returns.
    ///
    /// # Errors
    /// When it is no image, or a document of it is missing.
    pub fn tag_root(
        &self,
        reference: &ImageReference,
        root: &Descriptor,
        platform: &Platform,
    ) -> Result<Image, StoreError> {
        let mut image = match DocumentKind::of(root.media_type()) {
            Some(DocumentKind::Index) => {
                let mut image = self.image_of_index(root, platform)?;
                self.tag_whole(reference, image.descriptor(), Some(root))?;
                image.indexes = vec![(Some(reference.clone()), root.clone())];
                image
            }
            _ => {
                let image = Image::read(self, root)?;
                self.tag(reference, root)?;
                image
            }
        };
        image.references = vec![reference.clone()];
        Ok(image)
    }

    /// The documents of an index and what they name. All documents must be in the store.
    ///
    /// # Errors
    /// When one is missing or damaged.
    pub fn tree(&self, index: &Descriptor) -> Result<ImageTree, StoreError> {
        ImageTree::read(self, index).map_err(|error| damaged(index.digest(), error))
    }

    /// Whether everything that an index names is in the store, or was dropped from it because a registry has it.
    ///
    /// # Errors
    /// When one of its documents is damaged.
    pub fn is_whole(&self, index: &Descriptor) -> Result<bool, StoreError> {
        let root = digest_of(index)?;
        if !self.has_blob(&root) {
            return Ok(false);
        }
        let Ok(tree) = ImageTree::read(self, index) else {
            return Ok(false);
        };
        let mut missing = Vec::new();
        for blob in tree.blobs() {
            let digest = digest_of(blob)?;
            if !self.has_blob(&digest) {
                missing.push(digest);
            }
        }
        if missing.is_empty() {
            return Ok(true);
        }
        let needed = self.needed_blobs(&root)?;
        Ok(missing
            .iter()
            .all(|digest| self.is_dropped(digest) && !needed.contains(digest)))
    }

    /// The blobs that an index's images name and that are not in the store; those that no platform here can unpack are among them.
    ///
    /// # Errors
    /// When a document is missing or damaged.
    pub fn missing_of_index(&self, index: &Descriptor) -> Result<Vec<Descriptor>, StoreError> {
        let mut missing = Vec::new();
        for blob in self.tree(index)?.blobs() {
            let digest = digest_of(blob)?;
            if !self.has_blob(&digest) && !self.is_packable(&digest)? {
                missing.push(blob.clone());
            }
        }
        Ok(missing)
    }

    pub(crate) fn read_index(&self, index: &Descriptor) -> Result<ImageIndex, StoreError> {
        let digest = digest_of(index)?;
        serde_json::from_slice(&self.read_blob(&digest)?).map_err(|error| damaged(&digest, error))
    }

    /// What is missing of images for several platforms: no tree stands in for another platform's blob. What a registry is known to have
    /// can be fetched again.
    pub(crate) fn check_indexes(&self, flaws: &mut Vec<Flaw>) -> Result<(), StoreError> {
        for (_, tag) in self.tags()? {
            let Some(index) = &tag.index else {
                continue;
            };
            let name = tag.reference.as_ref();
            let name = name.map_or_else(|| index.digest().to_string(), ImageReference::familiar);
            let mut missing = |what: String, reason: String| {
                flaws.push(Flaw {
                    what: format!("{what} of {name}"),
                    reason,
                    repaired: false,
                    remedy: None,
                });
            };
            match ImageTree::read(self, index) {
                Err(error) => missing("a document".to_owned(), error.to_string()),
                Ok(tree) => {
                    for blob in tree.blobs() {
                        let digest = digest_of(blob)?;
                        let is_there = self.has_blob(&digest)
                            || self.locations().are_known(&digest)
                            || is_nondistributable(blob.media_type());
                        if !is_there {
                            let reason = "it is missing; pull or load it again".to_owned();
                            missing(format!("blob {digest}"), reason);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

impl Lease {
    /// Keeps an index that is in the store, with all that it names.
    ///
    /// # Errors
    /// When the lease cannot be written, or the index is gone by now.
    pub fn hold_index(&self, index: &Descriptor) -> Result<(), StoreError> {
        let digest = digest_of(index)?;
        // A collection follows the documents that a lease names.
        self.hold_blobs([&digest])?;
        match self.store().has_blob(&digest) {
            true => Ok(()),
            false => Err(StoreError::NoSuchImage(digest.to_string())),
        }
    }
}

/// A descriptor without what it says beyond naming its content.
pub(crate) fn plain(named: &Descriptor) -> Descriptor {
    let mut plain = named.clone();
    plain.set_annotations(None);
    plain.set_platform(None);
    plain
}
