//! One file for a blob that the registry and another directory of blobs both have, on the same file system.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dhow_image::Digest;
use tokio::sync::Notify;

use crate::registry::Registry;

/// How long after a blob has moved it is looked for its twin: who pulled it needs a moment to keep it.
const PAUSE: Duration = Duration::from_secs(2);

/// How many times.
const LOOKS: u32 = 30;

/// Which blobs to look at.
pub(crate) struct Sharing {
    directory: PathBuf,
    /// Blobs that moved lately, and how many looks each is worth.
    moved: Mutex<HashMap<Digest, u32>>,
    woken: Notify,
}

impl Sharing {
    /// With the blobs `ALGORITHM/HEX` of this directory.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            moved: Mutex::default(),
            woken: Notify::new(),
        }
    }

    /// Somebody pushed or pulled this blob, so that there may be two of it now.
    pub(crate) fn moved(&self, digest: &Digest) {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.insert(digest.clone(), LOOKS);
        self.woken.notify_one();
    }

    /// The blobs to look at now.
    fn take(&self) -> Vec<Digest> {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.retain(|_, looks| {
            *looks = looks.saturating_sub(1);
            *looks > 0
        });
        moved.keys().cloned().collect()
    }

    fn is_done(&self, digest: &Digest) {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.remove(digest);
    }

    fn is_idle(&self) -> bool {
        let moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.is_empty()
    }

    /// The directory that is shared with.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Makes one of two, again and again, as blobs move. Does nothing while none does.
pub(crate) async fn tend(registry: Arc<Registry>) {
    let Some(sharing) = &registry.sharing else {
        return std::future::pending().await;
    };
    let all = registry.on_disk(|storage| Ok(storage.every_blob()?)).await;
    for digest in all.unwrap_or_default() {
        sharing.moved(&digest);
    }
    loop {
        if sharing.is_idle() {
            sharing.woken.notified().await;
        }
        tokio::time::sleep(PAUSE).await;
        for digest in sharing.take() {
            let directory = sharing.directory().to_owned();
            let wanted = digest.clone();
            let shared = registry
                .on_disk(move |storage| Ok(storage.share_blob(&wanted, &directory)?))
                .await;
            // What cannot be shared, on a file system without hard links, stays as it is.
            if !matches!(shared, Ok(false)) {
                sharing.is_done(&digest);
            }
        }
    }
}
