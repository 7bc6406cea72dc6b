//! What can go wrong in the store.

use std::io;
use std::path::PathBuf;

use dhow_image::{TransferError, TransferErrorKind};
use dhow_layer::{PackError, UnpackError};

/// A store that could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// There is no such image.
    #[error("no such image: {0}; `dhow images` lists what there is")]
    NoSuchImage(String),
    /// A part of an image is missing or damaged.
    #[error("{what} is damaged or missing in the store: {reason}; pull, load or build it again")]
    Damaged {
        /// What.
        what: String,
        /// How.
        reason: String,
    },
    /// The beginning of an id fits several images.
    #[error("{0:?} is the beginning of more than one image's id; write more of it")]
    Ambiguous(String),
    /// What was asked for cannot be meant.
    #[error("{0}")]
    Invalid(String),
    /// Something still uses what was to be removed.
    #[error(
        "image {image} is in use by container {container}; remove the container first, or force it (-f)"
    )]
    InUse {
        /// The image.
        image: String,
        /// The container.
        container: String,
    },
    /// A blob could not be taken into the store, though its bytes may be as they should be.
    #[error("taking {what}")]
    Take {
        /// The blob.
        what: String,
        /// Why.
        #[source]
        source: TransferError,
    },
    /// A layer could not be unpacked.
    #[error("unpacking layer {layer}")]
    Unpack {
        /// The layer.
        layer: String,
        /// Why.
        #[source]
        source: UnpackError,
    },
    /// A layer could not be packed.
    #[error("packing layer {layer}")]
    Pack {
        /// The layer.
        layer: String,
        /// Why.
        #[source]
        source: PackError,
    },
    /// Bytes that are not what their digest says.
    #[error("{what} has the digest {found}, not {expected}")]
    Digest {
        /// What.
        what: String,
        /// The digest it should have.
        expected: String,
        /// The digest it has.
        found: String,
    },
}

/// What went wrong, for callers that branch on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// There is no such image, container or layer.
    NotFound,
    /// It is in use.
    InUse,
    /// The person asked for something that cannot be meant.
    Invalid,
    /// Anything else.
    Other,
}

/// Names what was being done, to what, in an error of the file system.
pub(crate) fn io<E: Into<io::Error>>(
    doing: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(E) -> StoreError {
    let path = path.into();
    move |source| StoreError::Io {
        doing,
        path,
        source: source.into(),
    }
}

/// A part of an image that is not as it should be.
pub(crate) fn damaged(what: impl ToString, reason: impl ToString) -> StoreError {
    StoreError::Damaged {
        what: what.to_string(),
        reason: reason.to_string(),
    }
}

impl From<StoreError> for TransferError {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::NoSuchImage(_) => TransferErrorKind::NotFound,
            error if error.is_of_content() => TransferErrorKind::Corrupt,
            _ => TransferErrorKind::Other,
        };
        Self::caused(kind, "keeping it in the store", error)
    }
}

impl StoreError {
    /// Whether it tells of the disk that was to be written to, not of what was read.
    pub(crate) fn is_of_writing(&self) -> bool {
        matches!(
            self,
            Self::Unpack {
                source: UnpackError::Write { .. },
                ..
            }
        )
    }

    /// Whether the bytes that came are to blame.
    fn is_of_content(&self) -> bool {
        match self {
            Self::Digest { .. } => true,
            Self::Unpack { source, .. } => match source {
                UnpackError::Malformed { .. } | UnpackError::Refused { .. } => true,
                // So decoders call it; what else there is to be read from is this machine's own.
                UnpackError::Read(error) => error.kind() == io::ErrorKind::InvalidData,
                UnpackError::Write { .. } => false,
            },
            _ => false,
        }
    }

    /// Whether the bytes that came are to blame, or a disk that has no room for what is in them: trying again with them is in vain. After
    /// any other failure they are still good.
    pub(crate) fn is_final(&self) -> bool {
        let has_no_room = |error: &io::Error| {
            use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
            matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
        };
        match self {
            Self::Unpack {
                source: UnpackError::Write { source, .. },
                ..
            } => has_no_room(source),
            _ => self.is_of_content(),
        }
    }

    /// What went wrong.
    pub fn kind(&self) -> StoreErrorKind {
        match self {
            Self::NoSuchImage(_) => StoreErrorKind::NotFound,
            Self::InUse { .. } => StoreErrorKind::InUse,
            Self::Ambiguous(_) | Self::Invalid(_) => StoreErrorKind::Invalid,
            _ => StoreErrorKind::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_fails_here_is_no_fault_of_what_came() {
        let unpack = |source| StoreError::Unpack {
            layer: "one".to_owned(),
            source,
        };
        let write = |errno: Errno| {
            unpack(UnpackError::Write {
                name: "a".to_owned(),
                doing: "making it",
                source: errno.into(),
            })
        };
        let kind = |error: StoreError| TransferError::from(error).kind();
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
            assert!(write(errno).is_final(), "{errno}");
            assert_eq!(kind(write(errno)), TransferErrorKind::Other);
        }
        for errno in [Errno::IO, Errno::MFILE, Errno::PERM, Errno::ROFS] {
            assert!(!write(errno).is_final(), "{errno}");
            let read = unpack(UnpackError::Read(errno.into()));
            assert!(!read.is_final(), "{errno}");
            assert_eq!(kind(read), TransferErrorKind::Other);
        }
        let malformed = || {
            unpack(UnpackError::Malformed {
                offset: 0,
                reason: "no tar".to_owned(),
            })
        };
        assert!(malformed().is_final());
        assert_eq!(kind(malformed()), TransferErrorKind::Corrupt);
    }
}
