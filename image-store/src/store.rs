//! The store, its layout and its two locks.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use dhow_layer::XattrFlavour;
use rustix::fs::FlockOperation;

use crate::StoreError;
use crate::error::io;
use crate::sync::SharedSync;

/// The directories of the layout.
const DIRECTORIES: [&str; 12] = [
    "blobs/sha256",
    "blobs/sha512",
    "layers",
    "compressed",
    "trees",
    "tags",
    "containers",
    "locations",
    "cache",
    "leases",
    "ingest",
    "tmp",
];

/// The image store under one root directory. Clones are the same store; it may be used from any thread.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

/// What all clones share.
#[derive(Debug)]
pub(crate) struct Inner {
    root: PathBuf,
    flavour: OnceLock<XattrFlavour>,
    pub(crate) syncs: SharedSync,
}

/// A lock on the whole store, released when dropped.
#[must_use]
pub(crate) struct StoreLock {
    _file: File,
}

impl Store {
    /// Opens the store under `root`; makes its layout where it is missing.
    ///
    /// # Errors
    /// When the directories cannot be made, or lie on a file system whose locks are not local.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let root = std::path::absolute(root).map_err(io("finding", root))?;
        let store = Self {
            inner: Arc::new(Inner {
                root,
                flavour: OnceLock::new(),
                syncs: SharedSync::default(),
            }),
        };
        // The lock is made last, so where it is the rest is too.
        let lock = store.path("lock");
        if rustix::fs::access(&lock, rustix::fs::Access::EXISTS).is_err() {
            store.make_layout()?;
        }
        Ok(store)
    }

    /// Where it is kept.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    pub(crate) fn path(&self, inner: impl AsRef<Path>) -> PathBuf {
        self.inner.root.join(inner)
    }

    /// The attributes in which overlays of this store keep their marks.
    pub(crate) fn flavour(&self) -> XattrFlavour {
        *self.inner.flavour.get_or_init(|| match is_hosts_root() {
            true => XattrFlavour::Trusted,
            false => XattrFlavour::User,
        })
    }

    /// Held for the moments of writing a lease or a root and checking that what it names exists.
    pub(crate) fn lock_shared(&self) -> Result<StoreLock, StoreError> {
        self.lock("lock", FlockOperation::LockShared)
    }

    /// Held while a collection marks.
    pub(crate) fn lock_exclusive(&self) -> Result<StoreLock, StoreError> {
        self.lock("lock", FlockOperation::LockExclusive)
    }

    /// Held by the one collection that runs.
    pub(crate) fn lock_collection(&self) -> Result<StoreLock, StoreError> {
        self.lock("gc.lock", FlockOperation::LockExclusive)
    }

    fn lock(&self, name: &str, operation: FlockOperation) -> Result<StoreLock, StoreError> {
        let path = self.path(name);
        let file = File::open(&path).map_err(io("opening the lock", &path))?;
        flock(&file, operation).map_err(io("locking", &path))?;
        Ok(StoreLock { _file: file })
    }

    fn make_layout(&self) -> Result<(), StoreError> {
        let root = &self.inner.root;
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        builder
            .create(root)
            .map_err(io("making the store's directory", root))?;
        refuse_remote(root)?;
        // Trees hold files of any owner, some with the suid bit: only the store's owner gets in.
        builder.mode(0o700);
        for directory in DIRECTORIES {
            let path = self.path(directory);
            builder
                .create(&path)
                .map_err(io("making the store's directory", &path))?;
        }
        for lock in ["gc.lock", "lock"] {
            let path = self.path(lock);
            let mut options = File::options();
            let options = options.create(true).append(true);
            let file = options.open(&path).map_err(io("making the lock", &path))?;
            file.set_permissions(fs::Permissions::from_mode(0o600))
                .map_err(io("making the lock", &path))?;
        }
        sync_directory(root)
    }

    /// Writes a file under its final name in one step: whole or not at all, also after a crash where `durable`.
    pub(crate) fn write(
        &self,
        path: &Path,
        content: &[u8],
        durable: bool,
    ) -> Result<(), StoreError> {
        let (temporary, mut file) = self.temporary()?;
        let done = (|| {
            file.write_all(content)?;
            if durable {
                file.sync_all()?;
            }
            fs::rename(&temporary, path)
        })();
        if let Err(error) = done {
            let _ = fs::remove_file(&temporary);
            return Err(io("writing", path)(error));
        }
        match path.parent() {
            Some(parent) if durable => sync_directory(parent),
            _ => Ok(()),
        }
    }

    /// A new file that nobody else knows.
    pub(crate) fn temporary(&self) -> Result<(PathBuf, File), StoreError> {
        let path = self.path("tmp").join(random_name(12)?);
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(io("making", &path))?;
        Ok((path, file))
    }
}

/// Whether this process is root of the machine, and not another user or root of a user namespace.
pub fn is_hosts_root() -> bool {
    // In the first user namespace all ids are mapped to themselves.
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let words: Vec<&str> = map.split_ascii_whitespace().collect();
    words == ["0", "0", "4294967295"] && rustix::process::geteuid().is_root()
}

/// Locks a file, waiting for it.
pub(crate) fn flock(file: &File, operation: FlockOperation) -> io::Result<()> {
    loop {
        match rustix::fs::flock(file, operation) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map_err(Into::into),
        }
    }
}

/// Makes the names in a directory last.
pub(crate) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(io("syncing", path))
}

/// The content of a file; none where there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io("reading", path)(error)),
    }
}

/// Whether this file still has this name. The inode tells, as the file is open.
pub(crate) fn is_named(file: &File, path: &Path) -> bool {
    let identity = |found: fs::Metadata| (found.dev(), found.ino());
    let own = file.metadata().map(identity);
    let named = fs::metadata(path).map(identity);
    matches!((own, named), (Ok(own), Ok(named)) if own == named)
}

/// Removes a file; fine where there is none.
pub(crate) fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io("removing", path)(error)),
        _ => Ok(()),
    }
}

/// The names in a directory, in order.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(names),
        Err(error) => return Err(io("listing", path)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(io("listing", path))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// So many random small letters.
pub(crate) fn random_name(length: usize) -> Result<String, StoreError> {
    let mut bytes = vec![0u8; length];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(io("asking for random bytes from", "the kernel"))?;
    Ok(bytes.iter().map(|b| char::from(b'a' + b % 26)).collect())
}

/// Locks of a network file system may be unknown to other machines, or may be lost.
fn refuse_remote(root: &Path) -> Result<(), StoreError> {
    const NFS: i64 = 0x6969;
    const SMB: i64 = 0x517b;
    const CIFS: i64 = 0xff53_4d42;
    const SMB2: i64 = 0xfe53_4d42;
    let found = rustix::fs::statfs(root).map_err(io("looking at", root))?;
    #[allow(
        clippy::unnecessary_cast,
        reason = "its type differs between architectures"
    )]
    let kind = (found.f_type as i64) & 0xffff_ffff;
    if [NFS, SMB, CIFS, SMB2].contains(&kind) {
        return Err(StoreError::Invalid(format!(
            "{} lies on a network file system, whose locks cannot be relied on; choose a local directory with --root",
            root.display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_until_another_takes_it() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("part");
        fs::write(&path, b"one").expect("write");
        let file = File::open(&path).expect("open");
        assert!(is_named(&file, &path));
        fs::remove_file(&path).expect("remove");
        assert!(!is_named(&file, &path));
        fs::write(&path, b"another").expect("write");
        assert!(!is_named(&file, &path));
    }
}
