//! An image to a registry: the blobs that it lacks, side by side, and the manifest last.

use std::collections::HashSet;

use dhow_image::{
    BlobLocations, BlobSource, Descriptor, Digest, Document, ImageReference, ImageTree, Progress,
    TransferError, TransferErrorKind, is_nondistributable,
};
use ureq::http::{Method, StatusCode, header};

use crate::manifest::{ACCEPTED, CONTENT_DIGEST};
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
        let unchanged = self.is_there(&self.reference.manifest_name(), &digest)?;
        let blobs = match unchanged {
            true => Vec::new(),
            false => self.send(&ImageTree::read(self.source, manifest)?)?,
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

    /// Whether the name, a tag or a digest, stands for this document in the registry already.
    fn is_there(&self, name: &str, digest: &Digest) -> Result<bool, TransferError> {
        let url = self.repository.url(&format!("manifests/{name}"));
        let ask = Ask::new(Method::HEAD, url, self.doing()).header(header::ACCEPT, ACCEPTED);
        let response = self.repository.send(&ask)?;
        match response.status() {
            StatusCode::OK => Ok(text(&response, CONTENT_DIGEST) == Some(&digest.to_string())),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(refused("pushing", &self.reference.familiar(), response)),
        }
    }

    /// Sends what the registry lacks: blobs, then the documents, those that others name before these, the root last.
    fn send(&self, tree: &ImageTree) -> Result<Vec<PushedBlob>, TransferError> {
        let Some((root, inner)) = tree.documents().split_last() else {
            return Ok(Vec::new());
        };
        let there = parallel::each(inner, self.width, |document, _| {
            let digest = checked(&document.descriptor)?;
            self.is_there(&digest.to_string(), &digest)
        })?;
        let lacking = inner.iter().zip(there).filter(|(_, there)| !there);
        let lacking: Vec<&Document> = lacking.map(|(document, _)| document).collect();
        let blobs = self.send_blobs(&lacking, root)?;
        let (manifests, indexes): (Vec<&Document>, Vec<&Document>) = lacking
            .into_iter()
            .partition(|document| document.links.manifests.is_empty());
        let by_digest = |document: &Document| {
            let digest = checked(&document.descriptor)?;
            self.send_document(document, &digest, &digest.to_string())
        };
        parallel::each(&manifests, self.width, |document, _| by_digest(document))?;
        for index in indexes {
            by_digest(index)?;
        }
        let digest = checked(&root.descriptor)?;
        self.send_document(root, &digest, &self.reference.manifest_name())?;
        Ok(blobs)
    }

    /// Layers that are not to be distributed are not sent.
    fn send_blobs(
        &self,
        documents: &[&Document],
        root: &Document,
    ) -> Result<Vec<PushedBlob>, TransferError> {
        let mut parts = Vec::new();
        let mut seen = HashSet::new();
        for document in documents.iter().copied().chain([root]) {
            for descriptor in document.links.blobs() {
                let digest = checked(descriptor)?;
                if is_nondistributable(descriptor.media_type()) || !seen.insert(digest.clone()) {
                    continue;
                }
                let is_config = document.links.config.as_ref() == Some(descriptor);
                let part = match is_config && documents.is_empty() {
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

    /// Puts a document under its name, and into the list of those that refer to its subject, if it has one.
    fn send_document(
        &self,
        document: &Document,
        digest: &Digest,
        name: &str,
    ) -> Result<(), TransferError> {
        let (manifest, bytes) = (&document.descriptor, document.bytes.as_slice());
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

fn checked(descriptor: &Descriptor) -> Result<Digest, TransferError> {
    Digest::of_descriptor(descriptor).map_err(|error| {
        TransferError::caused(TransferErrorKind::Other, "reading a descriptor", error)
    })
}
