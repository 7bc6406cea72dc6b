//! Hints of where registries have blobs.

#![allow(clippy::todo)]

use dhow_image::{BlobLocations, Digest};

use crate::Store;

/// What is known of where registries have blobs.
#[derive(Clone, Debug)]
pub struct Locations {
    store: Store,
}

impl Store {
    /// Where registries are known to have blobs.
    pub fn locations(&self) -> Locations {
        Locations {
            store: self.clone(),
        }
    }
}

impl BlobLocations for Locations {
    fn repositories(&self, _registry: &str, _digest: &Digest) -> Vec<String> {
        let _ = &self.store;
        todo!()
    }

    fn note(&self, _registry: &str, _repository: &str, _digest: &Digest) {
        todo!()
    }
}
