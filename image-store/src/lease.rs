//! Leases: what a living process makes or uses is not collected.

#![allow(clippy::todo)]

use dhow_image::Digest;

use crate::{Store, StoreError};

/// Keeps what is made or used under it from collection until it is dropped, by which time a durable reference should stand.
#[derive(Debug)]
pub struct Lease {
    store: Store,
}

impl Store {
    /// A new lease.
    ///
    /// # Errors
    /// When its file cannot be made.
    pub fn lease(&self) -> Result<Lease, StoreError> {
        Ok(Lease {
            store: self.clone(),
        })
    }
}

impl Lease {
    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Keeps a small blob (a config, a manifest).
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, _bytes: &[u8]) -> Result<Digest, StoreError> {
        todo!()
    }
}
