//! The OCI image layout in a directory (image-spec, image-layout.md), read with checks and written so that a crash leaves it as it was.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use dhow_image::{
    Begun, BlobBody, BlobSink, BlobSource, BlobWriter, CheckedReader, Descriptor, Digest, Hasher,
    TransferError, TransferErrorKind, Want,
};
use dhow_sys::path::open_within;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::StoreError;
use crate::blobs::digest_of;
use crate::error::io as io_error;
use crate::index::plain;
use crate::save::{IMAGE_NAME, REF_NAME};
use crate::store::{flock, random_name};

/// What says that a directory is a layout, and its content.
const MARK: (&str, &[u8]) = ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
const INDEX: &str = "index.json";
/// An index that is larger is none.
const LARGEST: u64 = 8 << 20;
/// Where blobs are while they come; whoever goes on finds them there.
const PARTS: &str = ".partial";

/// An OCI image layout in a directory. No name in it leads out of it, whatever links it has.
#[derive(Debug)]
pub struct Layout {
    path: PathBuf,
    directory: OwnedFd,
}

impl Layout {
    /// Opens a layout to read it.
    ///
    /// # Errors
    /// When there is none, or it is of a version that is not known.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let layout = Self::at(path)?;
        let Some(mark) = layout.small(MARK.0)? else {
            return Err(StoreError::Invalid(format!(
                "{} is no OCI image layout: it has no file {}",
                path.display(),
                MARK.0
            )));
        };
        let mark: Value =
            serde_json::from_slice(&mark).map_err(|error| broken(layout.named(MARK.0), error))?;
        let version = mark["imageLayoutVersion"].as_str().unwrap_or_default();
        if !version.starts_with("1.") {
            return Err(StoreError::Invalid(format!(
                "{} is an OCI image layout of version {version:?}; dhow knows version 1",
                path.display()
            )));
        }
        Ok(layout)
    }

    /// Opens a layout to write to it; makes it where there is none.
    ///
    /// # Errors
    /// When the directory has something else in it, or cannot be written.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(path).map_err(io_error("making", path))?;
        let layout = Self::at(path)?;
        let _lock = layout.lock()?;
        if layout.small(MARK.0)?.is_some() {
            drop(_lock);
            return Self::open(path);
        }
        let mut entries = std::fs::read_dir(path).map_err(io_error("listing", path))?;
        if entries.next().is_some() {
            return Err(StoreError::Invalid(format!(
                "{} is not empty and no OCI image layout; name a new directory",
                path.display()
            )));
        }
        layout.replace(MARK.0, MARK.1)?;
        drop(_lock);
        Ok(layout)
    }

    fn at(path: &Path) -> Result<Self, StoreError> {
        let directory = File::open(path).map_err(io_error("opening", path))?;
        Ok(Self {
            path: path.to_owned(),
            directory: directory.into(),
        })
    }

    /// What a tag stands for; without one, the only image there is.
    ///
    /// # Errors
    /// When there is no such tag, or without one there are several images.
    pub fn resolve(&self, tag: Option<&str>) -> Result<Descriptor, StoreError> {
        let entries = entries(&self.index()?, &self.named(INDEX))?;
        chosen(&entries, tag, &self.path)
    }

    /// Lets a tag name what is in the layout; other tags stay. Durable when it returns.
    ///
    /// # Errors
    /// When the index cannot be read or written.
    pub fn put(&self, tag: Option<&str>, root: &Descriptor) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let mut index = self.index()?;
        let mut entry = serde_json::to_value(plain(root)).map_err(|e| broken("a descriptor", e))?;
        if let Some(tag) = tag {
            entry["annotations"] = json!({ REF_NAME: tag });
        }
        let Value::Array(all) = &mut index["manifests"] else {
            return Err(broken(self.named(INDEX), "it has no list of manifests"));
        };
        all.retain(|old| match tag {
            Some(tag) => old["annotations"][REF_NAME] != tag,
            None => old["annotations"][REF_NAME].is_string() || old["digest"] != entry["digest"],
        });
        all.push(entry);
        let bytes = serde_json::to_vec(&index).map_err(|error| broken(INDEX, error))?;
        self.replace(INDEX, &bytes)?;
        // It stays as long as somebody else's parts are in it.
        let _ = rustix::fs::unlinkat(&self.directory, PARTS, AtFlags::REMOVEDIR);
        Ok(())
    }

    fn index(&self) -> Result<Value, StoreError> {
        match self.small(INDEX)? {
            Some(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| broken(self.named(INDEX), error))
            }
            None => Ok(json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": [],
            })),
        }
    }

    fn named(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// Held while the index changes.
    fn lock(&self) -> Result<File, StoreError> {
        let lock = File::open(&self.path).map_err(io_error("opening", &self.path))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(io_error("locking", &self.path))?;
        Ok(lock)
    }

    /// Opens a name of the layout; it may be a link, but not to the outside.
    fn within(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NONBLOCK;
        let mode = match flags.contains(OFlags::CREATE) {
            true => Mode::from_raw_mode(0o644),
            false => Mode::empty(),
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match open_within(&self.directory, name, flags, mode, resolve) {
            Ok(file) => Ok(file.into()),
            Err(Errno::XDEV | Errno::LOOP) => Err(io::Error::other(
                "it is a link that leads out of the layout, which is not followed",
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// A regular file and its size; none where there is none.
    fn file(&self, name: &str) -> Result<Option<(File, u64)>, StoreError> {
        let path = self.path.join(name);
        let file = match self.within(name, OFlags::RDONLY) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("opening", path)(error)),
        };
        let found = file.metadata().map_err(io_error("looking at", &path))?;
        match found.is_file() {
            true => Ok(Some((file, found.len()))),
            false => Err(broken(path.display(), "it is no file")),
        }
    }

    fn small(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let Some((file, size)) = self.file(name)? else {
            return Ok(None);
        };
        if size > LARGEST {
            return Err(broken(
                self.named(name),
                "it is larger than any such document",
            ));
        }
        let mut bytes = Vec::new();
        let read = file.take(LARGEST).read_to_end(&mut bytes);
        read.map_err(io_error("reading", self.path.join(name)))?;
        Ok(Some(bytes))
    }

    /// Writes a small file in one step, durably.
    fn replace(&self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        let path = self.path.join(name);
        let temporary = format!(".{name}.{}", random_name(6)?);
        let done = (|| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let mut file = self.within(&temporary, flags)?;
            file.write_all(content)?;
            file.sync_all()?;
            rustix::fs::renameat(&self.directory, &temporary, &self.directory, name)?;
            rustix::fs::fsync(&self.directory)?;
            Ok(())
        })();
        done.map_err(|error: io::Error| {
            let _ = rustix::fs::unlinkat(&self.directory, &temporary, AtFlags::empty());
            io_error("writing", path)(error)
        })
    }

    /// A directory of the layout, made where it is missing.
    fn directory(&self, name: &str) -> Result<OwnedFd, StoreError> {
        let path = self.path.join(name);
        let mut above: OwnedFd = self
            .directory
            .try_clone()
            .map_err(io_error("opening", &path))?;
        let mut so_far = String::new();
        for part in name.split('/') {
            match rustix::fs::mkdirat(&above, part, Mode::from_raw_mode(0o755)) {
                Ok(()) => rustix::fs::fsync(&above).map_err(io_error("syncing", &path))?,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(io_error("making", path)(error)),
            }
            so_far = match so_far.as_str() {
                "" => part.to_owned(),
                above => format!("{above}/{part}"),
            };
            let opened = self.within(&so_far, OFlags::RDONLY | OFlags::DIRECTORY);
            above = opened.map_err(io_error("opening", &path))?.into();
        }
        Ok(above)
    }

    /// The locked part of a blob, after waiting for whoever writes it.
    fn part(&self, digest: &Digest) -> Result<(OwnedFd, String, File), StoreError> {
        let name = format!("{}-{}", digest.algorithm().name(), digest.hex());
        let path = self.path.join(PARTS).join(&name);
        loop {
            let parts = match self.directory(PARTS) {
                Ok(parts) => parts,
                // Another one that is done took it away, unless the layout itself is gone.
                Err(StoreError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && self.path.exists() =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let flags =
                OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(0o644);
            let part: File = match rustix::fs::openat(&parts, &name, flags, mode) {
                Ok(part) => part.into(),
                // Another one that is done took the empty directory away.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(io_error("making", path)(error)),
            };
            flock(&part, FlockOperation::LockExclusive).map_err(io_error("locking", &path))?;
            // It may have become the blob while it was waited for.
            let held = rustix::fs::fstat(&part).map_err(io_error("looking at", &path))?;
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            if rustix::fs::statat(&parts, &name, flags).is_ok_and(|now| now.st_ino == held.st_ino) {
                return Ok((parts, name, part));
            }
        }
    }

    /// Whether the blob is there, whole and right.
    fn has(&self, descriptor: &Descriptor, digest: &Digest) -> Result<bool, StoreError> {
        let Some((mut file, size)) = self.file(&blob_name(digest))? else {
            return Ok(false);
        };
        if size != descriptor.size() {
            return Ok(false);
        }
        let mut hasher = Hasher::new(digest.algorithm());
        hash(&mut file, &mut hasher).map_err(io_error("reading", &self.path))?;
        Ok(hasher.finish() == *digest)
    }
}

impl BlobSource for Layout {
    fn open(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobBody<'_>, TransferError> {
        let digest = digest_of(descriptor).map_err(reading)?;
        let Some((mut file, size)) = self.file(&blob_name(&digest)).map_err(reading)? else {
            return Err(TransferError::new(
                TransferErrorKind::NotFound,
                format!("{} has no blob {digest}", self.path.display()),
            ));
        };
        if size != descriptor.size() {
            return Err(TransferError::new(
                TransferErrorKind::Corrupt,
                format!(
                    "{digest} in {} is damaged: it has {size} bytes, not {}",
                    self.path.display(),
                    descriptor.size()
                ),
            ));
        }
        file.seek(SeekFrom::Start(offset))
            .map_err(|error| reading(io_error("reading", &self.path)(error)))?;
        let reader: Box<dyn Read + Send> = match offset {
            0 => Box::new(CheckedReader::new(file, descriptor).map_err(|error| {
                TransferError::caused(TransferErrorKind::Corrupt, "reading a blob", error)
            })?),
            _ => Box::new(file),
        };
        Ok(BlobBody { reader, offset })
    }
}

impl BlobSink for Layout {
    fn begin(&self, descriptor: &Descriptor, _want: &Want) -> Result<Begun<'_>, TransferError> {
        Ok(match self.begin_blob(descriptor).map_err(keeping)? {
            Some(writer) => Begun::Write(Box::new(writer)),
            None => Begun::Present,
        })
    }
}

impl Layout {
    /// What takes the blob; none where it is there.
    fn begin_blob(&self, descriptor: &Descriptor) -> Result<Option<Writer<'_>>, StoreError> {
        let digest = digest_of(descriptor)?;
        let (parts, name, mut part) = self.part(&digest)?;
        if self.has(descriptor, &digest)? {
            // Nobody needs the part any more.
            let _ = rustix::fs::unlinkat(&parts, &name, AtFlags::empty());
            return Ok(None);
        }
        let mut hasher = Hasher::new(digest.algorithm());
        let path = self.path.join(PARTS).join(&name);
        let mut offset = hash(&mut part, &mut hasher).map_err(io_error("reading", &path))?;
        if offset > descriptor.size() {
            part.set_len(0).map_err(io_error("emptying", &path))?;
            hasher = Hasher::new(digest.algorithm());
            offset = 0;
        }
        Ok(Some(Writer {
            layout: self,
            size: descriptor.size(),
            digest,
            parts,
            name,
            part,
            hasher,
            offset,
        }))
    }
}

/// Takes one blob of a layout.
struct Writer<'a> {
    layout: &'a Layout,
    size: u64,
    digest: Digest,
    parts: OwnedFd,
    name: String,
    /// Locked until the writer is gone.
    part: File,
    hasher: Hasher,
    offset: u64,
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.offset + bytes.len() as u64 > self.size {
            let text = format!("{} has more than its {} bytes", self.digest, self.size);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        self.part.write_all(bytes)?;
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for Writer<'_> {
    fn offset(&self) -> u64 {
        self.offset
    }

    fn restart(&mut self) -> io::Result<()> {
        self.part.set_len(0)?;
        self.offset = 0;
        self.hasher = Hasher::new(self.digest.algorithm());
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), TransferError> {
        let found = self.hasher.clone().finish();
        if self.offset != self.size || found != self.digest {
            // Nothing of it can be trusted.
            let _ = self.part.set_len(0);
            return Err(TransferError::new(
                TransferErrorKind::Corrupt,
                format!(
                    "{} bytes with the digest {found} came for {}, which has {}",
                    self.offset, self.digest, self.size
                ),
            ));
        }
        self.publish().map_err(keeping)
    }
}

impl Writer<'_> {
    /// Gives the part its name as a blob.
    fn publish(&self) -> Result<(), StoreError> {
        let path = self.layout.path.join(blob_name(&self.digest));
        let directory = format!("blobs/{}", self.digest.algorithm().name());
        let blobs = self.layout.directory(&directory)?;
        self.part.sync_all().map_err(io_error("syncing", &path))?;
        rustix::fs::renameat(&self.parts, &self.name, blobs.as_fd(), self.digest.hex())
            .and_then(|()| rustix::fs::fsync(&blobs))
            .map_err(io_error("writing", path))
    }
}

/// The entries of an index.
pub(crate) fn entries(index: &Value, what: &str) -> Result<Vec<Descriptor>, StoreError> {
    let entries = index.get("manifests").cloned().unwrap_or_default();
    serde_json::from_value(entries).map_err(|error| broken(what, error))
}

/// The one that is asked for.
pub(crate) fn chosen(
    entries: &[Descriptor],
    tag: Option<&str>,
    place: &Path,
) -> Result<Descriptor, StoreError> {
    let names = |entry: &Descriptor| -> Vec<String> {
        let annotations = entry.annotations().iter();
        annotations
            .flat_map(|all| [all.get(REF_NAME), all.get(IMAGE_NAME)])
            .flatten()
            .cloned()
            .collect()
    };
    let place = place.display();
    let mut found = entries.iter().filter(|entry| match tag {
        Some(tag) => names(entry).iter().any(|name| name == tag),
        None => true,
    });
    let listed: Vec<String> = entries
        .iter()
        .filter_map(|e| names(e).into_iter().next())
        .collect();
    let listed = match listed.is_empty() {
        true => "its images have no tags".to_owned(),
        false => format!("it has {}", listed.join(", ")),
    };
    match (found.next(), found.next(), tag) {
        (Some(entry), _, Some(_)) | (Some(entry), None, None) => {
            digest_of(entry)?;
            Ok(plain(entry))
        }
        (Some(_), Some(_), None) => Err(StoreError::Invalid(format!(
            "{place} has several images; write {place}:TAG ({listed})"
        ))),
        (None, _, Some(tag)) => Err(StoreError::Invalid(format!(
            "{place} has no image with the tag {tag:?}; {listed}"
        ))),
        (None, _, None) => Err(StoreError::Invalid(format!("{place} has no image"))),
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn hash(file: &mut File, hasher: &mut Hasher) -> io::Result<u64> {
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(size),
            count => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}

/// An error of what is read is no error of the store.
fn reading(error: StoreError) -> TransferError {
    TransferError::caused(TransferErrorKind::Corrupt, "reading the layout", error)
}

fn keeping(error: StoreError) -> TransferError {
    TransferError::caused(TransferErrorKind::Other, "writing to the layout", error)
}

/// A file of somebody else's that is not as it should be.
pub(crate) fn broken(what: impl ToString, reason: impl ToString) -> StoreError {
    let (what, reason) = (what.to_string(), reason.to_string());
    StoreError::Invalid(format!("{what} is damaged: {reason}"))
}
