//! The build cache: which layer a step made.

use std::path::PathBuf;

use dhow_image::{DiffId, Digest};

use crate::store::read;
use crate::{Store, StoreError};

impl Store {
    /// The layer that the step with this key made, where it is still there.
    ///
    /// # Errors
    /// When the entry cannot be read.
    pub fn cached(&self, key: &Digest) -> Result<Option<DiffId>, StoreError> {
        let Some(bytes) = read(&self.cache_path(key))? else {
            return Ok(None);
        };
        let diff_id = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|t| t.trim().parse().ok());
        match diff_id {
            Some(diff_id) if self.layer(&diff_id, None)?.is_some() => Ok(Some(diff_id)),
            _ => Ok(None),
        }
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
