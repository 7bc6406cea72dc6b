//! Blobs: immutable files named by their digests.

use std::fs;
use std::path::PathBuf;

use dhow_image::{Descriptor, Digest};
use rustix::fs::Access;

use crate::error::{damaged, io};
use crate::store::read;
use crate::{Store, StoreError};

/// The largest manifest, index or config: what registries are asked for, and more than they take.
pub(crate) const DOCUMENT: u64 = 8 << 20;

impl Store {
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs")
            .join(digest.algorithm().name())
            .join(digest.hex())
    }

    pub(crate) fn has_blob(&self, digest: &Digest) -> bool {
        rustix::fs::access(self.blob_path(digest), Access::EXISTS).is_ok()
    }

    /// The content of a small blob.
    pub(crate) fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(digest);
        if self.blob_size(digest)?.is_some_and(|size| size > DOCUMENT) {
            return Err(damaged(digest, "it is larger than any manifest or config"));
        }
        read(&path)?.ok_or_else(|| damaged(digest, "there is no such blob"))
    }

    /// Writes a small blob durably, where it is not there yet.
    pub(crate) fn write_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        let path = self.blob_path(&digest);
        // One that was damaged meanwhile is replaced.
        let is_as_large = self.blob_size(&digest)? == Some(bytes.len() as u64);
        if !is_as_large || read(&path)?.as_deref() != Some(bytes) {
            self.write(&path, bytes, true)?;
        }
        Ok(digest)
    }

    /// The size of a blob; none where it is not there.
    pub(crate) fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let path = self.blob_path(digest);
        match fs::metadata(&path) {
            Ok(found) => Ok(Some(found.len())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io("looking at", path)(error)),
        }
    }
}

/// The digest that a descriptor names, of a kind that can be checked.
pub(crate) fn digest_of(descriptor: &Descriptor) -> Result<Digest, StoreError> {
    Digest::of_descriptor(descriptor).map_err(|error| StoreError::Invalid(error.to_string()))
}
