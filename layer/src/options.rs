//! What can be asked for, and what is answered.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use dhow_image::DiffId;

/// The extended attributes in which an overlay keeps its marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrFlavour {
    /// `trusted.overlay.*`, for root of the machine.
    Trusted,
    /// `user.overlay.*`, inside a user namespace (mounted with `userxattr`).
    User,
}

impl XattrFlavour {
    /// The name in records and in the extended attributes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::User => "user",
        }
    }

    /// The attribute that makes a directory hide the one below it.
    pub(crate) fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }
}

/// How a layer is unpacked.
#[derive(Clone, Copy, Debug)]
pub struct UnpackOptions {
    /// How an opaque directory is marked.
    pub flavour: XattrFlavour,
}

/// What came out of a layer's tar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// How many entries the tar had.
    pub entries: u64,
    /// The length of the tar stream in bytes.
    pub tar_size: u64,
    /// Directories that the tar leaves out though it names things in them (`""` for the root itself), parents first.
    /// They were made as 0755, owned by who unpacks; `inherit` gives them what the layers below say.
    pub implied: Vec<PathBuf>,
}

/// How a plain tar is extracted.
#[derive(Clone, Debug, Default)]
pub struct ExtractOptions {
    /// The directory inside the root into which the tar's names lead; made where it is missing.
    pub destination: PathBuf,
    /// Owner and group for all that is extracted, in place of the tar's own.
    pub owner: Option<(u32, u32)>,
    /// Permission bits for all that is extracted, in place of the tar's own.
    pub mode: Option<u32>,
}

/// What was extracted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// How many entries the tar had.
    pub entries: u64,
}

/// How a tree is packed.
#[derive(Clone, Copy, Debug)]
pub struct PackOptions<'a> {
    /// How the tree marks an opaque directory.
    pub flavour: XattrFlavour,
    /// Makes the tree itself equal to what its tar will say: whole seconds, no sockets, no marks of the overlay that mean nothing.
    pub normalise: bool,
    /// The trees below, topmost first. With `normalise`, opaque marks stay only on directories that one of them has.
    pub lowers: &'a [BorrowedFd<'a>],
}

/// What a tree was packed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The digest of the tar stream.
    pub diff_id: DiffId,
    /// Its length in bytes.
    pub size: u64,
    /// How many entries it has.
    pub entries: u64,
}
