//! Hints of where registries have blobs.

use std::path::PathBuf;

use dhow_image::{BlobLocations, Digest};

use crate::Store;
use crate::store::read;

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
        // A hint that cannot be written is a hint less.
        let _ = self.store.write(&self.path(digest), text.as_bytes(), false);
    }
}
