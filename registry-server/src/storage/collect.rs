//! What is cleared away: half-written files at the start, when nobody else is at work; at any time forgotten uploads, blobs that no
//! manifest of their repository has named for a while, and content that no repository has.
//!
//! Requests that make something be used hold the gate shared while they look and write; here it is held alone while it is made sure that
//! something is still unused, and taken away.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use dhow_image::Digest;
use fs_err as fs;
use serde_json::Value;

use crate::name::{ManifestName, RepositoryName};

use super::{Storage, digests_in, names_in, remove};

/// How long an upload may lie, over the registry's own end, until somebody goes on with it.
const UPLOAD_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

impl Storage {
    pub(super) fn collect(&self) -> io::Result<()> {
        for file in names_in(&self.incoming())? {
            remove(&self.incoming().join(file))?;
        }
        self.forget_uploads(UPLOAD_KEPT)?;
        self.remove_content(&self.unused_content()?)
    }

    /// Takes away what nobody has used for so long, beside running requests.
    pub(crate) fn collect_unused(&self, kept: Duration) -> io::Result<()> {
        self.forget_uploads(kept)?;
        for name in self.every_repository()? {
            let blobs = digests_in(&self.repository(&name).join("_blobs"))?;
            let is_old = |digest: &Digest| self.blob_age(&name, digest) > kept;
            let old: Vec<Digest> = blobs.into_iter().filter(is_old).collect();
            if old.is_empty() {
                continue;
            }
            let _alone = self.alone();
            let named = self.named_blobs(&name)?;
            for digest in old {
                if !named.contains(&digest) && is_old(&digest) {
                    self.unlink_blob(&name, &digest)?;
                }
            }
        }
        // Most of the time there is none, and nobody is held up.
        if self.unused_content()?.is_empty() {
            return Ok(());
        }
        let _alone = self.alone();
        self.remove_content(&self.unused_content()?)
    }

    /// Content that no repository has.
    fn unused_content(&self) -> io::Result<Vec<Digest>> {
        // Looked at first: what comes later has a repository by the time that these are read.
        let all = digests_in(&self.root.join("blobs"))?;
        let mut used = HashSet::new();
        for name in self.every_repository()? {
            used.extend(digests_in(&self.repository(&name).join("_blobs"))?);
            used.extend(self.manifests(&name)?);
        }
        Ok(all
            .into_iter()
            .filter(|digest| !used.contains(digest))
            .collect())
    }

    fn remove_content(&self, digests: &[Digest]) -> io::Result<()> {
        for digest in digests {
            remove(&self.blob_path(digest))?;
        }
        Ok(())
    }

    /// The blobs that the repository's manifests name.
    fn named_blobs(&self, name: &RepositoryName) -> io::Result<HashSet<Digest>> {
        let mut named = HashSet::new();
        for digest in self.manifests(name)? {
            let Some(found) = self.manifest(name, &ManifestName::Digest(digest))? else {
                continue;
            };
            let contents: Value = serde_json::from_slice(&found.bytes).unwrap_or_default();
            let layers = contents["layers"].as_array().into_iter().flatten();
            let all = layers.chain([&contents["config"]]);
            let digests = all.filter_map(|descriptor| descriptor["digest"].as_str());
            named.extend(digests.filter_map(|digest| digest.parse::<Digest>().ok()));
        }
        Ok(named)
    }

    /// Removes the uploads that nobody has written to for so long, also while the registry is at work.
    pub(crate) fn forget_uploads(&self, kept: Duration) -> io::Result<()> {
        for name in self.every_repository()? {
            let uploads = self.repository(&name).join("_uploads");
            for upload in names_in(&uploads)? {
                let path = uploads.join(upload);
                let Ok(metadata) = fs::metadata(&path) else {
                    // It has just become a blob.
                    continue;
                };
                let age = metadata.modified()?.elapsed();
                if age.is_ok_and(|age| age > kept) {
                    remove(&path)?;
                }
            }
        }
        Ok(())
    }
}
