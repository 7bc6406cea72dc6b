//! Hints of where registries have blobs.

use std::fs::File;
use std::path::PathBuf;

use dhow_image::{BlobLocations, Descriptor, Digest, ImageTree};

use crate::blobs::digest_of;
use crate::error::io;
use crate::store::{read, sync_directory};
use crate::{Store, StoreError};

/// So many repositories are remembered for a blob.
const REMEMBERED: usize = 8;

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

impl Locations {
    /// The registries and their repositories that are known to have had the blob, latest first.
    pub fn places(&self, digest: &Digest) -> Vec<(String, String)> {
        self.lines(digest)
    }

    /// One small file for each blob, a line for each place: `REGISTRY REPOSITORY`, latest first.
    fn path(&self, digest: &Digest) -> PathBuf {
        let name = format!("{}-{}", digest.algorithm().name(), digest.hex());
        self.store.path("locations").join(name)
    }

    /// Whether any registry is known to have had the blob.
    pub(crate) fn are_known(&self, digest: &Digest) -> bool {
        !self.lines(digest).is_empty()
    }

    fn lines(&self, digest: &Digest) -> Vec<(String, String)> {
        let bytes = read(&self.path(digest)).ok().flatten().unwrap_or_default();
        String::from_utf8_lossy(&bytes)
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(registry, repository)| (registry.to_owned(), repository.to_owned()))
            .collect()
    }
}

impl Store {
    /// Makes durable what is known of where the missing blobs of an image (or of an index's images) are: a name that relies on it is
    /// about to be written.
    pub(crate) fn settle_places(&self, root: &Descriptor) -> Result<(), StoreError> {
        // An image that lacks a document is found wanting elsewhere.
        let Ok(tree) = ImageTree::read(self, root) else {
            return Ok(());
        };
        let mut relied = false;
        for blob in tree.blobs() {
            let digest = digest_of(blob)?;
            let path = self.locations().path(&digest);
            if !self.has_blob(&digest)
                && let Ok(hint) = File::open(&path)
            {
                hint.sync_all().map_err(io("syncing", &path))?;
                relied = true;
            }
        }
        match relied {
            true => sync_directory(&self.path("locations")),
            false => Ok(()),
        }
    }
}

impl BlobLocations for Locations {
    fn repositories(&self, registry: &str, digest: &Digest) -> Vec<String> {
        let lines = self.lines(digest).into_iter();
        lines
            .filter(|line| line.0 == registry)
            .map(|line| line.1)
            .collect()
    }

    fn note(&self, registry: &str, repository: &str, digest: &Digest) {
        let mut lines = self.lines(digest);
        let place = (registry.to_owned(), repository.to_owned());
        if lines.first() == Some(&place) {
            return;
        }
        lines.retain(|line| *line != place);
        lines.insert(0, place);
        lines.truncate(REMEMBERED);
        let text: String = lines
            .iter()
            .map(|line| format!("{} {}\n", line.0, line.1))
            .collect();
        // Of what is not here any more, this may be all that is left: then it must not be replaced by what a crash leaves empty.
        let durable = !self.store.has_blob(digest);
        // A hint that cannot be written is a hint less.
        let _ = self
            .store
            .write(&self.path(digest), text.as_bytes(), durable);
    }
}
