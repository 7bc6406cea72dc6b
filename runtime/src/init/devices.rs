//! Device nodes and the links of /dev.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::mask::{attach, clone_mount};
use super::{Doing, StepError};
use crate::plan::DeviceNode;
use crate::root_dir::{RootDir, TargetKind};

/// Makes a node. Where nodes may not be made (a user namespace), the host's is bind-mounted.
pub(super) fn make(root: &RootDir, node: &DeviceNode) -> Result<(), StepError> {
    let what = || format!("make the device {}", node.path.display());
    let (parent, name) = root.parent(&node.path).doing(what)?;
    let number = rustix::fs::makedev(node.major, node.minor);
    let kind = FileType::from_raw_mode(node.kind);
    // Init's umask is 0, so the node is made with just this mode.
    match rustix::fs::mknodat(&parent, name, kind, Mode::from_raw_mode(node.mode), number) {
        Ok(()) if (node.uid, node.gid) == (0, 0) => Ok(()),
        Ok(()) => {
            let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(&parent, name, Some(uid), Some(gid), flags).doing(what)
        }
        Err(Errno::EXIST) => {
            let found = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).doing(what)?;
            let same = FileType::from_raw_mode(found.st_mode) == kind && found.st_rdev == number;
            if same { Ok(()) } else { bind(root, node) }
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
    let mount = clone_mount(&host, false).doing(what)?;
    let target = root
        .resolve_or_make(&node.path, TargetKind::File)
        .doing(what)?;
    attach(&mount, &target).doing(what)
}

/// Makes a link of /dev, where there is nothing of that name.
pub(super) fn link(root: &RootDir, name: &str, target: &str) -> Result<(), StepError> {
    let what = || format!("make the link /dev/{name}");
    let dev = root.make_directories(Path::new("/dev")).doing(what)?;
    match rustix::fs::symlinkat(target, dev.as_fd(), name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(StepError::system(what(), errno)),
    }
}
