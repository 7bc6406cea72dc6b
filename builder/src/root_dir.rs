//! A tree in which every path is resolved by the kernel, so that no link leads out of it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use dhow_sys::path::open_within;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;

use crate::TreeError;

/// How many links to nothing are followed on the way to a place that is to be made.
const MOST_LINKS: usize = 40;

/// Links in the tree are followed, and lead from its own root.
const CONFINED: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
/// No link is followed.
const STRAIGHT: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// The owner of what is made: user and group.
pub(crate) type Owner = (u32, u32);

/// A directory that is the root of all its paths.
#[derive(Debug)]
pub(crate) struct RootDir {
    fd: OwnedFd,
    /// The path by which the kernel knows it.
    path: PathBuf,
}

/// Where something is to be made.
#[derive(Debug)]
pub(crate) struct Place {
    /// The directory.
    pub(crate) parent: OwnedFd,
    /// The name in it.
    pub(crate) name: OsString,
    /// What is there already.
    pub(crate) existing: Option<FileType>,
}

impl RootDir {
    /// The tree below `path`.
    pub(crate) fn open(path: &Path) -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let path = path_of(fd.as_fd())?;
        Ok(Self { fd, path })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens a path, links in the tree followed.
    fn resolve(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        open_within(&self.fd, or_dot(path), flags, Mode::empty(), CONFINED)
    }

    /// What stands at a path, links followed, and its path without links; none where nothing stands there.
    pub(crate) fn find(&self, path: &Path) -> Result<Option<(PathBuf, Stat)>, TreeError> {
        let name = path.to_string_lossy();
        let fd = match self.resolve(path, OFlags::PATH) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(TreeError::system("looking at", &name)(errno)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(TreeError::system("looking at", &name))?;
        let real = self
            .inside(fd.as_fd())
            .map_err(TreeError::system("looking at", &name))?;
        Ok(Some((real, stat)))
    }

    /// The path of an open file from this root.
    fn inside(&self, fd: BorrowedFd<'_>) -> rustix::io::Result<PathBuf> {
        let path = path_of(fd)?;
        match path.strip_prefix(&self.path) {
            Ok(inside) => Ok(inside.to_owned()),
            // Moved away while we looked.
            Err(_) => Err(Errno::XDEV),
        }
    }

    /// Opens a file by its path without links, for reading. A FIFO does not make it wait.
    pub(crate) fn open_file(&self, path: &Path) -> rustix::io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        rustix::fs::openat2(&self.fd, or_dot(path), flags, Mode::empty(), STRAIGHT).map(File::from)
    }

    /// Opens a directory by its path without links.
    pub(crate) fn open_dir(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        open_dir_below(self.fd.as_fd(), path)
    }

    /// The directory at `path`, made with those above it where it is missing: 0755, owned by `owner`.
    pub(crate) fn make_directories(&self, path: &Path, owner: Owner) -> Result<OwnedFd, TreeError> {
        self.make(&clean(path), owner, 0)
    }

    fn make(&self, path: &Path, owner: Owner, links: usize) -> Result<OwnedFd, TreeError> {
        let name = path.to_string_lossy().into_owned();
        let failed = TreeError::system("making the directory", &name);
        match self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let (Some(above), Some(last)) = (path.parent(), path.file_name()) else {
            return Err(failed(Errno::NOENT));
        };
        let parent = self.make(above, owner, links)?;
        match rustix::fs::mkdirat(&parent, last, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                let made = open_dir_below(parent.as_fd(), Path::new(last)).map_err(&failed)?;
                chown(made.as_fd(), owner).map_err(&failed)?;
                // The process's umask may have taken bits away.
                rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755)).map_err(&failed)?;
                Ok(made)
            }
            Err(Errno::EXIST) if links < MOST_LINKS => {
                let target = self.link_target(parent.as_fd(), last).map_err(&failed)?;
                self.make(&target, owner, links + 1)
            }
            Err(Errno::EXIST) => Err(failed(Errno::LOOP)),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Where a link that leads to nothing leads.
    fn link_target(&self, parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<PathBuf> {
        let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        Ok(if target.is_absolute() {
            clean(&target)
        } else {
            clean(&self.inside(parent)?.join(target))
        })
    }

    /// Where a file at `path` is to be made, links followed; directories above it are made.
    pub(crate) fn place(&self, path: &Path, owner: Owner) -> Result<Place, TreeError> {
        let mut path = clean(path);
        for _ in 0..MOST_LINKS {
            let name = path.to_string_lossy().into_owned();
            let failed = TreeError::system("finding the place of", &name);
            if let Some((real, stat)) = self.find(&path)? {
                let (Some(above), Some(last)) = (real.parent(), real.file_name()) else {
                    return Err(failed(Errno::ISDIR));
                };
                return Ok(Place {
                    parent: self.open_dir(above).map_err(&failed)?,
                    name: last.to_owned(),
                    existing: Some(FileType::from_raw_mode(stat.st_mode)),
                });
            }
            let (Some(above), Some(last)) = (path.parent(), path.file_name()) else {
                return Err(failed(Errno::NOENT));
            };
            let parent = self.make(above, owner, 0)?;
            match rustix::fs::statat(&parent, last, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => {
                    return Ok(Place {
                        parent,
                        name: last.to_owned(),
                        existing: None,
                    });
                }
                Err(errno) => return Err(failed(errno)),
                Ok(_) => path = self.link_target(parent.as_fd(), last).map_err(&failed)?,
            }
        }
        Err(TreeError::system(
            "finding the place of",
            &path.to_string_lossy(),
        )(Errno::LOOP))
    }
}

/// Opens a directory below another one by its path without links.
pub(crate) fn open_dir_below(dir: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(dir, or_dot(path), flags, Mode::empty(), STRAIGHT)
}

pub(crate) fn chown(fd: BorrowedFd<'_>, (uid, gid): Owner) -> rustix::io::Result<()> {
    rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

/// The path from the root, without `.`, `..` and the leading slash. What is to be made has no links to go back through.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    clean
}

fn or_dot(path: &Path) -> &Path {
    if path.as_os_str().as_bytes().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

fn path_of(fd: BorrowedFd<'_>) -> rustix::io::Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let path = rustix::fs::readlink(link, Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(path.into_bytes())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn owner() -> Owner {
        (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        )
    }

    #[test]
    fn renames_elsewhere_do_not_disturb() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = RootDir::open(dir.path()).unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        symlink("../../../../real", dir.path().join("up")).unwrap();
        let names = ["a", "b"].map(|name| elsewhere.path().join(name));
        std::fs::create_dir(&names[0]).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let renaming = scope.spawn(|| {
                let mut renamed = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    std::fs::rename(&names[0], &names[1]).unwrap();
                    std::fs::rename(&names[1], &names[0]).unwrap();
                    renamed += 1;
                }
                renamed
            });
            let found = (0..20_000).map(|_| root.find(Path::new("up/../up")));
            let failed = found.filter(|found| !matches!(found, Ok(Some(_)))).count();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(renaming.join().unwrap() > 0);
            assert_eq!(failed, 0);
        });
    }

    #[test]
    fn links_lead_from_the_trees_own_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        symlink("/etc", dir.path().join("out")).unwrap();
        symlink("../../../../etc/passwd", dir.path().join("up")).unwrap();
        assert!(root.find(Path::new("out/passwd")).unwrap().is_none());
        assert!(root.find(Path::new("up")).unwrap().is_none());
        drop(
            root.make_directories(Path::new("/out/new"), owner())
                .unwrap(),
        );
        assert!(dir.path().join("etc/new").is_dir());
        let place = root.place(Path::new("/up"), owner()).unwrap();
        assert_eq!(
            (place.name.to_str(), place.existing),
            (Some("passwd"), None)
        );
        let (real, _) = root.find(Path::new("/out/new")).unwrap().unwrap();
        assert_eq!(real, Path::new("etc/new"));
    }

    #[test]
    fn a_ring_of_links_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        assert!(root.place(Path::new("a"), owner()).is_err());
        assert!(root.make_directories(Path::new("a/c"), owner()).is_err());
    }
}
