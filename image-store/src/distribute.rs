//! Gets an image ready for the way out: every layer as a compressed blob.

#![allow(clippy::todo)]

use dhow_image::Progress;

use crate::{Image, Lease, Store, StoreError};

impl Store {
    /// Makes a gzip blob of every layer that has no blob yet, and a manifest that names them; references move to it.
    /// The image's id stays. An image that has all its blobs is given back as it is.
    ///
    /// # Errors
    /// When a layer cannot be packed or a blob not be written.
    pub fn distributable(
        &self,
        _lease: &Lease,
        _image: &Image,
        _progress: &dyn Progress,
    ) -> Result<Image, StoreError> {
        todo!()
    }
}
