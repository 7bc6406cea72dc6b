//! A config and layers become an image.

#![allow(clippy::todo)]

use dhow_image::{DiffId, ImageConfiguration};

use crate::{Image, Lease, StoreError};

impl Lease {
    /// Makes an image of `layers`, lowest first. The config's own list of layers is replaced by them; a layer that has no
    /// compressed blob yet is named in its tar form. The image is gone with the lease unless it is tagged or kept.
    ///
    /// # Errors
    /// When a layer is missing or the documents cannot be written.
    pub fn commit_image(
        &self,
        _config: &ImageConfiguration,
        _layers: &[DiffId],
    ) -> Result<Image, StoreError> {
        todo!()
    }
}
