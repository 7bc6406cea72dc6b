//! Root file systems of containers that have a user namespace of their own.
//!
//! Nothing is copied and no owner is changed: the overlay's parts are named through one copy of the store's mount that maps the owners
//! (`MOUNT_ATTR_IDMAP`), so that layers are shared by containers of all namespaces, and what a container writes is stored with the
//! owners that it sees. The copy is attached only while the overlay is mounted, which holds copies of it of its own.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

use crate::StoreError;
use crate::error::io;

/// A user namespace, and whom its root is outside.
#[derive(Debug)]
pub struct MappedIds {
    /// The namespace; its maps are written.
    pub namespace: OwnedFd,
    /// Who is user 0 in it.
    pub user: u32,
    /// Which is group 0 in it.
    pub group: u32,
}

/// A copy of a directory's mount, from that directory down, with other owners; attached nowhere yet.
pub(crate) fn copy_of(directory: &Path, ids: &MappedIds) -> Result<OwnedFd, StoreError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mapped = rustix::mount::open_tree(CWD, directory, flags).and_then(|copy| {
        dhow_sys::mount::set_id_map(copy.as_fd(), ids.namespace.as_fd(), false)?;
        Ok(copy)
    });
    mapped.map_err(|errno| match errno {
        Errno::NOSYS | Errno::INVAL | Errno::PERM => StoreError::Invalid(format!(
            "the kernel cannot map the owners of the files in {} ({}), which a container with a user namespace of its own takes: \
             it takes Linux 5.19 and a file system that can, such as ext4, xfs, btrfs or, since Linux 6.3, tmpfs; \
             keep images on one (--root), or run it in the host's (--userns host)",
            directory.display(),
            std::io::Error::from(errno)
        )),
        _ => io("mapping the owners of the files in", directory)(errno),
    })
}

/// The copy of a mount, attached to a directory as long as this lives.
pub(crate) struct Attached<'a> {
    at: &'a Path,
    /// Its root.
    root: OwnedFd,
}

impl<'a> Attached<'a> {
    pub(crate) fn new(copy: OwnedFd, at: &'a Path) -> Result<Self, StoreError> {
        attach(copy.as_fd(), at)?;
        Ok(Self { at, root: copy })
    }

    /// A directory in it.
    pub(crate) fn open(&self, name: &str) -> Result<File, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.root, name, flags, Mode::empty());
        opened.map(File::from).map_err(io("opening", name))
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        // Where it stays it is seen by nobody but this container's monitor, and goes with that.
        let _ = rustix::mount::unmount(self.at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
}

/// Attaches a mount to a directory.
pub(crate) fn attach(mount: BorrowedFd<'_>, at: &Path) -> Result<(), StoreError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", CWD, at, flags).map_err(io("mounting on", at))
}

impl MappedIds {
    /// Lets the calling thread, for good, make files as the namespace's root, with all that it may do otherwise: an overlay makes its own
    /// files as who mounted it, and the host's root is nobody where owners are mapped.
    pub(crate) fn become_root(&self) -> rustix::io::Result<()> {
        let held = rustix::thread::capabilities(None)?;
        nix::unistd::setfsgid(self.group.into());
        // Takes from the capabilities in force those for files.
        nix::unistd::setfsuid(self.user.into());
        rustix::thread::set_capabilities(None, held)
    }
}
