//! Root file systems of containers that have a user namespace of their own.
//!
//! Nothing is copied and no owner is changed: the overlay's parts are named through one copy of the store's mount that maps the owners
//! (`MOUNT_ATTR_IDMAP`), so that layers are shared by containers of all namespaces, and what a container writes is stored with the
//! owners that it sees. The copy is attached only while the overlay is mounted, which holds copies of it of its own.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

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
    mapped.map_err(unmapped(directory))
}

/// The error of owners that cannot be mapped.
fn unmapped(directory: &Path) -> impl FnOnce(Errno) -> StoreError {
    let directory = directory.to_owned();
    move |errno| match errno {
        Errno::NOSYS | Errno::INVAL | Errno::PERM => StoreError::Invalid(format!(
            "the kernel cannot map the owners of the files in {} ({}), which a container with a user namespace of its own takes: \
             it takes Linux 5.19 and a file system that can, such as ext4, xfs, btrfs or, since Linux 6.3, tmpfs; \
             keep images on one (--root), or run it in the host's (--userns host)",
            directory.display(),
            std::io::Error::from(errno)
        )),
        _ => io("mapping the owners of the files in", directory)(errno),
    }
}

/// The copy of a mount, attached to a directory as long as this lives.
pub(crate) struct Attached {
    at: PathBuf,
    /// Its root.
    root: OwnedFd,
    is_detached: bool,
}

impl Attached {
    /// Attaches it to a directory that nothing else is kept in and nobody empties: what is seen there is the whole store.
    pub(crate) fn new(copy: OwnedFd, at: PathBuf) -> Result<Self, StoreError> {
        match fs::DirBuilder::new().mode(0o700).create(&at) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(io("making", at)(error));
            }
            _ => {}
        }
        attach(copy.as_fd(), &at)?;
        Ok(Self {
            at,
            root: copy,
            is_detached: false,
        })
    }

    /// A directory in it.
    pub(crate) fn open(&self, name: &str) -> Result<File, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.root, name, flags, Mode::empty());
        opened.map(File::from).map_err(io("opening", name))
    }

    /// Takes it away.
    pub(crate) fn detach(mut self) -> Result<(), StoreError> {
        self.is_detached = true;
        unmount(&self.at).map_err(io("unmounting", &self.at))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if !self.is_detached {
            // The first error is the one to tell. Where it stays, it goes with this mount namespace.
            let _ = unmount(&self.at);
        }
    }
}

fn unmount(at: &Path) -> rustix::io::Result<()> {
    rustix::mount::unmount(at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
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
