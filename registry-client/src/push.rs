//! An image to a registry: the blobs that it lacks, side by side, and the manifest last.

use std::collections::HashSet;
use std::io::Read as _;

use dhow_image::{
    BlobLocations, BlobSource, Compression, Descriptor, Digest, DocumentKind, ImageReference,
    Progress, TransferError, TransferErrorKind,
};
use ureq::http::{Method, StatusCode, header};

use crate::manifest::{self, ACCEPTED, CONTENT_DIGEST, LARGEST};
use crate::parallel;
use crate::referrers::{self, SUBJECT};
use crate::refusal::refused;
use crate::repository::{Ask, Repository, drain, text};
use crate::transport::Payload;
use crate::upload::Upload;

/// How a blob came to be in the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobOutcome {
    /// It was sent.
    Pushed,
    /// The repository had it.
    AlreadyThere,
    /// The registry linked it from this repository of its own.
    Mounted(String),
}

/// A layer or config that a push dealt with.
#[derive(Clone, Debug)]
pub struct PushedBlob {
    /// Names it.
    pub descriptor: Descriptor,
    /// How it came to be there.
    pub outcome: BlobOutcome,
}

/// What a push did.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The manifest that the tag now names.
    pub manifest: Descriptor,
    /// Whether the tag named it before, so that nothing had to be done.
    pub unchanged: bool,
    /// The layers, lowest first, and the config at the end; empty where nothing had to be done.
    pub blobs: Vec<PushedBlob>,
    /// The bytes of blobs and manifests that were sent.
    pub bytes: u64,
    /// How many HTTP requests were made.
    pub requests: u64,
}

pub(crate) struct Push<'a> {
    pub(crate) repository: &'a Repository<'a>,
    pub(crate) reference: &'a ImageReference,
    pub(crate) width: usize,
    pub(crate) chunk: Option<u64>,
    pub(crate) source: &'a dyn BlobSource,
    pub(crate) locations: &'a dyn BlobLocations,
    pub(crate) progress: &'a dyn Progress,
}

impl Push<'_> {
    pub(crate) fn run(&self, manifest: &Descriptor) -> Result<Pushed, TransferError> {
        let digest = checked(manifest)?;
        let bytes = self.document(manifest, &digest)?;
        let unchanged = self.is_there(&digest)?;
        let blobs = match unchanged {
            true => Vec::new(),
            false => {
                let blobs = self.send_blobs(&bytes)?;
                self.send_manifest(manifest, &digest, &bytes)?;
                blobs
            }
        };
        let (sent, requests) = self.repository.traffic();
        Ok(Pushed {
            manifest: manifest.clone(),
            unchanged,
            blobs,
            bytes: sent,
            requests,
        })
    }

    fn doing(&self) -> String {
        format!("pushing {}", self.reference.familiar())
    }

    /// Reads the manifest from the source.
    fn document(&self, manifest: &Descriptor, digest: &Digest) -> Result<Vec<u8>, TransferError> {
        let what = self.reference.familiar();
        if DocumentKind::of(manifest.media_type()) != Some(DocumentKind::Manifest) {
            return Err(TransferError::new(
                TransferErrorKind::Other,
                format!(
                    "{what} is a {}; only image manifests can be pushed so far",
                    manifest.media_type()
                ),
            ));
        }
        let mut bytes = Vec::new();
        let body = self.source.open(manifest, 0)?;
        body.reader
            .take(LARGEST)
            .read_to_end(&mut bytes)
            .map_err(|error| {
                let message = format!("reading the manifest of {what}");
                TransferError::caused(TransferErrorKind::Other, message, error)
            })?;
        manifest::check(&bytes, digest, || format!("the manifest of {what}"))?;
        Ok(bytes)
    }

    /// Whether the reference names this manifest in the registry already.
    fn is_there(&self, digest: &Digest) -> Result<bool, TransferError> {
        let name = self.reference.manifest_name();
        let url = self.repository.url(&format!("manifests/{name}"));
        let ask = Ask::new(Method::HEAD, url, self.doing()).header(header::ACCEPT, ACCEPTED);
        let response = self.repository.send(&ask)?;
        match response.status() {
            StatusCode::OK => Ok(text(&response, CONTENT_DIGEST) == Some(&digest.to_string())),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(refused("pushing", &self.reference.familiar(), response)),
        }
    }

    fn send_blobs(&self, manifest: &[u8]) -> Result<Vec<PushedBlob>, TransferError> {
        let manifest = manifest::read(manifest, &self.reference.familiar())?;
        let mut parts = Vec::new();
        let mut seen = HashSet::new();
        for descriptor in manifest.layers().iter().chain([manifest.config()]) {
            let digest = checked(descriptor)?;
            if !is_foreign(descriptor) && seen.insert(digest.clone()) {
                let part = match std::ptr::eq(descriptor, manifest.config()) {
                    true => "config".to_owned(),
                    false => digest.short().to_owned(),
                };
                parts.push((descriptor.clone(), digest, part));
            }
        }
        parallel::each(&parts, self.width, |(descriptor, digest, part), _| {
            let upload = Upload {
                repository: self.repository,
                descriptor,
                digest,
                source: self.source,
                locations: self.locations,
                part,
                progress: self.progress,
                chunk: self.chunk,
            };
            Ok(PushedBlob {
                descriptor: descriptor.clone(),
                outcome: upload.run()?,
            })
        })
    }

    fn send_manifest(
        &self,
        manifest: &Descriptor,
        digest: &Digest,
        bytes: &[u8],
    ) -> Result<(), TransferError> {
        let name = self.reference.manifest_name();
        let url = self.repository.url(&format!("manifests/{name}"));
        let ask = Ask::new(Method::PUT, url, self.doing())
            .header(header::CONTENT_TYPE, manifest.media_type().to_string())
            .payload(Payload::Bytes(bytes));
        let response = self.repository.send(&ask)?;
        if response.status() != StatusCode::CREATED {
            return Err(refused("pushing", &self.reference.familiar(), response));
        }
        self.repository.moved(bytes.len() as u64);
        let listed = text(&response, SUBJECT).is_some();
        match text(&response, CONTENT_DIGEST) {
            Some(said) if said != digest.to_string() => Err(TransferError::new(
                TransferErrorKind::Corrupt,
                format!(
                    "{}: the registry took {digest} for {said:?}; it or something on the way is broken",
                    self.doing()
                ),
            )),
            _ => {
                drain(response);
                match referrers::subject(bytes)? {
                    Some(subject) if !listed => {
                        referrers::add(self.repository, &subject, manifest, bytes)
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

/// Layers that their makers do not want to be distributed.
pub(crate) fn is_foreign(descriptor: &Descriptor) -> bool {
    let media_type = descriptor.media_type();
    let text = media_type.to_string();
    Compression::of_layer(media_type).is_some()
        && (text.contains("nondistributable") || text.contains("foreign"))
}

fn checked(descriptor: &Descriptor) -> Result<Digest, TransferError> {
    Digest::of_descriptor(descriptor).map_err(|error| {
        TransferError::caused(TransferErrorKind::Other, "reading a descriptor", error)
    })
}
