//! Collection of what nothing refers to any more.

#![allow(clippy::todo)]

use crate::{Store, StoreError};

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs.
    pub blobs: u64,
    /// Unpacked layers.
    pub trees: u64,
    /// Bytes of blobs and of unpacked layers.
    pub bytes: u64,
}

impl Store {
    /// Removes all that no reference, container, cache entry or living process uses.
    ///
    /// # Errors
    /// When the store cannot be read, or something cannot be removed.
    pub fn collect(&self) -> Result<Collected, StoreError> {
        todo!()
    }

    /// Removes the build cache and images without a reference that no container uses, then collects.
    ///
    /// # Errors
    /// As [`Store::collect`].
    pub fn prune(&self) -> Result<Collected, StoreError> {
        todo!()
    }
}
