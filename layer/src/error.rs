//! What can go wrong between tar and tree.

use std::io;

/// A tar that could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream could not be read.
    #[error("reading the tar stream")]
    Read(#[source] io::Error),
    /// The stream is no tar, or a damaged one.
    #[error("not a valid tar at byte {offset}: {reason}")]
    Malformed {
        /// Where in the stream.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// An entry that leads out of its root or asks for what no layer may have.
    #[error("the tar's entry {name:?} is refused: {reason}")]
    Refused {
        /// The entry's name.
        name: String,
        /// Why.
        reason: String,
    },
    /// The file system did not take an entry.
    #[error("unpacking {name:?}: {doing}")]
    Write {
        /// The entry's name.
        name: String,
        /// The step that failed.
        doing: &'static str,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
}

/// A tree that could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file of the tree could not be read.
    #[error("packing {path:?}: {doing}")]
    Read {
        /// The path in the tree.
        path: String,
        /// The step that failed.
        doing: &'static str,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// A file changed while it was being packed.
    #[error("{path:?} changed while it was being packed")]
    Changed {
        /// The path in the tree.
        path: String,
    },
    /// Something that no tar of a layer can say.
    #[error("{path:?} cannot be part of a layer: {reason}")]
    Refused {
        /// The path in the tree.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// The tar could not be written.
    #[error("writing the tar stream")]
    Write(#[source] io::Error),
}
