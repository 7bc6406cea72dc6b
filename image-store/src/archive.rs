//! Images in one file: the OCI image layout in a tar (image-spec, image-layout.md).

#![allow(clippy::todo)]

use std::io::{Read, Write};

use dhow_image::{ImageReference, Progress};

use crate::{Image, Store, StoreError};

impl Store {
    /// Writes images with their references as an OCI archive.
    ///
    /// # Errors
    /// When a blob cannot be read or `out` not be written.
    pub fn save(&self, _images: &[Image], _out: impl Write) -> Result<(), StoreError> {
        todo!()
    }

    /// Takes the images of an OCI archive into the store, and tags those that it names.
    ///
    /// # Errors
    /// When it is no OCI archive, or a blob of it is damaged.
    pub fn load(
        &self,
        _input: impl Read + Send,
        _progress: &dyn Progress,
    ) -> Result<Vec<(Option<ImageReference>, Image)>, StoreError> {
        todo!()
    }
}
