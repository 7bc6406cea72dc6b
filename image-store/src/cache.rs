//! The build cache: which layer a step made.

#![allow(clippy::todo)]

use dhow_image::{DiffId, Digest};

use crate::{Store, StoreError};

impl Store {
    /// The layer that the step with this key made, where it is still there.
    ///
    /// # Errors
    /// When the entry cannot be read.
    pub fn cached(&self, _key: &Digest) -> Result<Option<DiffId>, StoreError> {
        todo!()
    }

    /// Remembers which layer the step with this key made.
    ///
    /// # Errors
    /// When the entry cannot be written.
    pub fn remember(&self, _key: &Digest, _layer: &DiffId) -> Result<(), StoreError> {
        todo!()
    }
}
