//! Directories inside a root, found and made without ever leaving it.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, Dev, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::UnpackError;
use crate::attributes::set_opaque;
use crate::options::XattrFlavour;

/// So many open directories are kept.
const KEPT: usize = 64;

/// More than this the directories of a tar may not take in memory. With names of 100 bytes they are more than a million.
const REMEMBERED: usize = 256 << 20;
/// What each of them takes besides its name.
const ENTRY: usize = 96;

/// Where a root's directories are looked up.
pub(crate) struct Places<'a> {
    root: BorrowedFd<'a>,
    /// The directory inside the root from which names lead on; empty for the root itself.
    base: Vec<u8>,
    kept: HashMap<Vec<u8>, Rc<OwnedFd>>,
    /// Directories that were made because something lies in them.
    pub(crate) implied: BTreeSet<Vec<u8>>,
    /// What the directories that were made take in memory until the end.
    remembered: usize,
    /// With a flavour, a whiteout that stands where a directory is to be made makes that one opaque.
    whiteouts: Option<XattrFlavour>,
}

/// What stands in the way of a new entry.
pub(crate) enum Room {
    /// Nothing any more.
    Free {
        /// What was removed was a whiteout of the same layer.
        whiteout: bool,
        /// What was removed was a directory.
        directory: bool,
    },
    /// A directory, which the new one is merged with.
    Directory,
}

impl<'a> Places<'a> {
    pub(crate) fn new(
        root: BorrowedFd<'a>,
        base: Vec<u8>,
        whiteouts: Option<XattrFlavour>,
    ) -> Self {
        Self {
            root,
            base,
            kept: HashMap::new(),
            implied: BTreeSet::new(),
            remembered: 0,
            whiteouts,
        }
    }

    /// The directory at `path`; it and those above it are made where they are missing.
    pub(crate) fn directory(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, UnpackError> {
        if let Some(found) = self.existing(path)? {
            return Ok(found);
        }
        if path.is_empty() {
            return self.make_base();
        }
        let (above, name) = split(path);
        let parent = self.directory(above)?;
        let mut opaque = false;
        let made = rustix::fs::mkdirat(&*parent, name, Mode::from_raw_mode(0o755));
        if made == Err(Errno::EXIST) {
            let found = stat(&parent, name).map_err(wrote(path, "look at what is there"))?;
            if self.whiteouts.is_none() || !found.as_ref().is_some_and(is_whiteout) {
                return Err(refused(
                    path,
                    "something that is no directory stands where its parent should be",
                ));
            }
            rustix::fs::unlinkat(&*parent, name, AtFlags::empty())
                .map_err(wrote(path, "replace a whiteout"))?;
            rustix::fs::mkdirat(&*parent, name, Mode::from_raw_mode(0o755))
                .map_err(wrote(path, "make its parent directory"))?;
            opaque = true;
        } else {
            made.map_err(wrote(path, "make its parent directory"))?;
        }
        let directory =
            open_made(&parent, name).map_err(wrote(path, "open its parent directory"))?;
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o755))
            .map_err(wrote(path, "set the mode of its parent directory"))?;
        if let (true, Some(flavour)) = (opaque, self.whiteouts) {
            set_opaque(directory.as_fd(), flavour)
                .map_err(wrote(path, "mark a directory as opaque"))?;
        }
        self.remember(path, path.len())?;
        self.implied.insert(path.to_vec());
        Ok(self.keep(path, directory))
    }

    /// The directory at `path`; none where there is nothing or something else.
    pub(crate) fn existing(&mut self, path: &[u8]) -> Result<Option<Rc<OwnedFd>>, UnpackError> {
        if let Some(kept) = self.kept.get(path) {
            return Ok(Some(Rc::clone(kept)));
        }
        let mut full = self.base.clone();
        if !full.is_empty() && !path.is_empty() {
            full.push(b'/');
        }
        full.extend_from_slice(path);
        if full.is_empty() {
            full.push(b'.');
        }
        match open_inside(self.root, &full) {
            Ok(directory) => Ok(Some(self.keep(path, directory))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(Errno::LOOP) => Err(refused(path, "its links lead in circles")),
            Err(error) => Err(wrote(path, "open its directory")(error)),
        }
    }

    /// Counts so many bytes of a directory, its path or more, that have to be known until the end.
    pub(crate) fn remember(&mut self, path: &[u8], length: usize) -> Result<(), UnpackError> {
        self.remembered += length + ENTRY;
        match self.remembered <= REMEMBERED {
            true => Ok(()),
            false => Err(refused(path, "the tar has too many directories")),
        }
    }

    /// Keeps the open directory at `path` for what lies in it.
    pub(crate) fn keep(&mut self, path: &[u8], directory: OwnedFd) -> Rc<OwnedFd> {
        if self.kept.len() >= KEPT {
            self.kept.clear();
        }
        let directory = Rc::new(directory);
        self.kept.insert(path.to_vec(), Rc::clone(&directory));
        directory
    }

    /// Makes room for a new entry `name` in `parent` (`path` in all): what is there goes, except a directory for a directory.
    pub(crate) fn make_room(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        for_directory: bool,
    ) -> Result<Room, UnpackError> {
        let free = |whiteout, directory| Room::Free {
            whiteout,
            directory,
        };
        let Some(found) = stat(parent, name).map_err(wrote(path, "look at what is there"))? else {
            return Ok(free(false, false));
        };
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            rustix::fs::unlinkat(parent, name, AtFlags::empty())
                .map_err(wrote(path, "replace what is there"))?;
            // It may have been a link on the way to a kept directory.
            self.kept.clear();
            return Ok(free(is_whiteout(&found), false));
        }
        if for_directory {
            return Ok(Room::Directory);
        }
        crate::remove_tree(parent, name).map_err(|error| UnpackError::Write {
            name: lossy(path),
            doing: "replace the directory that is there",
            source: error,
        })?;
        self.kept.clear();
        for range in below(path) {
            self.implied.extract_if(range, |_| true).for_each(drop);
        }
        Ok(free(false, true))
    }

    /// The directory that names lead on from, made inside the root with those above it.
    fn make_base(&mut self) -> Result<Rc<OwnedFd>, UnpackError> {
        let base = std::mem::take(&mut self.base);
        let made = self.directory(&base);
        self.base.clone_from(&base);
        self.kept.clear();
        self.implied.clear();
        made?;
        self.existing(b"")?
            .ok_or_else(|| refused(&base, "it is no directory"))
    }
}

/// Opens a directory below `root`, following links inside of it only.
pub(crate) fn open_inside(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    dhow_sys::path::open_within(root, path, flags, Mode::empty(), resolve)
}

/// Opens a directory that was just found or made in `parent`.
pub(crate) fn open_made(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// What `name` in `parent` is; none where there is nothing.
pub(crate) fn stat(parent: impl AsFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether it is the overlay's mark of a deleted file: a character device 0/0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    let device: Dev = stat.st_rdev;
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && device == 0
}

/// What of an ordered map of paths is `above` or lies below it: two ranges, since `above-x` sorts between them.
pub(crate) fn below(above: &[u8]) -> [Range<Vec<u8>>; 2] {
    let with = |byte: u8| [above, &[byte]].concat();
    [above.to_vec()..with(0), with(b'/')..with(b'/' + 1)]
}

/// A path's directory and last name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

pub(crate) fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(300).collect()
}

pub(crate) fn refused(path: &[u8], reason: impl Into<String>) -> UnpackError {
    UnpackError::Refused {
        name: lossy(path),
        reason: reason.into(),
    }
}

pub(crate) fn wrote(path: &[u8], doing: &'static str) -> impl Fn(Errno) -> UnpackError {
    move |error| UnpackError::Write {
        name: lossy(path),
        doing,
        source: io::Error::from(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_directories_is_bounded() {
        let root = std::fs::File::open("/").unwrap();
        let mut places = Places::new(root.as_fd(), Vec::new(), None);
        let path = vec![b'd'; 4000];
        let most = REMEMBERED / (path.len() + ENTRY);
        for _ in 0..most {
            places.remember(&path, path.len()).unwrap();
        }
        let error = places.remember(&path, path.len()).unwrap_err().to_string();
        assert!(error.contains("too many directories"), "{error}");
    }

    #[test]
    fn what_is_below_a_path_is_found_by_order() {
        let paths = ["a", "a-b", "a/b", "a/b/c", "a0", "aa", "b"];
        let mut set: BTreeSet<Vec<u8>> = paths.iter().map(|p| p.as_bytes().to_vec()).collect();
        for range in below(b"a") {
            set.extract_if(range, |_| true).for_each(drop);
        }
        let left: Vec<&[u8]> = set.iter().map(Vec::as_slice).collect();
        assert_eq!(left, [&b"a-b"[..], b"a0", b"aa", b"b"]);
    }
}
