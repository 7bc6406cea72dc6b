//! Mounts whose files have other owners, made for init, which may have no power over the file systems.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::OpenTreeFlags;

use super::id_map;
use crate::error::Error;
use crate::plan::IdMap;

/// A detached copy of the mount at a path of the host, with its ids mapped.
pub(super) fn make(
    path: &Path,
    recursive: bool,
    map: &IdMap,
    map_recursive: bool,
) -> Result<OwnedFd, Error> {
    let error = |errno| {
        Error::system(
            format!(
                "map the ids of {} (this takes Linux 5.12, a file system that can, and power over it)",
                path.display()
            ),
            errno,
        )
    };
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let mount = rustix::mount::open_tree(CWD, path, flags).map_err(error)?;
    let namespace = match map {
        IdMap::Namespace(path) => open_namespace(path)?,
        IdMap::Ranges { uids, gids } => namespace_of(|pid| id_map::write(pid, uids, gids))?,
    };
    dhow_sys::mount::set_id_map(mount.as_fd(), namespace.as_fd(), map_recursive).map_err(error)?;
    Ok(mount)
}

fn open_namespace(path: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
        Error::system(format!("open the user namespace {}", path.display()), errno)
    })
}

/// A user namespace with maps that `write` gives it: it lives by its descriptor; the process in it only waits for the maps.
fn namespace_of(write: impl FnOnce(i32) -> Result<(), Error>) -> Result<OwnedFd, Error> {
    let made = dhow_sys::user_namespace::with_new(|pid| {
        let pid = pid.as_raw_nonzero().get();
        write(pid)?;
        open_namespace(Path::new(&format!("/proc/{pid}/ns/user")))
    });
    made.map_err(|errno| Error::system("make a user namespace for a mount", errno))?
}
