//! Files copied into the root that is being built.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::TreeError;
use crate::root_dir::{Owner, RootDir, chown, open_dir_below};
use crate::source_tree::{Entry, Item, SourceTree};

/// Where copies go and what they look like there.
pub(crate) struct Target<'a> {
    pub(crate) root: &'a RootDir,
    /// Absolute; with a slash at its end it is a directory.
    pub(crate) destination: &'a str,
    /// Whose the copies are; none keeps the owners of a tree that keeps them, and means root for one that does not.
    pub(crate) owner: Option<Owner>,
    /// Permission bits of the copies.
    pub(crate) mode: Option<u32>,
}

impl Target<'_> {
    /// Whose a directory is that is made on the way.
    pub(crate) fn maker(&self) -> Owner {
        self.owner.unwrap_or((0, 0))
    }

    pub(crate) fn is_directory(&self) -> Result<bool, TreeError> {
        if self.destination.ends_with('/') {
            return Ok(true);
        }
        let found = self
            .root
            .find(Path::new(self.destination.trim_start_matches('/')))?;
        Ok(found
            .is_some_and(|(_, stat)| FileType::from_raw_mode(stat.st_mode) == FileType::Directory))
    }

    /// Copies one item: a directory's contents, or a file under its name or the destination's.
    pub(crate) fn copy(&self, tree: &SourceTree<'_>, item: &Item) -> Result<(), TreeError> {
        let path = Path::new(self.destination);
        if item.is_directory() {
            let top = self.root.make_directories(path, self.maker())?;
            let mut copier = Copier::new(self, tree, item, top);
            for entry in &item.entries[1..] {
                copier.entry(entry)?;
            }
            return copier.finish();
        }
        let (parent, name) = self.place(&item.name)?;
        let mut copier = Copier::new(self, tree, item, parent);
        let parent = copier
            .top
            .try_clone()
            .map_err(TreeError::io("opening", self.destination))?;
        copier.make(&item.entries[0], parent.as_fd(), &name)?;
        copier.finish()
    }

    /// The directory and the name for a file, with nothing in its place any more.
    fn place(&self, name: &std::ffi::OsStr) -> Result<(OwnedFd, OsString), TreeError> {
        let path = Path::new(self.destination);
        if self.is_directory()? {
            let parent = self.root.make_directories(path, self.maker())?;
            self.clear(parent.as_fd(), name)?;
            return Ok((parent, name.to_owned()));
        }
        let place = self.root.place(path, self.maker())?;
        if place.existing.is_some() {
            self.clear(place.parent.as_fd(), &place.name)?;
        }
        Ok((place.parent, place.name))
    }

    fn clear(&self, parent: BorrowedFd<'_>, name: &std::ffi::OsStr) -> Result<(), TreeError> {
        clear(parent, name).map_err(|errno| self.refused(name.as_ref(), errno))
    }

    fn refused(&self, name: &Path, errno: Errno) -> TreeError {
        let path = Path::new(self.destination).join(name);
        let shown = path.display();
        match errno {
            Errno::ISDIR => TreeError::Refused(format!(
                "{shown} is a directory, which a file cannot replace"
            )),
            Errno::NOTDIR | Errno::LOOP => TreeError::Refused(format!(
                "{shown} is no directory, and a directory cannot replace it"
            )),
            errno => TreeError::system("writing", &shown.to_string())(errno),
        }
    }

    /// Writes a file whose text stands in the Dockerfile.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), TreeError> {
        let (parent, name) = self.place(name.as_ref())?;
        let failed = |errno| self.refused(name.as_ref(), errno);
        let mut file = create(parent.as_fd(), &name).map_err(failed)?;
        std::io::Write::write_all(&mut file, text.as_bytes())
            .map_err(TreeError::io("writing", self.destination))?;
        chown(file.as_fd(), self.maker()).map_err(failed)?;
        let mode = Mode::from_raw_mode(self.mode.unwrap_or(0o644));
        rustix::fs::fchmod(&file, mode).map_err(failed)
    }
}

/// Removes what stands at a name, if it is no directory.
fn clear(parent: BorrowedFd<'_>, name: &std::ffi::OsStr) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn create(parent: BorrowedFd<'_>, name: &std::ffi::OsStr) -> rustix::io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600)).map(File::from)
}

/// Copies the entries of one item.
struct Copier<'a> {
    target: &'a Target<'a>,
    tree: &'a SourceTree<'a>,
    item: &'a Item,
    top: OwnedFd,
    /// The directory that was last used: entries of one directory follow each other.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Files with several names: where the first one went.
    links: HashMap<(u64, u64), PathBuf>,
    /// Directories, which are completed when their contents are there.
    directories: Vec<Made>,
}

/// A directory that was copied, and what it gets at the end.
struct Made {
    path: PathBuf,
    times: Timestamps,
    /// What is made in the directory would take it over.
    default_acl: Option<Vec<u8>>,
}

const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

impl<'a> Copier<'a> {
    fn new(target: &'a Target<'a>, tree: &'a SourceTree<'a>, item: &'a Item, top: OwnedFd) -> Self {
        Self {
            target,
            tree,
            item,
            top,
            parent: None,
            links: HashMap::new(),
            directories: Vec::new(),
        }
    }

    /// An entry of a directory.
    fn entry(&mut self, entry: &Entry) -> Result<(), TreeError> {
        let above = entry.path.parent().unwrap_or(Path::new(""));
        let name = entry.path.file_name().unwrap_or_default().to_owned();
        let parent = match self.parent.take() {
            Some((path, fd)) if path == above => fd,
            _ => open_dir_below(self.top.as_fd(), above)
                .map_err(|errno| self.target.refused(above, errno))?,
        };
        let made = if entry.kind() == FileType::Directory {
            self.directory(entry, parent.as_fd(), &name)
        } else {
            clear(parent.as_fd(), &name)
                .map_err(|errno| self.target.refused(&entry.path, errno))
                .and_then(|()| self.make(entry, parent.as_fd(), &name))
        };
        self.parent = Some((above.to_owned(), parent));
        made
    }

    fn directory(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &std::ffi::OsStr,
    ) -> Result<(), TreeError> {
        let refused = |errno| self.target.refused(&entry.path, errno);
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(refused(errno)),
        }
        let fd = open_dir_below(parent, Path::new(name)).map_err(refused)?;
        self.dress(entry, fd.as_fd())?;
        let path = self.item.path_of(entry);
        let from = self.tree.root.open_dir(&path).map_err(refused)?;
        self.directories.push(Made {
            path: entry.path.clone(),
            times: times(&entry.stat),
            default_acl: self.attributes(from.as_fd(), fd.as_fd(), &path)?,
        });
        Ok(())
    }

    fn finish(self) -> Result<(), TreeError> {
        for made in self.directories.iter().rev() {
            let fd = open_dir_below(self.top.as_fd(), &made.path)
                .map_err(|errno| self.target.refused(&made.path, errno))?;
            if let Some(acl) = &made.default_acl {
                set_attribute(fd.as_fd(), DEFAULT_ACL, acl, &made.path)?;
            }
            set_times(&fd, &made.times, &made.path)?;
        }
        Ok(())
    }

    /// A file of any kind but a directory, at a free name.
    fn make(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &std::ffi::OsStr,
    ) -> Result<(), TreeError> {
        let refused = |errno| self.target.refused(&entry.path, errno);
        if entry.is_shared() {
            let key = (entry.stat.st_dev, entry.stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                return rustix::fs::linkat(&self.top, first, parent, name, AtFlags::empty())
                    .map_err(refused);
            }
            self.links.insert(key, entry.path.clone());
        }
        let path = self.item.path_of(entry);
        match entry.kind() {
            FileType::RegularFile => self.regular(entry, &path, parent, name),
            FileType::Symlink => {
                let target = self.tree.link(&path)?;
                rustix::fs::symlinkat(&target, parent, name).map_err(refused)?;
                self.dress_name(entry, parent, name, false)
            }
            kind => {
                let mode = Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(parent, name, kind, mode, entry.stat.st_rdev)
                    .map_err(refused)?;
                self.dress_name(entry, parent, name, true)
            }
        }
    }

    fn regular(
        &self,
        entry: &Entry,
        path: &Path,
        parent: BorrowedFd<'_>,
        name: &std::ffi::OsStr,
    ) -> Result<(), TreeError> {
        let shown = path.to_string_lossy();
        let mut from = self
            .tree
            .root
            .open_file(path)
            .map_err(TreeError::system("opening", &shown))?;
        let mut to =
            create(parent, name).map_err(|errno| self.target.refused(name.as_ref(), errno))?;
        std::io::copy(&mut from, &mut to).map_err(TreeError::io("copying", &shown))?;
        let now = rustix::fs::fstat(&from).map_err(TreeError::system("copying", &shown))?;
        if !is_same(&now, &entry.stat) {
            return Err(TreeError::Refused(format!(
                "{shown} changed while it was being copied; build again when it is quiet"
            )));
        }
        self.dress(entry, to.as_fd())?;
        self.attributes(from.as_fd(), to.as_fd(), path)?;
        set_times(&to, &times(&entry.stat), path)
    }

    /// Gives a copy the extended attributes of what it is one of, after owner and mode; a default ACL is given back instead.
    fn attributes(
        &self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        path: &Path,
    ) -> Result<Option<Vec<u8>>, TreeError> {
        let mut default_acl = None;
        for (name, value) in self.tree.attributes(from, &path.to_string_lossy())? {
            match name.as_slice() {
                DEFAULT_ACL => default_acl = Some(value),
                // It would say the mode again that was asked to be another.
                ACCESS_ACL if self.target.mode.is_some() => {}
                name => set_attribute(to, name, &value, path)?,
            }
        }
        Ok(default_acl)
    }

    fn owner(&self, stat: &Stat) -> Owner {
        match self.target.owner {
            Some(owner) => owner,
            None if self.tree.keeps_owners => (stat.st_uid, stat.st_gid),
            None => (0, 0),
        }
    }

    fn mode(&self, stat: &Stat) -> Mode {
        Mode::from_raw_mode(self.target.mode.unwrap_or(stat.st_mode & 0o7777))
    }

    /// Owner and mode, in this order: a change of owner takes set-user-id away.
    fn dress(&self, entry: &Entry, fd: BorrowedFd<'_>) -> Result<(), TreeError> {
        chown(fd, self.owner(&entry.stat))
            .and_then(|()| rustix::fs::fchmod(fd, self.mode(&entry.stat)))
            .map_err(|errno| self.target.refused(&entry.path, errno))
    }

    fn dress_name(
        &self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &std::ffi::OsStr,
        has_mode: bool,
    ) -> Result<(), TreeError> {
        let (uid, gid) = self.owner(&entry.stat);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(
            parent,
            name,
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            flags,
        )
        .and_then(|()| {
            if !has_mode {
                return Ok(());
            }
            rustix::fs::chmodat(parent, name, self.mode(&entry.stat), AtFlags::empty())
        })
        .and_then(|()| rustix::fs::utimensat(parent, name, &times(&entry.stat), flags))
        .map_err(|errno| self.target.refused(&entry.path, errno))
    }
}

fn is_same(a: &Stat, b: &Stat) -> bool {
    a.st_size == b.st_size
        && a.st_mtime == b.st_mtime
        && a.st_mtime_nsec == b.st_mtime_nsec
        && a.st_ctime == b.st_ctime
        && a.st_ctime_nsec == b.st_ctime_nsec
        && a.st_ino == b.st_ino
}

/// A layer knows whole seconds only.
#[allow(clippy::unnecessary_cast)] // The field's type differs between architectures.
fn times(stat: &Stat) -> Timestamps {
    let time = Timespec {
        tv_sec: stat.st_mtime as i64,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn set_times(fd: impl AsFd, times: &Timestamps, path: &Path) -> Result<(), TreeError> {
    rustix::fs::futimens(fd, times).map_err(TreeError::system(
        "setting the times of",
        &path.to_string_lossy(),
    ))
}

fn set_attribute(
    to: BorrowedFd<'_>,
    name: &[u8],
    value: &[u8],
    path: &Path,
) -> Result<(), TreeError> {
    rustix::fs::fsetxattr(to, name, value, XattrFlags::empty()).map_err(TreeError::system(
        "setting attributes of",
        &path.to_string_lossy(),
    ))
}
