//! One cgroup directory: its files, opened relative to it.

use std::cell::OnceCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, Mode, OFlags};
use rustix::io::Errno;

use super::CgroupError;
use crate::procfs::read_record;

/// A cgroup directory. Its files are opened by their whole paths: most directories have one file or none looked at, and so a
/// descriptor of the directory would be two calls more.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    opened: OnceCell<OwnedFd>,
}

impl Directory {
    /// The directory at a path, which need not be there yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            opened: OnceCell::new(),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A descriptor of it (O_PATH would not do for eBPF programs).
    pub(super) fn fd(&self) -> rustix::io::Result<BorrowedFd<'_>> {
        if self.opened.get().is_none() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(&self.path, flags, Mode::empty())?;
            // Nothing else can have set it: there is one thread.
            let _ = self.opened.set(fd);
        }
        self.opened
            .get()
            .map(AsFd::as_fd)
            .ok_or(rustix::io::Errno::BADF)
    }

    /// Opens one of its files.
    pub(super) fn open(&self, file: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        rustix::fs::open(self.path.join(file), flags, Mode::empty())
    }

    /// Whether it has a file of this name.
    pub(super) fn has(&self, file: &str) -> bool {
        rustix::fs::access(self.path.join(file), Access::EXISTS).is_ok()
    }

    /// Writes a value in one call, for a caller that knows what to do with the kernel's answer.
    pub(super) fn try_write(&self, file: &str, value: &str) -> rustix::io::Result<()> {
        let fd = self.open(file, OFlags::WRONLY)?;
        loop {
            match rustix::io::write(&fd, value.as_bytes()) {
                Err(Errno::INTR) => {}
                other => return other.map(|_| ()),
            }
        }
    }

    /// Writes a value.
    pub(super) fn write(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        self.try_write(file, value)
            .map_err(|errno| self.refused(file, value, errno))
    }

    /// Writes what `value` gives to a file that says nothing.
    pub(super) fn fill(
        &self,
        file: &str,
        value: impl FnOnce() -> Result<String, CgroupError>,
    ) -> Result<(), CgroupError> {
        let cannot_read = |errno: Errno| CgroupError::Read {
            file: self.path.join(file),
            source: errno.into(),
        };
        let fd = match self.open(file, OFlags::RDWR) {
            // Somebody else's, and filled by them.
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS)
                if !self.read(file)?.trim().is_empty() =>
            {
                return Ok(());
            }
            answer => answer.map_err(cannot_read)?,
        };
        let mut now = [0; 64];
        let length = rustix::io::read(&fd, &mut now).map_err(cannot_read)?;
        if !now[..length].trim_ascii().is_empty() {
            return Ok(());
        }
        let value = value()?;
        let value = value.trim();
        match rustix::io::write(&fd, value.as_bytes()) {
            Ok(_) => Ok(()),
            Err(errno) => Err(self.refused(file, value, errno)),
        }
    }

    /// The error for a value that was not taken.
    pub(super) fn refused(&self, file: &str, value: &str, errno: Errno) -> CgroupError {
        CgroupError::Write {
            file: self.path.join(file),
            value: value.to_owned(),
            source: errno.into(),
        }
    }

    /// Reads a file, for a caller that knows what to do with the kernel's answer.
    pub(super) fn try_read(&self, file: &str) -> io::Result<String> {
        read_whole(&self.path.join(file))
    }

    /// Reads a file of values, which the kernel writes as one record (lists of processes are not).
    pub(super) fn read(&self, file: &str) -> Result<String, CgroupError> {
        let path = self.path.join(file);
        match read_record(&path) {
            Ok(text) => Ok(as_text(text)),
            Err(errno) => Err(CgroupError::Read {
                file: path,
                source: errno.into(),
            }),
        }
    }

    /// Reads a file that not every kernel has; none where it is not there, or is switched off.
    pub(super) fn read_if_there(&self, file: &str) -> Result<Option<String>, CgroupError> {
        let absent = [Errno::NOENT, Errno::NODEV, Errno::OPNOTSUPP];
        match self.try_read(file) {
            Ok(text) => Ok(Some(text)),
            Err(error)
                if absent
                    .iter()
                    .any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) =>
            {
                Ok(None)
            }
            Err(source) => Err(CgroupError::Read {
                file: self.path.join(file),
                source,
            }),
        }
    }

    /// A number in a file that not every kernel has, as it stands there; `max` is the largest.
    pub(super) fn figure(&self, file: &str) -> Result<Option<u64>, CgroupError> {
        let text = self.read_if_there(file)?;
        Ok(text.and_then(|text| match text.trim() {
            "max" => Some(u64::MAX),
            number => number.parse().ok(),
        }))
    }

    /// A number in a file of one; `max`, and what v1 writes for it, is none.
    pub(super) fn number(&self, file: &str) -> Result<Option<u64>, CgroupError> {
        Ok(parse_number(&self.read(file)?))
    }

    /// A number in a file of lines `name number`.
    pub(super) fn entry(&self, file: &str, name: &str) -> Result<Option<u64>, CgroupError> {
        Ok(find_entry(&self.read(file)?, name))
    }
}

/// Reads a file of the kernel's: it has no size to ask for, and is mostly there in one piece.
pub(super) fn read_whole(file: &Path) -> io::Result<String> {
    let fd = rustix::fs::open(file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = Vec::new();
    let mut piece = [0; 8192];
    loop {
        match rustix::io::read(&fd, &mut piece) {
            Ok(0) => break,
            Ok(count) => text.extend_from_slice(&piece[..count]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(as_text(text))
}

/// What is no UTF-8 here is a path with such a name, which is looked at no further.
fn as_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// A number, if it is a limit: v1 writes the largest multiple of a page that fits where there is none.
pub(super) fn parse_number(text: &str) -> Option<u64> {
    text.trim()
        .parse()
        .ok()
        .filter(|number| *number < (i64::MAX as u64) & !0xffff)
}

/// The number behind a name, in lines of `name number`.
pub(super) fn find_entry(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_none_in_both_versions() {
        assert_eq!(parse_number("max\n"), None);
        assert_eq!(parse_number("9223372036854771712\n"), None);
        assert_eq!(parse_number("4096\n"), Some(4096));
    }

    #[test]
    fn entries_are_found_by_their_whole_name() {
        let text = "oom 3\noom_kill 2\n";
        assert_eq!(find_entry(text, "oom_kill"), Some(2));
        assert_eq!(find_entry(text, "kill"), None);
    }
}
