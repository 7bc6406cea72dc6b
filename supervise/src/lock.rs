//! The lock that says that a pod has a monitor, or that someone works on it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;

/// A lock that is held; released when the last process that has its descriptor drops it.
#[derive(Debug)]
pub struct PodLock {
    file: OwnedFd,
}

/// A lock that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("locking {}", path.display())]
pub struct LockError {
    /// The lock's file.
    pub path: PathBuf,
    /// What the system answered.
    pub source: Errno,
}

impl PodLock {
    /// Takes the lock at `path`, which is made where it is missing; none while someone else holds it.
    ///
    /// # Errors
    /// When its directory is missing or cannot be written.
    pub fn try_take(path: &Path) -> Result<Option<Self>, LockError> {
        Self::take(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes the lock at `path`, after whoever holds it now.
    ///
    /// # Errors
    /// As [`PodLock::try_take`].
    pub fn wait_and_take(path: &Path) -> Result<Self, LockError> {
        loop {
            if let Some(lock) = Self::take(path, FlockOperation::LockExclusive)? {
                return Ok(lock);
            }
        }
    }

    fn take(path: &Path, how: FlockOperation) -> Result<Option<Self>, LockError> {
        let failed = |source| LockError {
            path: path.to_owned(),
            source,
        };
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = open(path, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
            match flock(&file, how) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(failed(errno)),
            }
            // Who held it may have removed the pod with its lock: then this is a lock on nothing.
            let ours = rustix::fs::fstat(&file).map_err(failed)?;
            match rustix::fs::stat(path) {
                Ok(now) if (now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino) => {
                    return Ok(Some(Self { file }));
                }
                Ok(_) => {}
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    /// A lock from the descriptor that its holder passed on.
    pub fn from_descriptor(file: OwnedFd) -> Self {
        Self { file }
    }
}

impl AsFd for PodLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it_and_a_descriptor_passed_on_keeps_it() {
        let dir = std::env::temp_dir().join(format!("dhow-lock-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("lock");
        let held = PodLock::try_take(&path).unwrap().unwrap();
        assert!(PodLock::try_take(&path).unwrap().is_none());
        let passed_on = PodLock::from_descriptor(held.file.try_clone().unwrap());
        drop(held);
        assert!(PodLock::try_take(&path).unwrap().is_none());
        drop(passed_on);
        assert!(PodLock::try_take(&path).unwrap().is_some());
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(PodLock::try_take(&path).is_err());
    }
}
