//! Device nodes and the links of /dev.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::tree::Tree;
use super::{Doing, Init, StepError};
use crate::plan::DeviceNode;
use crate::root_dir::{RootDir, TargetKind};

impl Init {
    /// Opens the directory of a device, and keeps it open: most follow in the same one.
    fn open_device_dir(&mut self, dir: &Path) -> rustix::io::Result<()> {
        if self.device_dir.as_ref().is_none_or(|(open, _)| open != dir)
            && let Some(root) = &self.root
        {
            self.device_dir = Some((dir.to_owned(), root.make_directories(dir)?));
        }
        Ok(())
    }

    /// The root and the directory of a device.
    fn device_places(&mut self, dir: &Path) -> rustix::io::Result<(&RootDir, &OwnedFd)> {
        self.open_device_dir(dir)?;
        match (&self.root, &self.device_dir) {
            (Some(root), Some((_, dir))) => Ok((root, dir)),
            _ => Err(Errno::BADF),
        }
    }

    pub(super) fn make_device(&mut self, node: &DeviceNode) -> Result<(), StepError> {
        let what = || format!("make the device {}", node.path.display());
        let dir = node.path.parent().unwrap_or(Path::new("/"));
        let (root, dir) = self.device_places(dir).doing(what)?;
        make(root, dir, node)
    }

    /// Makes a link of /dev, where there is nothing of that name.
    pub(super) fn make_dev_link(&mut self, name: &str, target: &str) -> Result<(), StepError> {
        let what = || format!("make the link /dev/{name}");
        let (_, dev) = self.device_places(Path::new("/dev")).doing(what)?;
        match rustix::fs::symlinkat(target, dev, name) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(StepError::system(what(), errno)),
        }
    }
}

/// Makes a node. Where nodes may not be made (a user namespace), the host's is bind-mounted.
fn make(root: &RootDir, parent: &OwnedFd, node: &DeviceNode) -> Result<(), StepError> {
    let what = || format!("make the device {}", node.path.display());
    let name = node.path.file_name().unwrap_or_default();
    let number = rustix::fs::makedev(node.major, node.minor);
    let kind = FileType::from_raw_mode(node.kind);
    // Init's umask is 0, so the node is made with just this mode.
    match rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(node.mode), number) {
        Ok(()) if (node.uid, node.gid) == (0, 0) => Ok(()),
        Ok(()) => {
            let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags).doing(what)
        }
        Err(Errno::EXIST) => {
            let found = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).doing(what)?;
            let same = FileType::from_raw_mode(found.st_mode) == kind && found.st_rdev == number;
            // An empty file is what a bind mount of an earlier container left.
            let is_empty = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
                && found.st_size == 0;
            match (same, is_empty) {
                (true, _) => Ok(()),
                (false, true) => bind(root, node),
                (false, false) => Err(StepError::other(format!(
                    "{}: there is something else at its place",
                    what()
                ))),
            }
        }
        Err(Errno::PERM) => bind(root, node),
        Err(errno) => Err(StepError::system(what(), errno)),
    }
}

/// Bind-mounts the host's node of the same path.
fn bind(root: &RootDir, node: &DeviceNode) -> Result<(), StepError> {
    let what = || format!("bind-mount the host's device {}", node.path.display());
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let host = rustix::fs::openat(CWD, &node.path, flags, Mode::empty()).doing(what)?;
    let stat = rustix::fs::fstat(&host).doing(what)?;
    let same = FileType::from_raw_mode(stat.st_mode) == FileType::from_raw_mode(node.kind)
        && stat.st_rdev == rustix::fs::makedev(node.major, node.minor);
    if !same {
        return Err(StepError::other(format!(
            "{}: the host's is another device",
            what()
        )));
    }
    let tree = Tree::of(&host, false).doing(what)?;
    let target = root
        .resolve_or_make(&node.path, TargetKind::File)
        .doing(what)?;
    tree.attach(&target, || root.resolve(&node.path))
        .map(drop)
        .doing(what)
}
