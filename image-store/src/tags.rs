//! References: the names of images, and how they are found by them.

#![allow(clippy::todo)]

use dhow_image::{Descriptor, Digest, ImageReference};

use crate::{Image, Store, StoreError};

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The references that are gone.
    pub untagged: Vec<ImageReference>,
    /// The ids of the images that have no reference any more.
    pub deleted: Vec<Digest>,
}

impl Store {
    /// Finds an image by a reference, or by its id (`sha256:...`, or the beginning of its digits).
    ///
    /// # Errors
    /// When there is none, or the beginning of an id fits several.
    pub fn find(&self, _name: &str) -> Result<Image, StoreError> {
        todo!()
    }

    /// The image that `reference` names.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn image(&self, _reference: &ImageReference) -> Result<Option<Image>, StoreError> {
        todo!()
    }

    /// All images, each once, with all its references; latest made first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn images(&self) -> Result<Vec<Image>, StoreError> {
        todo!()
    }

    /// Lets `reference` name the image with this manifest, which must be in the store. Durable when it returns.
    ///
    /// # Errors
    /// When the manifest is missing, or the reference cannot be written.
    pub fn tag(
        &self,
        _reference: &ImageReference,
        _manifest: &Descriptor,
    ) -> Result<(), StoreError> {
        todo!()
    }

    /// Keeps an image that no reference names (a build without a tag), until it is removed by its id or pruned.
    ///
    /// # Errors
    /// As [`Store::tag`].
    pub fn keep(&self, _manifest: &Descriptor) -> Result<(), StoreError> {
        todo!()
    }

    /// Removes a reference, or by an id the image with all its references. What then nothing uses is collected.
    ///
    /// # Errors
    /// When there is no such image, or, unless `force`, a container uses it or an id has several references.
    pub fn remove(&self, _name: &str, _force: bool) -> Result<Removed, StoreError> {
        todo!()
    }
}
