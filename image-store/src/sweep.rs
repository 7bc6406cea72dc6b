//! The sweep after a removal, in its own time.

use std::fs::File;

use rustix::fs::FlockOperation;

use crate::error::io;
use crate::{Collected, Store, StoreError};

/// With less than this part of the disk free, room is made before a removal is answered.
const SHORT: u64 = 20;

impl Store {
    /// Collects as [`Store::collect`] does; nothing where another process is about to, which is as good: it has not looked yet.
    ///
    /// # Errors
    /// As [`Store::collect`].
    pub fn sweep(&self) -> Result<Option<Collected>, StoreError> {
        let path = self.path("sweep.lock");
        let mut options = File::options();
        let options = options.create(true).append(true);
        let next = options.open(&path).map_err(io("making the lock", &path))?;
        match rustix::fs::flock(&next, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(io("locking", &path)(error)),
        }
        // Whoever comes from here on waits in our place.
        let collection = self.lock_collection()?;
        drop(next);
        self.collect_under(collection).map(Some)
    }

    /// Whether what was removed should be gone from the disk before anything else is done.
    ///
    /// # Errors
    /// When the file system does not tell.
    pub fn is_short_of_room(&self) -> Result<bool, StoreError> {
        let found = rustix::fs::statvfs(self.root()).map_err(io("looking at", self.root()))?;
        Ok(found.f_bavail < found.f_blocks / SHORT)
    }
}
