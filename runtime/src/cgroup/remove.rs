//! Removing a cgroup.

use std::io;
use std::time::Duration;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::directory::Directory;
use super::processes::below;
use super::{Cgroup, CgroupError};

/// How long is waited in all for processes that are ending: a killed process leaves its cgroup only when its memory is given
/// back.
const PATIENCE: Duration = Duration::from_secs(5);

impl Cgroup {
    /// Removes it and what is below it; one that is gone is no error.
    ///
    /// # Errors
    /// When a process is still in it after a short wait; the other hierarchies' directories are removed nevertheless.
    pub fn remove(&self) -> Result<(), CgroupError> {
        let mut failed = match &self.unit {
            Some(unit) => unit.stop(),
            None => Ok(()),
        };
        let mut waited = Duration::ZERO;
        for place in &self.places {
            if let Err(source) = remove(&place.directory, &mut waited) {
                failed = failed.and(Err(CgroupError::Remove {
                    directory: place.directory.path().to_owned(),
                    source,
                }));
            }
        }
        failed
    }

    /// Removes it where nobody uses it. What is there may be somebody else's: nothing below it is touched, and that it is in use
    /// is no error.
    pub fn remove_unused(&self) {
        for place in &self.places {
            let path = place.directory.path();
            let mut wait = Duration::from_millis(1);
            // A process that ends because its creator has ended may be about to leave.
            while wait < Duration::from_secs(2)
                && rustix::fs::unlinkat(rustix::fs::CWD, path, AtFlags::REMOVEDIR)
                    == Err(Errno::BUSY)
            {
                std::thread::sleep(wait);
                wait *= 2;
            }
        }
    }
}

/// Removes one directory; `waited` is for all of a cgroup, since what keeps one of them keeps all.
fn remove(directory: &Directory, waited: &mut Duration) -> io::Result<()> {
    let mut wait = Duration::from_micros(200);
    loop {
        match rustix::fs::unlinkat(rustix::fs::CWD, directory.path(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY) if *waited < PATIENCE => {}
            Err(errno) => return Err(errno.into()),
        }
        let children = below(&Directory::new(directory.path().to_owned()))?;
        if !children.is_empty() {
            children
                .iter()
                .try_for_each(|child| remove(child, waited))?;
            continue;
        }
        std::thread::sleep(wait);
        *waited += wait;
        wait = (wait * 2).min(Duration::from_millis(50));
    }
}
