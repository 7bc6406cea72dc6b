//! Blobs, and which repository has which.

use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

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

    /// Every blob's digest.
    pub(crate) fn every_blob(&self) -> io::Result<Vec<Digest>> {
        super::digests_in(&self.root.join("blobs"))
    }

    /// Makes the blob one file with the same blob of another directory, where both are there; whether there is nothing left to do.
    /// The bytes are compared first: what went bad there does no harm here.
    pub(crate) fn share_blob(&self, digest: &Digest, directory: &Path) -> io::Result<bool> {
        let twin = by_digest(directory.to_owned(), digest);
        let own = self.blob_path(digest);
        let (Ok(ours), Ok(theirs)) = (std::fs::metadata(&own), std::fs::metadata(&twin)) else {
            return Ok(false);
        };
        let is_one = (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino());
        if is_one || ours.dev() != theirs.dev() || !is_same(&own, &twin)? {
            return Ok(true);
        }
        let link = self.incoming().join(format!("{}.link", digest.hex()));
        remove(&link)?;
        std::fs::hard_link(&twin, &link)?;
        let _gate = self.gate();
        if !own.exists() {
            remove(&link)?;
            return Ok(true);
        }
        fs::rename(&link, &own)?;
        sync_directory(parent(&own))?;
        Ok(true)
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

/// Whether two files have the same bytes.
fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let mut one = BufReader::with_capacity(1 << 17, fs::File::open(one)?);
    let mut other = BufReader::with_capacity(1 << 17, fs::File::open(other)?);
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let count = left.len().min(right.len());
        if count == 0 {
            return Ok(left.len() == right.len());
        }
        if left[..count] != right[..count] {
            return Ok(false);
        }
        one.consume(count);
        other.consume(count);
    }
}
