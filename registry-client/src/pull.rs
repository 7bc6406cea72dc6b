//! An image from a registry: what the reference stands for, or the index's choice for a platform, copied into the sink.

use dhow_image::{
    BlobSink, Descriptor, Digest, DocumentKind, ImageReference, ImageTree, Platform, Progress,
    TransferError, read_document,
};

use crate::copy::Copy;
use crate::manifest::{self, Resolved};
use crate::repository::Repository;
use crate::source::FromRepository;
use crate::transfer::Words;

/// What of an image is to be pulled.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The platform whose image is unpacked.
    pub platform: &'a Platform,
    /// Of an index the images for the other platforms too, and the index itself; the sink is to keep their bytes as they are. An image
    /// for `platform` need not be there then.
    pub all_platforms: bool,
}

/// What a pull did.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The image manifest for the platform; what the reference is to be tagged with. With all platforms it may be an index without one,
    /// and is what the reference stands for then.
    pub manifest: Descriptor,
    /// What the reference stands for: the same, or the index that the manifest was chosen from.
    pub resolved: Descriptor,
    /// The digests of all the image's blobs, for a note of where they are.
    pub blobs: Vec<Digest>,
    /// How many layers were fetched.
    pub fetched: usize,
    /// How many layers the sink had already.
    pub present: usize,
    /// The bytes of blobs and manifests that were received.
    pub bytes: u64,
    /// The bytes of layers that did not have to be fetched.
    pub bytes_saved: u64,
    /// How many HTTP requests were made.
    pub requests: u64,
}

pub(crate) struct Pull<'a> {
    pub(crate) repository: &'a Repository<'a>,
    pub(crate) reference: &'a ImageReference,
    pub(crate) wanted: &'a Wanted<'a>,
    pub(crate) width: usize,
    pub(crate) sink: &'a dyn BlobSink,
    pub(crate) progress: &'a dyn Progress,
}

impl Pull<'_> {
    pub(crate) fn run(&self, resolved: &Resolved) -> Result<Pulled, TransferError> {
        let source = FromRepository {
            repository: self.repository,
            reference: self.reference,
        };
        let is_index =
            DocumentKind::of(resolved.descriptor.media_type()) == Some(DocumentKind::Index);
        let chosen = match is_index {
            true => manifest::choose(&resolved.bytes, self.wanted.platform, self.reference),
            false => Ok(resolved.descriptor.clone()),
        };
        let whole = || (resolved.descriptor.clone(), resolved.bytes.clone());
        let (root, bytes, unpacked) = match (chosen, is_index && self.wanted.all_platforms) {
            (chosen, true) => {
                let (root, bytes) = whole();
                (root, bytes, chosen.ok())
            }
            (Ok(chosen), false) if is_index => {
                let bytes = read_document(&source, &chosen)?;
                (chosen.clone(), bytes, Some(chosen))
            }
            (chosen, false) => {
                let (root, bytes) = whole();
                (root, bytes, Some(chosen?))
            }
        };
        let tree = ImageTree::below(&source, &root, bytes)?;
        let copy = Copy {
            source: &source,
            sink: self.sink,
            width: self.width,
            what: &self.reference.familiar(),
            words: Words {
                doing: "pulling",
                done: "pulled",
            },
            progress: self.progress,
        };
        let copied = copy.run(&tree, unpacked.as_ref())?;
        let (received, requests) = self.repository.traffic();
        Ok(Pulled {
            manifest: unpacked.unwrap_or(root),
            resolved: resolved.descriptor.clone(),
            blobs: copied.blobs,
            fetched: copied.moved,
            present: copied.present,
            bytes: received + resolved.bytes.len() as u64,
            bytes_saved: copied.bytes_saved,
            requests: requests + resolved.requests,
        })
    }
}
