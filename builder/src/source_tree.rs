//! What a `COPY` takes: the files that its sources and patterns name, and a digest of them.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use dhow_dockerfile::{IgnoreFile, Wildcard, nearest};
use dhow_image::{Algorithm, Digest, Hasher};
use rustix::fs::{AtFlags, Dir, FileType, Stat};

use crate::TreeError;
use crate::root_dir::{RootDir, clean};

/// A tree to copy from.
pub(crate) struct SourceTree<'a> {
    pub(crate) root: &'a RootDir,
    /// What of it is left out everywhere.
    pub(crate) ignore: &'a IgnoreFile,
    /// What one instruction leaves out.
    pub(crate) excludes: IgnoreFile,
    /// What the tree is called in errors.
    pub(crate) title: String,
    /// What to say when a file is there but left out.
    pub(crate) ignored_by: String,
    /// Whether files keep their owners; a context's are all root's.
    pub(crate) keeps_owners: bool,
}

/// One file or directory that is copied.
#[derive(Debug)]
pub(crate) struct Item {
    /// Its path without links, from the tree's root.
    pub(crate) path: PathBuf,
    /// The name that it gets in a directory.
    pub(crate) name: OsString,
    /// What it consists of: itself first, with an empty path; a directory's entries after it.
    pub(crate) entries: Vec<Entry>,
}

/// A file of an item.
#[derive(Debug)]
pub(crate) struct Entry {
    /// From the item.
    pub(crate) path: PathBuf,
    /// As it was when the copy was planned.
    pub(crate) stat: Stat,
}

impl Item {
    /// The path of one of its entries from the tree's root.
    pub(crate) fn path_of(&self, entry: &Entry) -> PathBuf {
        if entry.path.as_os_str().is_empty() {
            // To join nothing would add a slash, which only a directory may have.
            self.path.clone()
        } else {
            self.path.join(&entry.path)
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.entries
            .first()
            .is_some_and(|e| e.kind() == FileType::Directory)
    }
}

impl Entry {
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Several names may stand for this file.
    pub(crate) fn is_shared(&self) -> bool {
        self.stat.st_nlink > 1 && self.kind() != FileType::Directory
    }
}

impl SourceTree<'_> {
    /// What the sources name, in their order.
    ///
    /// # Errors
    /// When a source without wildcards names nothing.
    pub(crate) fn items(&self, sources: &[String]) -> Result<Vec<Item>, TreeError> {
        let mut items = Vec::new();
        for source in sources {
            let path = clean(Path::new(source));
            if Wildcard::is_needed(source) {
                let found = self.matching(source)?;
                for path in found {
                    items.extend(self.item(&path)?);
                }
            } else {
                items.push(
                    self.item(&path)?
                        .ok_or_else(|| self.not_found(source, &path))?,
                );
            }
        }
        Ok(items)
    }

    /// The item at a path; none where there is nothing, or where it is left out.
    fn item(&self, path: &Path) -> Result<Option<Item>, TreeError> {
        let Some((real, stat)) = self.root.find(path)? else {
            return Ok(None);
        };
        let name = path.file_name().unwrap_or(OsStr::new("")).to_owned();
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let is_root = real.as_os_str().is_empty();
        let out = !is_root && self.ignore.ignores(&real.to_string_lossy());
        let excluded = !is_directory && self.excludes.ignores(&name.to_string_lossy());
        if excluded || out && !(is_directory && self.ignore.has_exceptions()) {
            return Ok(None);
        }
        let mut item = Item {
            path: real,
            name,
            entries: vec![Entry {
                path: PathBuf::new(),
                stat,
            }],
        };
        if is_directory {
            self.walk(&mut item, Path::new(""))?;
            if out && item.entries.len() == 1 {
                return Ok(None);
            }
        }
        Ok(Some(item))
    }

    fn not_found(&self, source: &str, path: &Path) -> TreeError {
        let there = matches!(self.root.find(path), Ok(Some(_)));
        let hint = if there {
            self.ignored_by.clone()
        } else {
            let above = path.parent().unwrap_or(Path::new(""));
            let names = self.names(above).unwrap_or_default();
            let names: Vec<String> = names
                .iter()
                .map(|name| name.to_string_lossy().into_owned())
                .collect();
            let wanted = path.file_name().unwrap_or_default().to_string_lossy();
            match nearest(&wanted, names.iter().map(String::as_str)) {
                Some(near) => format!("; did you mean {}?", above.join(near).display()),
                None => String::new(),
            }
        };
        TreeError::NotFound {
            path: source.to_owned(),
            place: self.title.clone(),
            hint,
        }
    }

    /// The names in a directory, sorted; links on the way to it are followed.
    fn names(&self, path: &Path) -> Result<Vec<OsString>, TreeError> {
        let name = path.to_string_lossy();
        let Some((real, stat)) = self.root.find(path)? else {
            return Ok(Vec::new());
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(Vec::new());
        }
        self.names_of(&real, &name)
    }

    fn names_of(&self, real: &Path, shown: &str) -> Result<Vec<OsString>, TreeError> {
        let failed = TreeError::system("reading the directory", shown);
        let fd = self.root.open_dir(real).map_err(&failed)?;
        let mut names = Vec::new();
        for entry in Dir::new(fd).map_err(&failed)? {
            let name = entry.map_err(&failed)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        names.sort();
        Ok(names)
    }

    /// The paths that a pattern matches, part by part.
    fn matching(&self, pattern: &str) -> Result<Vec<PathBuf>, TreeError> {
        let mut found = vec![PathBuf::new()];
        let parts: Vec<&str> = pattern
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .collect();
        for part in parts {
            let mut next = Vec::new();
            if part == ".." {
                next.extend(found.iter().map(|path| clean(&path.join(".."))));
            } else if Wildcard::is_needed(part) {
                let wildcard = Wildcard::path(part).map_err(|error| {
                    TreeError::Refused(format!("{pattern:?} is not a pattern: {error}"))
                })?;
                for path in &found {
                    let names = self.names(path)?.into_iter();
                    next.extend(
                        names
                            .filter(|name| wildcard.matches(&name.to_string_lossy()))
                            .map(|name| path.join(name)),
                    );
                }
            } else {
                for path in &found {
                    let path = path.join(part);
                    if self.root.find(&path)?.is_some() {
                        next.push(path);
                    }
                }
            }
            found = next;
        }
        Ok(found)
    }

    /// Adds the entries of a directory of the item.
    fn walk(&self, item: &mut Item, dir: &Path) -> Result<(), TreeError> {
        let real = item.path.join(dir);
        let shown = real.to_string_lossy().into_owned();
        let failed = TreeError::system("reading the directory", &shown);
        let fd = self.root.open_dir(&real).map_err(&failed)?;
        for name in self.names_of(&real, &shown)? {
            let path = dir.join(&name);
            let stat =
                rustix::fs::statat(&fd, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(&failed)?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            let is_directory = kind == FileType::Directory;
            // A socket has no content to copy.
            if kind == FileType::Socket || self.excludes.ignores(&path.to_string_lossy()) {
                continue;
            }
            let out = self.ignore.ignores(&real.join(&name).to_string_lossy());
            if out && !(is_directory && self.ignore.has_exceptions()) {
                continue;
            }
            let before = item.entries.len();
            item.entries.push(Entry {
                path: path.clone(),
                stat,
            });
            if is_directory {
                self.walk(item, &path)?;
                // A directory that is left out is there only for what in it is not.
                if out && item.entries.len() == before + 1 {
                    item.entries.pop();
                }
            }
        }
        Ok(())
    }

    /// A digest of names, kinds, modes, owners, attributes and contents; not of times.
    pub(crate) fn digest(&self, items: &[Item]) -> Result<Digest, TreeError> {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        for item in items {
            let mut seen = HashMap::new();
            hash_field(&mut hasher, b"item", item.name.as_bytes());
            for entry in &item.entries {
                self.hash_entry(&mut hasher, item, entry, &mut seen)?;
            }
        }
        Ok(hasher.finish())
    }

    fn hash_entry<'i>(
        &self,
        hasher: &mut Hasher,
        item: &Item,
        entry: &'i Entry,
        seen: &mut HashMap<(u64, u64), &'i Path>,
    ) -> Result<(), TreeError> {
        let path = item.path_of(entry);
        let shown = path.to_string_lossy();
        hash_field(hasher, b"path", entry.path.as_os_str().as_bytes());
        let stat = &entry.stat;
        let (uid, gid) = if self.keeps_owners {
            (stat.st_uid, stat.st_gid)
        } else {
            (0, 0)
        };
        let head = format!("{:o} {uid} {gid}", stat.st_mode);
        hash_field(hasher, b"head", head.as_bytes());
        if entry.is_shared() {
            if let Some(first) = seen.get(&(stat.st_dev, stat.st_ino)) {
                hash_field(hasher, b"same", first.as_os_str().as_bytes());
                return Ok(());
            }
            seen.insert((stat.st_dev, stat.st_ino), &entry.path);
        }
        match entry.kind() {
            FileType::RegularFile => {
                let mut file = self
                    .root
                    .open_file(&path)
                    .map_err(TreeError::system("opening", &shown))?;
                self.hash_attributes(hasher, file.as_fd(), &shown)?;
                let mut buffer = vec![0; 128 << 10];
                hash_field(hasher, b"size", stat.st_size.to_string().as_bytes());
                loop {
                    let read = file
                        .read(&mut buffer)
                        .map_err(TreeError::io("reading", &shown))?;
                    if read == 0 {
                        break;
                    }
                    hasher.update(&buffer[..read]);
                }
            }
            FileType::Directory => {
                let directory = self
                    .root
                    .open_dir(&path)
                    .map_err(TreeError::system("opening", &shown))?;
                self.hash_attributes(hasher, directory.as_fd(), &shown)?;
            }
            FileType::Symlink => {
                let target = self.link(&path)?;
                hash_field(hasher, b"link", target.as_bytes());
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                hash_field(hasher, b"device", stat.st_rdev.to_string().as_bytes());
            }
            _ => {}
        }
        Ok(())
    }

    fn hash_attributes(
        &self,
        hasher: &mut Hasher,
        file: BorrowedFd<'_>,
        shown: &str,
    ) -> Result<(), TreeError> {
        for (name, value) in self.attributes(file, shown)? {
            hash_field(hasher, b"name", &name);
            hash_field(hasher, b"value", &value);
        }
        Ok(())
    }

    /// The extended attributes of a file that its copy gets: ACLs name users, and mean something only where owners are kept.
    pub(crate) fn attributes(
        &self,
        file: BorrowedFd<'_>,
        shown: &str,
    ) -> Result<Vec<dhow_layer::Xattr>, TreeError> {
        let mut found = dhow_layer::kept_attributes(file)
            .map_err(TreeError::system("reading attributes of", shown))?;
        found.retain(|(name, _)| self.keeps_owners || !name.starts_with(b"system."));
        Ok(found)
    }

    /// Where a link of the tree leads.
    pub(crate) fn link(&self, path: &Path) -> Result<OsString, TreeError> {
        let shown = path.to_string_lossy();
        let failed = TreeError::system("reading the link", &shown);
        let above = path.parent().unwrap_or(Path::new(""));
        let parent = self.root.open_dir(above).map_err(&failed)?;
        let name = path.file_name().unwrap_or_default();
        rustix::fs::readlinkat(&parent, name, Vec::new())
            .map(|target| OsString::from_vec(target.into_bytes()))
            .map_err(failed)
    }
}

/// A part of what is hashed, told apart from its neighbours by its length.
fn hash_field(hasher: &mut Hasher, name: &[u8], value: &[u8]) {
    hasher.update(name);
    hasher.update(&(value.len() as u64).to_le_bytes());
    hasher.update(value);
}

#[cfg(test)]
mod tests;
