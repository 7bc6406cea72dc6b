//! A layer's two forms, tar stream and directory tree, and each turned into the other, confined to its root.

mod error;
mod options;

pub use error::{PackError, UnpackError};
pub use options::{
    ExtractOptions, Extracted, PackOptions, Packed, UnpackOptions, Unpacked, XattrFlavour,
};

use std::io::{Read, Write};
use std::os::fd::BorrowedFd;

/// Unpacks a layer's tar stream into the empty directory `into`: whiteouts become the overlay's (image-spec, layer.md).
/// Reads `tar` to its very end, so that a digest of all its bytes can be taken on the way.
///
/// # Errors
/// When the stream is no tar, names places outside of its root, or the file system refuses.
#[allow(clippy::todo)]
pub fn unpack(
    _tar: impl Read,
    _into: BorrowedFd<'_>,
    _options: &UnpackOptions,
) -> Result<Unpacked, UnpackError> {
    todo!()
}

/// Extracts a plain tar stream into the live root `root`, at the directory that the options name; what is there is replaced,
/// directories are merged. Links are followed inside the root only.
///
/// # Errors
/// As [`unpack`].
#[allow(clippy::todo)]
pub fn extract(
    _tar: impl Read,
    _root: BorrowedFd<'_>,
    _options: &ExtractOptions,
) -> Result<Extracted, UnpackError> {
    todo!()
}

/// Packs a tree into a tar stream of form version 1 (docs/tar-form.md): the same tree gives the same bytes.
///
/// # Errors
/// When the tree cannot be read or `out` not be written.
#[allow(clippy::todo)]
pub fn pack(
    _tree: BorrowedFd<'_>,
    _out: impl Write,
    _options: &PackOptions<'_>,
) -> Result<Packed, PackError> {
    todo!()
}
