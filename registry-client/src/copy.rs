//! An image from any source into any sink: the blobs that the sink lacks, side by side, then the documents, the root last.

use std::io::Write as _;

use dhow_image::{
    Begun, BlobSink, BlobSource, ChainId, Compression, Descriptor, DiffId, Digest, Document,
    ImageConfiguration, ImageTree, Progress, TransferError, TransferErrorKind, Want, read_document,
};

use crate::manifest::digest_of;
use crate::parallel::{self, Announce, Stop};
use crate::transfer::{Fetched, Transfer, Words};

/// What a copy did.
#[derive(Clone, Debug, Default)]
pub struct Copied {
    /// The digests of all blobs, layers and configs.
    pub blobs: Vec<Digest>,
    /// How many layers were moved.
    pub moved: usize,
    /// How many layers the sink had already.
    pub present: usize,
    /// The bytes of layers that did not have to be moved.
    pub bytes_saved: u64,
}

/// A copy of an image.
pub(crate) struct Copy<'a> {
    pub(crate) source: &'a dyn BlobSource,
    pub(crate) sink: &'a dyn BlobSink,
    pub(crate) width: usize,
    /// The image's name, for messages.
    pub(crate) what: &'a str,
    pub(crate) words: Words,
    pub(crate) progress: &'a dyn Progress,
}

/// Copies the image with all that belongs to it into `sink`, which keeps its blobs as they are. Who knows the image by its root does so
/// when this has returned.
///
/// # Errors
/// When a part of it is missing or is not what its digest says, or the sink refuses.
pub fn copy(
    what: &str,
    tree: &ImageTree,
    source: &dyn BlobSource,
    sink: &dyn BlobSink,
    progress: &dyn Progress,
) -> Result<Copied, TransferError> {
    let copy = Copy {
        source,
        sink,
        width: 4,
        what,
        words: Words {
            doing: "copying",
            done: "copied",
        },
        progress,
    };
    copy.run(tree, None)
}

/// A blob and what the sink is to make of it.
struct Part {
    descriptor: Descriptor,
    want: Want,
    name: String,
    is_layer: bool,
}

/// Tells the sink which layers are to come.
struct Announcer<'a>(&'a dyn BlobSink);

impl Announce<Part> for Announcer<'_> {
    fn announce(&self, part: &Part) {
        self.0.announce(&part.want);
    }

    fn withdraw(&self, part: &Part) {
        self.0.withdraw(&part.want);
    }
}

impl Copy<'_> {
    /// Copies it; the layers of `unpacked`, which is a manifest of the tree, are to be unpacked.
    pub(crate) fn run(
        &self,
        tree: &ImageTree,
        unpacked: Option<&Descriptor>,
    ) -> Result<Copied, TransferError> {
        let chosen = unpacked.and_then(|unpacked| {
            let mut documents = tree.documents().iter();
            documents.find(|document| document.descriptor.digest() == unpacked.digest())
        });
        let mut parts = Vec::new();
        let mut config = None;
        if let Some(document) = chosen {
            let (described, bytes) = self.config(document)?;
            parts = layers(document, &bytes, self.what)?;
            config = Some((described, bytes));
        }
        let others = self.others(tree, chosen)?;
        parts.extend(others);
        let transfer = |part: &Part, stop: &Stop| {
            let transfer = Transfer {
                source: self.source,
                descriptor: &part.descriptor,
                want: &part.want,
                part: &part.name,
                words: self.words,
                progress: self.progress,
                stop,
            };
            transfer.run(self.sink)
        };
        let told = Announcer(self.sink);
        let outcomes = parallel::each_announced(&parts, self.width, &told, transfer)?;
        if let Some((described, bytes)) = &config {
            self.keep(described, bytes)?;
        }
        for document in tree.documents() {
            self.keep(&document.descriptor, &document.bytes)?;
        }
        let layers = parts
            .iter()
            .zip(&outcomes)
            .filter(|(part, _)| part.is_layer);
        let present = layers.clone().filter(|(_, o)| **o == Fetched::Present);
        let blobs = parts.iter().map(|part| &part.descriptor);
        let blobs = blobs.chain(config.iter().map(|(described, _)| *described));
        Ok(Copied {
            blobs: blobs
                .filter_map(|b| Digest::of_descriptor(b).ok())
                .collect(),
            moved: layers.filter(|(_, o)| **o == Fetched::Came).count(),
            present: present.clone().count(),
            bytes_saved: present.map(|(part, _)| part.descriptor.size()).sum(),
        })
    }

    fn config<'t>(
        &self,
        document: &'t Document,
    ) -> Result<(&'t Descriptor, Vec<u8>), TransferError> {
        let described = document.links.config.as_ref().ok_or_else(|| {
            let reason = format!("the image {} is broken: it has no config", self.what);
            TransferError::new(TransferErrorKind::Corrupt, reason)
        })?;
        Ok((described, read_document(self.source, described)?))
    }

    /// The blobs of all documents but the chosen one, as they are.
    fn others(
        &self,
        tree: &ImageTree,
        chosen: Option<&Document>,
    ) -> Result<Vec<Part>, TransferError> {
        let known = |blob: &Descriptor| {
            chosen.is_some_and(|chosen| {
                chosen
                    .links
                    .blobs()
                    .any(|own| own.digest() == blob.digest())
            })
        };
        let mut parts = Vec::new();
        for blob in tree.blobs() {
            if !known(blob) {
                parts.push(Part {
                    name: digest_of(blob)?.short().to_owned(),
                    is_layer: Compression::of_layer(blob.media_type()).is_some(),
                    descriptor: blob.clone(),
                    want: Want::Blob,
                });
            }
        }
        Ok(parts)
    }

    /// Puts a document that has come and been checked into the sink.
    fn keep(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), TransferError> {
        let failed = |error| {
            let message = format!("keeping {}", descriptor.digest());
            TransferError::caused(TransferErrorKind::Other, message, error)
        };
        match self.sink.begin(descriptor, &Want::Blob)? {
            Begun::Present => Ok(()),
            Begun::Write(mut writer) => {
                if writer.offset() > 0 {
                    writer.restart().map_err(failed)?;
                }
                writer.write_all(bytes).map_err(failed)?;
                writer.commit()
            }
        }
    }
}

/// The layers with their places in the image, lowest first.
fn layers(document: &Document, config: &[u8], what: &str) -> Result<Vec<Part>, TransferError> {
    let broken = |reason: String| {
        TransferError::new(
            TransferErrorKind::Corrupt,
            format!("the image {what} is broken: {reason}"),
        )
    };
    let config: ImageConfiguration =
        serde_json::from_slice(config).map_err(|error| broken(format!("its config: {error}")))?;
    let diff_ids = config.rootfs().diff_ids();
    let layers = &document.links.layers;
    if diff_ids.len() != layers.len() {
        return Err(broken(format!(
            "its manifest has {} layers and its config {}",
            layers.len(),
            diff_ids.len()
        )));
    }
    let mut parent: Option<ChainId> = None;
    let mut parts = Vec::new();
    for (descriptor, diff_id) in layers.iter().zip(diff_ids) {
        if Compression::of_layer(descriptor.media_type()).is_none() {
            return Err(broken(format!(
                "{} is a layer of an unknown kind, {}",
                descriptor.digest(),
                descriptor.media_type()
            )));
        }
        let diff_id: DiffId = diff_id
            .parse()
            .map_err(|error| broken(format!("its config: {error}")))?;
        let chain = ChainId::above(parent.as_ref(), &diff_id);
        parts.push(Part {
            name: digest_of(descriptor)?.short().to_owned(),
            descriptor: descriptor.clone(),
            want: Want::Layer {
                diff_id,
                parent: parent.replace(chain),
            },
            is_layer: true,
        });
    }
    Ok(parts)
}
