//! The root file systems of containers.

#![allow(clippy::todo)]

use std::path::{Path, PathBuf};

use crate::{Image, Store, StoreError};

/// A container's root file system: an image's layers and a writable directory on top.
#[derive(Clone, Debug)]
pub struct RootFs {
    owner: String,
    upper: PathBuf,
}

impl Store {
    /// Makes the root file system of the container `owner`; not yet mounted. Durable when it returns.
    ///
    /// # Errors
    /// When a layer is missing, or the owner has one already.
    pub fn root_fs(&self, _image: &Image, _owner: &str) -> Result<RootFs, StoreError> {
        todo!()
    }

    /// The same for a container that is removed when it ends (`--rm`): nothing is made durable, and it is mounted `volatile`.
    ///
    /// # Errors
    /// As [`Store::root_fs`].
    pub fn temporary_root_fs(&self, _image: &Image, _owner: &str) -> Result<RootFs, StoreError> {
        todo!()
    }

    /// The root file system that was made for `owner`.
    ///
    /// # Errors
    /// When its record cannot be read.
    pub fn find_root_fs(&self, _owner: &str) -> Result<Option<RootFs>, StoreError> {
        todo!()
    }

    /// Removes it, which must not be mounted any more; nothing happens where there is none.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove_root_fs(&self, _owner: &str) -> Result<(), StoreError> {
        todo!()
    }
}

impl RootFs {
    /// The container.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The directory that takes what the container writes.
    pub fn upper(&self) -> &Path {
        &self.upper
    }

    /// Mounts it on the directory `target`, in the calling thread's mount namespace
    /// (see [`enter_private_mounts`](crate::enter_private_mounts)).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn mount(&self, _target: &Path) -> Result<(), StoreError> {
        todo!()
    }
}
