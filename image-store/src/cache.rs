//! The build cache: which layer a step made.

use std::path::PathBuf;

use dhow_image::{DiffId, Digest};

use crate::store::read;
use crate::{Store, StoreError};

impl Store {
    /// What the entry of a step's key says, which may be a layer that is gone; [`Lease::cached`](crate::Lease::cached) looks.
    pub(crate) fn remembered(&self, key: &Digest) -> Result<Option<DiffId>, StoreError> {
        let bytes = read(&self.cache_path(key))?.unwrap_or_default();
        let text = std::str::from_utf8(&bytes).ok();
        Ok(text.and_then(|text| text.trim().parse().ok()))
    }

    /// Remembers which layer the step with this key made. A hint: it is not made durable, and goes with a pruning.
    ///
    /// # Errors
    /// When the entry cannot be written.
    pub fn remember(&self, key: &Digest, layer: &DiffId) -> Result<(), StoreError> {
        self.write(&self.cache_path(key), layer.to_string().as_bytes(), false)
    }

    fn cache_path(&self, key: &Digest) -> PathBuf {
        self.path("cache")
            .join(format!("{}-{}", key.algorithm().name(), key.hex()))
    }
}
