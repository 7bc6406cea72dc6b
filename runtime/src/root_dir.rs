//! Paths of a container, resolved inside its root by the kernel.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use dhow_sys::path::open_within;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

/// The root directory of a container. No path leads out of it, whatever links it holds.
#[derive(Debug)]
pub(crate) struct RootDir {
    fd: OwnedFd,
}

/// What a mount needs below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetKind {
    /// A directory.
    Directory,
    /// Anything that is not a directory.
    File,
}

impl RootDir {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens a path for reference only, with links resolved inside this root.
    pub(crate) fn resolve(&self, path: &Path) -> Result<OwnedFd> {
        self.open(path, OFlags::PATH, ResolveFlags::empty())
    }

    /// As [`resolve`](Self::resolve), and no component may be a link.
    pub(crate) fn resolve_without_links(&self, path: &Path) -> Result<OwnedFd> {
        self.open(path, OFlags::PATH, ResolveFlags::NO_SYMLINKS)
    }

    fn open(&self, path: &Path, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd> {
        let path = if path == Path::new("/") || path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        open_within(&self.fd, path, flags, Mode::empty(), resolve)
    }

    /// Opens the place of a mount, and makes it (a directory or an empty file, with what is missing above) where it is
    /// not there.
    pub(crate) fn resolve_or_make(&self, path: &Path, kind: TargetKind) -> Result<OwnedFd> {
        match self.resolve(path) {
            Err(Errno::NOENT) => {}
            answer => return answer,
        }
        match kind {
            TargetKind::Directory => return self.make_missing(path, 40),
            TargetKind::File => self.make_file(path, 40)?,
        }
        self.resolve(path)
    }

    /// Makes an empty file, also where a link to nothing yet leads (/etc/resolv.conf is one in many images).
    fn make_file(&self, path: &Path, links: u32) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        if let Some(target) = link_target(parent.as_fd(), path, name) {
            return match links {
                0 => Err(Errno::LOOP),
                _ => self.make_file(&target, links - 1),
            };
        }
        // Never opens what somebody else has put there meanwhile: it could be a pipe, on which this would wait.
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::WRONLY;
        match rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)) {
            Ok(_) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Opens the directory above a path (made where it is missing), and gives the last name.
    pub(crate) fn parent<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p OsStr)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.make_directories(parent)?, name))
    }

    /// Opens a directory; it and what is above it is made where it is missing, also where a link leads to it.
    pub(crate) fn make_directories(&self, path: &Path) -> Result<OwnedFd> {
        self.make_directories_within(path, 40)
    }

    fn make_directories_within(&self, path: &Path, links: u32) -> Result<OwnedFd> {
        match self.resolve_directory(path) {
            Err(Errno::NOENT) if links > 0 => self.make_missing(path, links),
            answer => answer,
        }
    }

    /// As [`resolve`](Self::resolve); `ENOTDIR` for what is no directory.
    pub(crate) fn resolve_directory(&self, path: &Path) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        self.open(path, flags, ResolveFlags::empty())
    }

    /// Makes a directory that was not there a moment ago.
    fn make_missing(&self, path: &Path, links: u32) -> Result<OwnedFd> {
        // What is missing has no links yet, so above it `..` would be the only way out of what was looked up.
        let name = match path.components().next_back() {
            Some(Component::Normal(name)) => name,
            _ => return Err(Errno::INVAL),
        };
        let above = path.parent().unwrap_or(Path::new("/"));
        let parent = self.make_directories_within(above, links - 1)?;
        if !make_directory(parent.as_fd(), name)?
            && let Some(target) = link_target(parent.as_fd(), path, name)
        {
            return self.make_directories_within(&target, links - 1);
        }
        self.resolve_directory(path)
    }
}

/// Where a link to nothing yet leads, cleaned of `..`; it is resolved inside the root like any path.
fn link_target(parent: BorrowedFd<'_>, path: &Path, name: &OsStr) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let target = rustix::fs::readlinkat(parent, name, Vec::new()).ok()?;
    let target = Path::new(OsStr::from_bytes(target.to_bytes()));
    let above = path.parent().unwrap_or(Path::new("/"));
    Some(crate::plan::clean(&above.join(target)))
}

/// Makes a directory; whether there was nothing of that name.
fn make_directory(parent: BorrowedFd<'_>, name: &OsStr) -> Result<bool> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The kind of file behind a descriptor.
pub(crate) fn file_type(fd: BorrowedFd<'_>) -> Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

/// Opens a file below the host's /proc and verifies that it is one of procfs (nothing mounted over it), so that what is
/// written there goes to the kernel and nowhere else.
pub(crate) fn open_procfs(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    /// `PROC_SUPER_MAGIC`
    const PROCFS: i64 = 0x9fa0;
    let fd = rustix::fs::open(
        path,
        flags | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    )?;
    if rustix::fs::fstatfs(&fd)?.f_type as i64 != PROCFS {
        return Err(Errno::NODEV);
    }
    Ok(fd)
}

/// Writes a whole value to a file of procfs.
pub(crate) fn write_procfs(path: &Path, value: &[u8]) -> Result<()> {
    let fd = open_procfs(path, OFlags::WRONLY)?;
    rustix::io::write(&fd, value).map(drop)
}
