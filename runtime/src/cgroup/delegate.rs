//! Giving a container's cgroup to the user of its process (the specification, "Cgroup ownership").

use std::path::Path;

use rustix::fs::{AtFlags, CWD, Uid};
use rustix::io::Errno;

use super::directory::{Directory, read_whole};
use super::{Cgroup, CgroupError, Place};
use crate::privilege::is_unprivileged;

/// What cgroups(7) names where the kernel does not (before 4.15).
const FILES: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

impl Cgroup {
    /// Makes a user of the host the owner of the directory and of the files by which processes and controllers are divided among
    /// cgroups below it; the limits stay whose they are. On v1, where this is not safe, nothing changes hands.
    ///
    /// # Errors
    /// When the kernel refuses it to the host's root.
    pub fn give(&self, owner: u32) -> Result<(), CgroupError> {
        if !self.places.iter().all(Place::is_v2) {
            return Ok(());
        }
        let named = read_whole(Path::new("/sys/kernel/cgroup/delegate"));
        let files = named.unwrap_or_else(|_| FILES.to_owned());
        for place in &self.places {
            give_file(&place.directory, "", owner)?;
            for file in files.lines() {
                give_file(&place.directory, file, owner)?;
            }
        }
        Ok(())
    }
}

/// A file that this cgroup lacks is none to give.
fn give_file(directory: &Directory, file: &str, owner: u32) -> Result<(), CgroupError> {
    let path = match file {
        "" => directory.path().to_owned(),
        file => directory.path().join(file),
    };
    let user = Some(Uid::from_raw(owner));
    match rustix::fs::chownat(CWD, &path, user, None, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        // A user may give nothing away; the container goes without what the specification only allows.
        Err(Errno::PERM) if is_unprivileged() => Ok(()),
        Err(errno) => Err(CgroupError::Write {
            file: path,
            value: format!("owner {owner}"),
            source: errno.into(),
        }),
    }
}
