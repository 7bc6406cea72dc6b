//! What the registry keeps on disk.
//!
//! ```text
//! lock                                     held while a registry serves the directory
//! blobs/ALGORITHM/HEX                      content, whole and checked under this name
//! repositories/NAME/_blobs/ALGORITHM/HEX   empty: the repository has this blob
//! repositories/NAME/_manifests/ALGORITHM/HEX   the manifest's media type
//! repositories/NAME/_referrers/ALGORITHM/HEX/ALGORITHM-HEX   empty: the second has the first as its subject
//! repositories/NAME/_tags/TAG              the digest that the tag names
//! repositories/NAME/_uploads/ID            what has come of an upload
//! incoming/                                files that are being written; emptied at the start
//! ```
//!
//! A component of a repository's name cannot begin with `_`, so the two never meet. A file comes to its name by rename, after its
//! content is on disk; a manifest or tag is on disk, with all that it names, when its writer is told so.

mod blobs;
mod collect;
mod manifests;
mod uploads;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dhow_image::Digest;
use fs_err as fs;
use rustix::fs::{FlockOperation, flock};

pub(crate) use manifests::StoredManifest;
pub(crate) use uploads::{Upload, UploadError};

use crate::name::RepositoryName;

/// A registry's directory.
pub(crate) struct Storage {
    root: PathBuf,
    /// Locked for as long as this lives.
    _lock: fs::File,
    /// Held shared by who makes something be used, alone by who takes away what nobody uses.
    gate: RwLock<()>,
}

impl Storage {
    /// Opens the directory, makes what it lacks, and clears away what an earlier server left half done.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        for dir in ["blobs", "repositories", "incoming"] {
            fs::create_dir_all(root.join(dir))?;
        }
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(root.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!(
                    "another registry serves {}; stop it, or name another directory with --root",
                    root.display()
                ),
            )
        })?;
        let storage = Self {
            root: root.to_owned(),
            _lock: lock,
            gate: RwLock::default(),
        };
        storage.collect()?;
        Ok(storage)
    }

    /// Keeps what is there from being taken away for as long as the answer lives.
    pub(crate) fn gate(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        by_digest(self.root.join("blobs"), digest)
    }

    fn repositories(&self) -> PathBuf {
        self.root.join("repositories")
    }

    fn repository(&self, name: &RepositoryName) -> PathBuf {
        self.repositories().join(name.as_str())
    }

    /// Whether anything was ever put into the repository.
    pub(crate) fn repository_exists(&self, name: &RepositoryName) -> bool {
        let dir = self.repository(name);
        dir.join("_manifests").is_dir() || dir.join("_blobs").is_dir()
    }

    /// Writes a small file so that it is there whole or not at all, and on disk when this returns.
    fn write_durably(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(self.incoming())?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        let dir = parent(path);
        make_directories(dir)?;
        file.persist(path).map_err(|error| error.error)?;
        sync_directory(dir)
    }
}

/// `DIR/ALGORITHM/HEX`
fn by_digest(dir: PathBuf, digest: &Digest) -> PathBuf {
    dir.join(digest.algorithm().name()).join(digest.hex())
}

/// The digests that `DIR/ALGORITHM/HEX` files name.
fn digests_in(dir: &Path) -> io::Result<Vec<Digest>> {
    let mut digests = Vec::new();
    for algorithm in names_in(dir)? {
        for hex in names_in(&dir.join(&algorithm))? {
            digests.extend(format!("{algorithm}:{hex}").parse::<Digest>());
        }
    }
    Ok(digests)
}

/// The names in a directory, sorted; none where it is missing.
fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// Makes a directory and those above it, each on disk before the next.
fn make_directories(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Ok(()) => sync_directory(parent(dir)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_directories(parent(dir))?;
            make_directories(dir)
        }
        Err(error) => Err(error),
    }
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Removes a file; whether it was there.
fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads a small file; none where it is missing.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
