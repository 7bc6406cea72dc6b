//! Hiding paths and making them read-only.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use dhow_sys::mount::{self as attr, Attributes};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use super::{Doing, Init, StepError};
use crate::root_dir::file_type;

/// What is put over hidden paths, opened once.
#[derive(Debug, Default)]
pub(super) struct MaskSources {
    null: Option<OwnedFd>,
    /// An empty directory that is mounted somewhere already.
    empty: Option<OwnedFd>,
}

impl MaskSources {
    pub(super) fn into_fds(self) -> impl Iterator<Item = OwnedFd> {
        self.null.into_iter().chain(self.empty)
    }
}

/// A copy of an open mount, to be put elsewhere.
pub(super) fn clone_mount(of: &OwnedFd, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(of, "", flags)
}

/// Puts an open mount over an open file or directory. Both are descriptors, so nothing is looked up again.
pub(super) fn attach(mount: &OwnedFd, target: &OwnedFd) -> rustix::io::Result<()> {
    rustix::mount::move_mount(
        mount,
        "",
        target,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
}

impl Init {
    pub(super) fn mask(&mut self, path: &Path) -> Result<(), StepError> {
        let what = || format!("hide {}", path.display());
        let target = match self.root()?.resolve(path) {
            Ok(target) => target,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(StepError::system(what(), errno)),
        };
        if file_type(target.as_fd()).doing(what)? == FileType::Directory {
            let mount = match &self.mask.empty {
                Some(empty) => clone_mount(empty, false).doing(what)?,
                None => empty_directory().doing(what)?,
            };
            attach(&mount, &target).doing(what)?;
            self.spend([target]);
            if self.mask.empty.is_none() {
                self.mask.empty = Some(mount);
            } else {
                self.spend([mount]);
            }
            return Ok(());
        }
        if self.mask.null.is_none() {
            self.mask.null = Some(open_null()?);
        }
        let null = self
            .mask
            .null
            .as_ref()
            .ok_or_else(|| StepError::other("no /dev/null"))?;
        let mount = clone_mount(null, false).doing(what)?;
        attach(&mount, &target).doing(what)?;
        self.spend([mount, target]);
        Ok(())
    }

    /// Makes a path read-only, if there is one.
    pub(super) fn make_read_only(&mut self, path: &Path) -> Result<(), StepError> {
        let what = || format!("make {} read-only", path.display());
        let target = match self.root()?.resolve(path) {
            Ok(target) => target,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(StepError::system(what(), errno)),
        };
        let mount = clone_mount(&target, true).doing(what)?;
        let change = Attributes {
            set: attr::ATTR_RDONLY,
            ..Attributes::default()
        };
        attr::set_attributes(mount.as_fd(), &change, true).doing(what)?;
        attach(&mount, &target).doing(what)?;
        self.spend([mount, target]);
        Ok(())
    }
}

/// The host's /dev/null, verified to be the null device: the container's own could be anything.
fn open_null() -> Result<OwnedFd, StepError> {
    let what = || "open /dev/null".to_owned();
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let null = rustix::fs::openat(CWD, "/dev/null", flags, Mode::empty()).doing(what)?;
    let stat = rustix::fs::fstat(&null).doing(what)?;
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(1, 3);
    if is_null {
        Ok(null)
    } else {
        Err(StepError::other(
            "the host's /dev/null is not the null device",
        ))
    }
}

/// A read-only file system with nothing in it.
fn empty_directory() -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "source", "tmpfs")?;
    rustix::mount::fsconfig_set_string(&context, "size", "0")?;
    rustix::mount::fsconfig_set_string(&context, "nr_inodes", "1")?;
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )
}
