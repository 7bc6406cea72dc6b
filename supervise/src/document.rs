//! Documents in the state directory: replaced whole or not at all. None is made durable: they die with the machine.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A document that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The file system refused; the error names the file.
    #[error(transparent)]
    File(std::io::Error),
    /// It is not what it should be.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The document.
        path: PathBuf,
        /// How.
        source: serde_json::Error,
    },
}

/// Replaces the document at `path`. Who reads sees the old or the new one, whole.
///
/// # Errors
/// When the directory cannot be written.
pub fn write(path: &Path, document: &impl Serialize) -> Result<(), DocumentError> {
    let bytes = serde_json::to_vec(document).map_err(|source| DocumentError::Damaged {
        path: path.to_owned(),
        source,
    })?;
    let new = path.with_extension("new");
    fs_err::write(&new, bytes).map_err(DocumentError::File)?;
    fs_err::rename(&new, path).map_err(DocumentError::File)
}

/// Reads the document at `path`; none where there is no such file.
///
/// # Errors
/// When it cannot be read or is damaged.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DocumentError> {
    let bytes = match fs_err::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DocumentError::File(error)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|source| DocumentError::Damaged {
            path: path.to_owned(),
            source,
        })
}
