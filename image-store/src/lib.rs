//! Keeps blobs, tags, unpacked layers and snapshots on disk, and gives out root file systems.

use std::path::{Path, PathBuf};

/// The image store under one root directory.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// A store that could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {}

impl Store {
    /// Opens the store under `root`.
    ///
    /// # Errors
    /// None yet.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// Where it is kept.
    pub fn root(&self) -> &Path {
        &self.root
    }
}
