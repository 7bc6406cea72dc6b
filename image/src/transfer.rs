//! How blobs come and go: what a registry, an archive and the store have in common.

use std::fmt;
use std::io::{self, Read, Write};

use oci_spec::image::Descriptor;

use crate::{ChainId, DiffId, Digest};

/// Where blobs can be read.
pub trait BlobSource: Sync {
    /// Opens the blob that `descriptor` names, from `offset` on where the source can; the body says where it really starts.
    ///
    /// # Errors
    /// [`TransferErrorKind::NotFound`] when the source has no such blob.
    fn open(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobBody<'_>, TransferError>;
}

/// A blob that is being read, as long as its source is there.
pub struct BlobBody<'a> {
    /// The bytes from `offset` to the end. Nobody has checked them yet.
    pub reader: Box<dyn Read + Send + 'a>,
    /// The position in the blob at which the bytes start: the offset that was asked for, or 0.
    pub offset: u64,
}

/// What a sink is to make of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// Keep its bytes.
    Blob,
    /// Keep its bytes and unpack it as a layer.
    Layer {
        /// The digest of the uncompressed tar stream, from the image's config.
        diff_id: DiffId,
        /// The chain of layers below it, none for the lowest.
        parent: Option<ChainId>,
    },
}

/// Where blobs can be written.
pub trait BlobSink: Sync {
    /// Begins to take a blob. Waits while another process takes the same one.
    ///
    /// # Errors
    /// When the sink cannot take it.
    fn begin(&self, descriptor: &Descriptor, want: &Want) -> Result<Begun<'_>, TransferError>;

    /// Says that a layer is about to be begun, so that whoever finishes one above it earlier waits for it. What was announced
    /// is begun and comes, or is withdrawn.
    fn announce(&self, _want: &Want) {}

    /// Says that a layer that was announced does not come, so that nobody waits for it any longer.
    fn withdraw(&self, _want: &Want) {}
}

/// What a sink answers to the offer of a blob.
pub enum Begun<'a> {
    /// It has the blob, in the form that was wanted.
    Present,
    /// It takes the blob's bytes.
    Write(Box<dyn BlobWriter + 'a>),
}

/// Takes one blob's bytes. Dropping it keeps what came so far, for a later attempt.
pub trait BlobWriter: Write + Send {
    /// How many of the blob's first bytes are here already: where writing goes on.
    fn offset(&self) -> u64;
    /// Forgets all bytes; writing starts at 0.
    ///
    /// # Errors
    /// When the file system refuses.
    fn restart(&mut self) -> io::Result<()>;
    /// Checks size, digest and, of a layer, the DiffId; only then the blob can be seen.
    ///
    /// # Errors
    /// [`TransferErrorKind::Corrupt`] when they do not match.
    fn commit(self: Box<Self>) -> Result<(), TransferError>;
}

/// The header by which a view says that it is one: what it serves is a store's, which may do without its blobs where a registry has them. In
/// answers: whoever gets one must not take it for a registry that keeps what it serves. In requests: a view looks for what its store lacks,
/// and another is not to look further for it.
pub const VIEW_HEADER: &str = "dhow-view";

/// What is known of where blobs are, so that a push can mount them from another repository.
pub trait BlobLocations: Sync {
    /// Repositories of `registry` that are known to have had the blob, latest first.
    fn repositories(&self, registry: &str, digest: &Digest) -> Vec<String>;
    /// `registry` has the blob in `repository`. A hint: it is neither durable nor binding.
    fn note(&self, registry: &str, repository: &str, digest: &Digest);
}

/// What went wrong, for callers that branch on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferErrorKind {
    /// There is no such blob, manifest or repository.
    NotFound,
    /// Who asked is not allowed.
    Denied,
    /// The bytes are not what their descriptor says.
    Corrupt,
    /// The other side cannot be reached or broke off; trying again may help.
    Unreachable,
    /// Anything else.
    Other,
}

/// A blob that could not be moved.
#[derive(Debug)]
pub struct TransferError {
    kind: TransferErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl TransferError {
    /// An error with a message that says what was being done, and to what.
    pub fn new(kind: TransferErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same, with what the system or the other side answered.
    pub fn caused(
        kind: TransferErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            message: message.into(),
            source: Some(source.into()),
        }
    }

    /// What went wrong.
    pub fn kind(&self) -> TransferErrorKind {
        self.kind
    }
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TransferError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}
