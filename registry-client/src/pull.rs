//! An image from a registry: manifest, config, and the layers that the sink lacks, side by side.

use std::io::Write as _;

use dhow_image::{
    Begun, BlobSink, ChainId, Compression, Descriptor, DiffId, Digest, DocumentKind,
    ImageConfiguration, ImageReference, Platform, Progress, TransferError, TransferErrorKind, Want,
};

use crate::download::{Download, Fetched, fetch};
use crate::manifest::{self, Resolved};
use crate::parallel::{self, Announce, Stop};
use crate::repository::Repository;

/// What a pull did.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The image manifest for the platform; what the reference is to be tagged with.
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

/// A layer and what the sink is to make of it.
struct Layer {
    descriptor: Descriptor,
    want: Want,
    part: String,
}

/// Tells the sink which layers are to come.
struct Announcer<'a>(&'a dyn BlobSink);

impl Announce<Layer> for Announcer<'_> {
    fn announce(&self, layer: &Layer) {
        self.0.announce(&layer.want);
    }

    fn withdraw(&self, layer: &Layer) {
        self.0.withdraw(&layer.want);
    }
}

pub(crate) struct Pull<'a> {
    pub(crate) repository: &'a Repository<'a>,
    pub(crate) reference: &'a ImageReference,
    pub(crate) platform: &'a Platform,
    pub(crate) width: usize,
    pub(crate) sink: &'a dyn BlobSink,
    pub(crate) progress: &'a dyn Progress,
}

impl Pull<'_> {
    pub(crate) fn run(&self, resolved: &Resolved) -> Result<Pulled, TransferError> {
        let (descriptor, bytes) = self.manifest(resolved)?;
        let what = self.reference.familiar();
        let manifest = manifest::read(&bytes, &what)?;
        let config = fetch(self.repository, manifest.config())?;
        let layers = layers(&manifest, &config, &what)?;
        let fetch = |layer: &Layer, stop: &Stop| {
            let download = Download {
                repository: self.repository,
                descriptor: &layer.descriptor,
                want: &layer.want,
                part: &layer.part,
                progress: self.progress,
                stop,
            };
            download.run(self.sink)
        };
        let outcomes = parallel::each_announced(&layers, self.width, &Announcer(self.sink), fetch)?;
        self.keep(manifest.config(), &config)?;
        self.keep(&descriptor, &bytes)?;
        let saved = layers.iter().zip(&outcomes);
        let saved = saved.filter(|(_, outcome)| **outcome == Fetched::Present);
        let blobs = manifest.layers().iter().chain([manifest.config()]);
        let (received, requests) = self.repository.traffic();
        Ok(Pulled {
            manifest: descriptor,
            resolved: resolved.descriptor.clone(),
            blobs: blobs
                .filter_map(|blob| Digest::of_descriptor(blob).ok())
                .collect(),
            fetched: outcomes.iter().filter(|o| **o == Fetched::Came).count(),
            present: saved.clone().count(),
            bytes: received + resolved.bytes.len() as u64,
            bytes_saved: saved.map(|(layer, _)| layer.descriptor.size()).sum(),
            requests: requests + resolved.requests,
        })
    }

    /// The image manifest: what was resolved, or the index's choice for the platform.
    fn manifest(&self, resolved: &Resolved) -> Result<(Descriptor, Vec<u8>), TransferError> {
        match DocumentKind::of(resolved.descriptor.media_type()) {
            Some(DocumentKind::Index) => {
                let chosen = manifest::choose(&resolved.bytes, self.platform, self.reference)?;
                let digest = checked(&chosen)?;
                let at = self.reference.at_digest(digest);
                let (descriptor, bytes) = manifest::fetch(self.repository, &at)?;
                match DocumentKind::of(descriptor.media_type()) {
                    Some(DocumentKind::Manifest) => Ok((descriptor, bytes)),
                    _ => Err(TransferError::new(
                        TransferErrorKind::Corrupt,
                        format!(
                            "the index of {} names {} as a manifest, which it is not",
                            self.reference.familiar(),
                            at.manifest_name()
                        ),
                    )),
                }
            }
            _ => Ok((resolved.descriptor.clone(), resolved.bytes.clone())),
        }
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
fn layers(
    manifest: &dhow_image::ImageManifest,
    config: &[u8],
    what: &str,
) -> Result<Vec<Layer>, TransferError> {
    let broken = |reason: String| {
        TransferError::new(
            TransferErrorKind::Corrupt,
            format!("the image {what} is broken: {reason}"),
        )
    };
    let config: ImageConfiguration =
        serde_json::from_slice(config).map_err(|error| broken(format!("its config: {error}")))?;
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != manifest.layers().len() {
        return Err(broken(format!(
            "its manifest has {} layers and its config {}",
            manifest.layers().len(),
            diff_ids.len()
        )));
    }
    let mut parent: Option<ChainId> = None;
    let mut layers = Vec::new();
    for (descriptor, diff_id) in manifest.layers().iter().zip(diff_ids) {
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
        layers.push(Layer {
            part: checked(descriptor)?.short().to_owned(),
            descriptor: descriptor.clone(),
            want: Want::Layer {
                diff_id,
                parent: parent.replace(chain),
            },
        });
    }
    Ok(layers)
}

fn checked(descriptor: &Descriptor) -> Result<Digest, TransferError> {
    Digest::of_descriptor(descriptor).map_err(|error| {
        TransferError::caused(TransferErrorKind::Corrupt, "reading a descriptor", error)
    })
}
