//! Steps on the root directory as a whole.

use std::path::Path;

use dhow_sys::mount::{self as attr, Attributes};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags};

use super::tree::{self, Tree};
use super::{Doing, StepError};
use crate::root_dir::RootDir;

/// Cuts this mount namespace off from the one that it was copied from.
pub(super) fn isolate(propagation: u64) -> Result<(), StepError> {
    let change = Attributes {
        propagation,
        ..Attributes::default()
    };
    tree::propagate(c"/", &change, true).doing(|| "cut the mounts off from the host's".to_owned())
}

/// Makes the root directory a mount, with all mounts below it, and opens that mount.
pub(super) fn bind(path: &Path) -> Result<RootDir, StepError> {
    let what = || format!("make {} a mount", path.display());
    let open = || rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let target = open().doing(what)?;
    let tree = Tree::of(&target, true).doing(what)?;
    Ok(RootDir::new(tree.attach(&target, open).doing(what)?.mount))
}

pub(super) fn make_read_only(root: &RootDir) -> Result<(), StepError> {
    let change = Attributes {
        set: attr::ATTR_RDONLY,
        ..Attributes::default()
    };
    tree::change(root.fd(), &change, false).doing(|| "make the root read-only".to_owned())
}

/// Puts the root over the host's and lets that go: both stand at "." for a moment, so no place for the old one is needed.
pub(super) fn pivot(root: &RootDir) -> Result<(), StepError> {
    rustix::process::fchdir(root.fd()).doing(|| "enter the root".to_owned())?;
    rustix::process::pivot_root(".", ".").doing(|| {
        "pivot_root (with --no-pivot it works on an initial ramdisk too, less safely)".to_owned()
    })?;
    // "." is now the old root, below the new one.
    rustix::mount::unmount(".", UnmountFlags::DETACH)
        .doing(|| "let the host's root go".to_owned())?;
    rustix::process::chdir("/").doing(|| "enter the new root".to_owned())
}

/// Moves the root's mount over the host's root.
pub(super) fn move_over(root: &RootDir) -> Result<(), StepError> {
    rustix::process::fchdir(root.fd()).doing(|| "enter the root".to_owned())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    match rustix::mount::move_mount(root.fd(), "", CWD, "/", flags) {
        Err(Errno::NOSYS) => rustix::mount::mount_move(".", "/"),
        answer => answer,
    }
    .doing(|| "move the root's mount to /".to_owned())?;
    rustix::process::chroot(".").doing(|| "chroot".to_owned())?;
    rustix::process::chdir("/").doing(|| "enter the new root".to_owned())
}

pub(super) fn propagate(propagation: u64, recursive: bool) -> Result<(), StepError> {
    let change = Attributes {
        propagation,
        ..Attributes::default()
    };
    tree::propagate(c"/", &change, recursive).doing(|| "give the root its propagation".to_owned())
}

/// Whether there is something at a path of the container; what it is, the step that enters it will say.
pub(super) fn is_there(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXISTS) != Err(rustix::io::Errno::NOENT)
}

/// Makes a directory of the container.
pub(super) fn make_directory(root: &RootDir, path: &Path) -> Result<(), StepError> {
    root.make_directories(path)
        .map(drop)
        .doing(|| format!("make the working directory {}", path.display()))
}
