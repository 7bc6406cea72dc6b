//! Uploads: files that grow until their digest is checked.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use dhow_image::{Algorithm, Digest, Hasher};
use dhow_sys::writeback::start_writeback;

use super::{Storage, make_directories, parent, remove, sync_directory};
use crate::name::RepositoryName;
use crate::route::UploadId;

/// How much is read at once when an upload's digest has to be computed again.
const READ_SIZE: usize = 1 << 18;

/// How much comes before the disk is set to work on it. The end of an upload then waits for little more than the rest.
const WRITEBACK: u64 = 4 << 20;

/// An upload that is under way.
pub(crate) struct Upload {
    path: PathBuf,
    file: File,
    size: u64,
    /// Up to where the disk has been set to work.
    underway: u64,
    /// The digest of all that has come, unless it came to an earlier server.
    hasher: Option<(Algorithm, Hasher)>,
}

/// An upload that cannot become a blob.
#[derive(Debug)]
pub(crate) enum UploadError {
    /// The content has another digest, this one.
    Mismatch(Digest),
    /// The file system failed.
    Io(io::Error),
}

impl From<io::Error> for UploadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Storage {
    fn upload_path(&self, name: &RepositoryName, id: &UploadId) -> PathBuf {
        self.repository(name).join("_uploads").join(id.as_str())
    }

    /// Begins an upload whose digest will probably be of `algorithm`.
    pub(crate) fn begin_upload(
        &self,
        name: &RepositoryName,
        id: &UploadId,
        algorithm: Algorithm,
    ) -> io::Result<Upload> {
        let path = self.upload_path(name, id);
        make_directories(parent(&path))?;
        let file = File::options()
            .read(true)
            .append(true)
            .create_new(true)
            .open(&path)?;
        Ok(Upload {
            path,
            file,
            size: 0,
            underway: 0,
            hasher: Some((algorithm, Hasher::new(algorithm))),
        })
    }

    /// An upload that an earlier server began; none where there is none.
    pub(crate) fn resume_upload(
        &self,
        name: &RepositoryName,
        id: &UploadId,
    ) -> io::Result<Option<Upload>> {
        let path = self.upload_path(name, id);
        match File::options().read(true).append(true).open(&path) {
            Ok(file) => {
                let size = file.metadata()?.len();
                Ok(Some(Upload {
                    path,
                    file,
                    size,
                    underway: size,
                    hasher: None,
                }))
            }
            Err(error) if super::is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the upload a blob of the repository, if its digest is the one that was said.
    pub(crate) fn finish_upload(
        &self,
        name: &RepositoryName,
        upload: &mut Upload,
        digest: &Digest,
    ) -> Result<(), UploadError> {
        let actual = upload.digest(digest.algorithm())?;
        if actual != *digest {
            remove(&upload.path)?;
            return Err(UploadError::Mismatch(actual));
        }
        let path = self.blob_path(digest);
        // Before the gate, where it would hold up others; what is there already is not needed, but may go until then.
        upload.file.sync_all()?;
        let _gate = self.gate();
        if path.exists() {
            remove(&upload.path)?;
        } else {
            make_directories(parent(&path))?;
            fs_err::rename(&upload.path, &path)?;
            sync_directory(parent(&path))?;
        }
        self.link_blob(name, digest)?;
        Ok(())
    }

    /// Gives an upload up; whether it was there.
    pub(crate) fn cancel_upload(&self, name: &RepositoryName, id: &UploadId) -> io::Result<bool> {
        remove(&self.upload_path(name, id))
    }
}

impl Upload {
    /// Whether its file has been removed.
    pub(crate) fn is_gone(&self) -> bool {
        !self.path.exists()
    }

    /// How many bytes have come.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Takes the next bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.size += bytes.len() as u64;
        if self.size - self.underway >= WRITEBACK {
            // Whether it can is of no consequence: the upload's end waits for the disk.
            let length = self.size - self.underway;
            let _ = start_writeback(self.file.as_fd(), self.underway, length);
            self.underway = self.size;
        }
        if let Some((_, hasher)) = &mut self.hasher {
            hasher.update(bytes);
        }
        Ok(())
    }

    /// Forgets all after the first `size` bytes.
    pub(crate) fn truncate(&mut self, size: u64) -> io::Result<()> {
        if size < self.size {
            self.file.set_len(size)?;
            self.size = size;
            self.underway = self.underway.min(size);
            self.hasher = None;
        }
        Ok(())
    }

    fn digest(&mut self, algorithm: Algorithm) -> io::Result<Digest> {
        if let Some((of, hasher)) = &self.hasher
            && *of == algorithm
        {
            return Ok(hasher.clone().finish());
        }
        let mut hasher = Hasher::new(algorithm);
        let mut file = File::open(&self.path)?;
        let mut buffer = vec![0; READ_SIZE];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hasher.finish()),
                count => hasher.update(&buffer[..count]),
            }
        }
    }
}
