//! A layer's two forms, tar stream and directory tree, and each turned into the other, confined to its root.
//!
//! Names in a tar are hostile until shown otherwise: every one is resolved by the kernel below the root's descriptor.

mod archive;
mod attributes;
mod error;
mod header;
mod inherit;
mod options;
mod pack;
mod place;
mod remove;
mod stream;
mod unpack;

pub use archive::{Archive, ArchiveEntry, ArchiveKind};
pub use attributes::{Xattr, is_opaque, kept_attributes};
pub use error::{PackError, UnpackError};
pub use inherit::{inherit, inherit_root};
pub use options::{
    ExtractOptions, Extracted, PackOptions, Packed, UnpackOptions, Unpacked, XattrFlavour,
};
pub use pack::pack;
pub use remove::remove_tree;
pub use unpack::{extract, unpack};

/// How a whiteout is written in a layer's tar: this before the name (image-spec, layer.md).
const WHITEOUT: &[u8] = b".wh.";
/// The file that makes its directory opaque.
const OPAQUE: &[u8] = b".wh..wh..opq";
