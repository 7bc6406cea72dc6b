//! The vocabulary of images: digests, references, platforms, and the traits by which blobs come and go.
//!
//! The documents themselves (manifest, index, config, descriptor) are the types of [`oci_spec::image`].

mod checked;
mod digest;
mod layer_id;
mod media_type;
mod platform;
mod progress;
mod reference;
mod transfer;
mod tree;

pub use checked::CheckedReader;
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use layer_id::{ChainId, DiffId};
pub use media_type::{Compression, DocumentKind, is_nondistributable};
pub use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
pub use platform::{Platform, PlatformError};
pub use progress::{Progress, Reported, Silent};
pub use reference::{DEFAULT_REGISTRY, ImageReference, ReferenceError};
pub use transfer::{
    Begun, BlobBody, BlobLocations, BlobSink, BlobSource, BlobWriter, TransferError,
    TransferErrorKind, VIEW_HEADER, Want,
};
pub use tree::{Document, ImageTree, Links, read_document};
