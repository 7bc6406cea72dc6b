//! Hiding paths and making them read-only.

use std::os::fd::OwnedFd;
use std::path::Path;

use dhow_sys::mount::{self as attr, Attributes};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::tree::Tree;
use super::{Doing, Init, StepError};

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

impl Init {
    pub(super) fn mask(&mut self, path: &Path) -> Result<(), StepError> {
        let what = || format!("hide {}", path.display());
        let (root, below) = self.place(path)?;
        let found = match root.resolve_directory(below) {
            Err(Errno::NOTDIR) => root.resolve(below).map(|file| (file, false)),
            answer => answer.map(|directory| (directory, true)),
        };
        let (target, is_directory) = match found {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(StepError::system(what(), errno)),
        };
        if is_directory {
            let tree = match &self.mask.empty {
                Some(empty) => Tree::of(empty, false).doing(what)?,
                None => empty_directory()?,
            };
            let (root, below) = self.place(path)?;
            let placed = tree.attach(&target, || root.resolve(below)).doing(what)?;
            self.spend([target]);
            self.spent.extend(placed.context);
            if self.mask.empty.is_none() {
                self.mask.empty = Some(placed.mount);
            } else {
                self.spend([placed.mount]);
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
        let tree = Tree::of(null, false).doing(what)?;
        let (root, below) = self.place(path)?;
        let placed = tree.attach(&target, || root.resolve(below)).doing(what)?;
        self.spend([placed.mount, target]);
        Ok(())
    }

    /// Makes a path read-only, if there is one.
    pub(super) fn make_read_only(&mut self, path: &Path) -> Result<(), StepError> {
        let what = || format!("make {} read-only", path.display());
        let (root, below) = self.place(path)?;
        let target = match root.resolve(below) {
            Ok(target) => target,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(StepError::system(what(), errno)),
        };
        let change = Attributes {
            set: attr::ATTR_RDONLY,
            ..Attributes::default()
        };
        let tree = Tree::changed(&target, &change).doing(what)?;
        let placed = tree.attach(&target, || root.resolve(below)).doing(what)?;
        self.spend([placed.mount, target]);
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
fn empty_directory() -> Result<Tree, StepError> {
    // The only inode is the directory itself.
    let data = [("nr_inodes".to_owned(), Some("1".to_owned()))];
    let attributes = attr::ATTR_RDONLY | attr::ATTR_NOSUID | attr::ATTR_NODEV | attr::ATTR_NOEXEC;
    Tree::filesystem("tmpfs", "tmpfs", &data, attributes)
        .map_err(|error| StepError::other(format!("make an empty directory: {error}")))
}
