//! What is cleared away: forgotten uploads at any time; half-written files and blobs that no repository has at the start, when nobody
//! else is at work.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use fs_err as fs;

use super::{Storage, digests_in, names_in, remove};

/// How long an upload may lie until somebody goes on with it.
pub(crate) const UPLOAD_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

impl Storage {
    pub(super) fn collect(&self) -> io::Result<()> {
        for file in names_in(&self.incoming())? {
            remove(&self.incoming().join(file))?;
        }
        let mut used = HashSet::new();
        for name in self.every_repository()? {
            used.extend(digests_in(&self.repository(&name).join("_blobs"))?);
            used.extend(self.manifests(&name)?);
        }
        self.forget_uploads(UPLOAD_KEPT)?;
        for digest in digests_in(&self.root.join("blobs"))? {
            if !used.contains(&digest) {
                remove(&self.blob_path(&digest))?;
            }
        }
        Ok(())
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
