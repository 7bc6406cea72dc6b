//! Blobs, and which repository has which.

use std::io;
use std::path::PathBuf;

use dhow_image::Digest;
use fs_err as fs;

use super::{Storage, by_digest, is_missing, make_directories, parent, remove, sync_directory};
use crate::name::RepositoryName;

impl Storage {
    fn blob_link(&self, name: &RepositoryName, digest: &Digest) -> PathBuf {
        by_digest(self.repository(name).join("_blobs"), digest)
    }

    /// Opens a blob of the repository, with its size.
    pub(crate) fn blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> io::Result<Option<(std::fs::File, u64)>> {
        if !self.has_blob(name, digest) {
            return Ok(None);
        }
        match std::fs::File::open(self.blob_path(digest)) {
            Ok(file) => {
                let size = file.metadata()?.len();
                Ok(Some((file, size)))
            }
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The size of a blob of the repository.
    pub(crate) fn blob_size(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> io::Result<Option<u64>> {
        if !self.has_blob(name, digest) {
            return Ok(None);
        }
        match std::fs::metadata(self.blob_path(digest)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the repository has the blob.
    pub(crate) fn has_blob(&self, name: &RepositoryName, digest: &Digest) -> bool {
        self.blob_link(name, digest).exists() && self.blob_path(digest).exists()
    }

    /// Puts a blob that is there into the repository.
    pub(crate) fn link_blob(&self, name: &RepositoryName, digest: &Digest) -> io::Result<()> {
        let link = self.blob_link(name, digest);
        make_directories(parent(&link))?;
        fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&link)?;
        self.touch_blob(name, digest);
        Ok(())
    }

    /// Notes that somebody uses the blob of the repository now, so that it is not taken for forgotten. A hint.
    pub(crate) fn touch_blob(&self, name: &RepositoryName, digest: &Digest) {
        let link = std::fs::File::options()
            .write(true)
            .open(self.blob_link(name, digest));
        if let Ok(link) = link {
            let _ = link.set_modified(std::time::SystemTime::now());
        }
    }

    /// How long nobody has used the blob of the repository.
    pub(super) fn blob_age(&self, name: &RepositoryName, digest: &Digest) -> std::time::Duration {
        let changed = std::fs::metadata(self.blob_link(name, digest)).and_then(|m| m.modified());
        let age = changed.ok().and_then(|changed| changed.elapsed().ok());
        age.unwrap_or_default()
    }

    /// Takes a blob out of the repository; whether it was in it. The content goes when no repository has it, at the next start.
    pub(crate) fn unlink_blob(&self, name: &RepositoryName, digest: &Digest) -> io::Result<bool> {
        let link = self.blob_link(name, digest);
        let removed = remove(&link)?;
        if removed {
            sync_directory(parent(&link))?;
        }
        Ok(removed)
    }

    /// Makes durable that the repository has the blobs that it was given.
    pub(super) fn sync_links(&self, name: &RepositoryName) -> io::Result<()> {
        for algorithm in super::names_in(&self.repository(name).join("_blobs"))? {
            sync_directory(&self.repository(name).join("_blobs").join(&algorithm))?;
            sync_directory(&self.root.join("blobs").join(&algorithm))?;
        }
        Ok(())
    }
}
