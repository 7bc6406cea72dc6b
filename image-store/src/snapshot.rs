//! Writable trees that become layers where they stand.

#![allow(clippy::todo)]

use std::path::Path;

use dhow_image::DiffId;

use crate::{Lease, StoreError};

/// A writable tree on top of layers. Dropping it unmounts and discards it.
#[derive(Debug)]
pub struct ActiveSnapshot {
    _private: (),
}

/// A snapshot that has become a layer.
#[derive(Clone, Debug)]
pub struct CommittedSnapshot {
    diff_id: DiffId,
}

impl Lease {
    /// A fresh writable tree on top of `layers`, lowest first.
    ///
    /// # Errors
    /// When a layer is missing.
    pub fn snapshot(&self, _layers: &[DiffId]) -> Result<ActiveSnapshot, StoreError> {
        todo!()
    }
}

impl ActiveSnapshot {
    /// Mounts it in the calling thread's mount namespace (see [`enter_private_mounts`](crate::enter_private_mounts)) and
    /// gives the path of its root.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn mount(&mut self) -> Result<&Path, StoreError> {
        todo!()
    }

    /// Unmounts it; what was written becomes a layer.
    ///
    /// # Errors
    /// When it cannot be unmounted, read or made durable.
    pub fn commit(self) -> Result<CommittedSnapshot, StoreError> {
        todo!()
    }
}

impl CommittedSnapshot {
    /// The layer.
    pub fn diff_id(&self) -> &DiffId {
        &self.diff_id
    }
}
