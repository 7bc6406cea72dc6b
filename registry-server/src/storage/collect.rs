//! What is cleared away at the start, when nobody else is at work: half-written files, forgotten uploads, blobs that no repository has.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use fs_err as fs;

use super::{Storage, digests_in, names_in, remove};

/// How long an upload may lie until somebody goes on with it.
const UPLOAD_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

impl Storage {
    pub(super) fn collect(&self) -> io::Result<()> {
        for file in names_in(&self.incoming())? {
            remove(&self.incoming().join(file))?;
        }
        let mut used = HashSet::new();
        for name in self.every_repository()? {
            used.extend(digests_in(&self.repository(&name).join("_blobs"))?);
            used.extend(self.manifests(&name)?);
            let uploads = self.repository(&name).join("_uploads");
            for upload in names_in(&uploads)? {
                let path = uploads.join(upload);
                let age = fs::metadata(&path)?.modified()?.elapsed();
                if age.is_ok_and(|age| age > UPLOAD_KEPT) {
                    remove(&path)?;
                }
            }
        }
        for digest in digests_in(&self.root.join("blobs"))? {
            if !used.contains(&digest) {
                remove(&self.blob_path(&digest))?;
            }
        }
        Ok(())
    }
}
