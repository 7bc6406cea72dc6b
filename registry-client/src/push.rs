//! An image to a registry: the blobs that it lacks, side by side, and the manifest last.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use dhow_image::{
    BlobLocations, BlobSource, Descriptor, Digest, Document, ImageReference, ImageTree, Progress,
    TransferError, TransferErrorKind, is_nondistributable,
};
use ureq::http::{Method, StatusCode, header};

use crate::manifest::CONTENT_DIGEST;
use crate::parallel;
use crate::referrers::{self, SUBJECT};
use crate::refusal::untaken;
use crate::repository::{Ask, Repository, drain, text};
use crate::standing::{Asked, Named, Standing};
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

/// A blob that belongs to the image, and what it is called while it moves.
struct Part<'a> {
    descriptor: &'a Descriptor,
    digest: Digest,
    name: String,
}

/// What came of the blobs, and what remains to be sent.
#[derive(Default)]
struct Round<'t> {
    /// The documents that the registry lacks, in the order in which they are to be sent.
    documents: Vec<&'t Document>,
    blobs: Vec<PushedBlob>,
    /// Whether any blob was believed to be there without asking for it.
    believed: bool,
}

impl Push<'_> {
    pub(crate) fn run(&self, manifest: &Descriptor) -> Result<Pushed, TransferError> {
        let digest = checked(manifest)?;
        let blobs = match self.asked().standing(&digest)? {
            Standing::This => None,
            Standing::Other(named) => {
                let tree = ImageTree::read(self.source, manifest)?;
                Some(self.send(&tree, named)?)
            }
        };
        let (sent, requests) = self.repository.traffic();
        Ok(Pushed {
            manifest: manifest.clone(),
            unchanged: blobs.is_none(),
            blobs: blobs.unwrap_or_default(),
            bytes: sent,
            requests,
        })
    }

    fn doing(&self) -> String {
        format!("pushing {}", self.reference.familiar())
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            repository: self.repository,
            reference: self.reference,
        }
    }

    /// Sends what the registry lacks: blobs, then the documents. Where it turns out to have lost what an older version of the image
    /// names, it is asked for every part, once.
    fn send(&self, tree: &ImageTree, named: Named) -> Result<Vec<PushedBlob>, TransferError> {
        let mut named = Some(named);
        loop {
            let round = self.send_blobs(tree, named.take())?;
            let may_lack = AtomicBool::new(false);
            match self.send_documents(&round.documents, &may_lack) {
                Err(_) if round.believed && may_lack.into_inner() => {
                    self.progress.note(&format!(
                        "{} may not have all that its older version of {} names; asking for each part",
                        self.repository.registry(),
                        self.reference.familiar()
                    ));
                }
                sent => return sent.map(|()| round.blobs),
            }
        }
    }

    /// Sends the blobs that the registry lacks. Nothing is believed to be there where nothing is `named`.
    fn send_blobs<'t>(
        &self,
        tree: &'t ImageTree,
        named: Option<Named>,
    ) -> Result<Round<'t>, TransferError> {
        let Some((root, inner)) = tree.documents().split_last() else {
            return Ok(Round::default());
        };
        // Of each on its own: an index may be there without all that it names.
        let there = parallel::each(inner, self.width, |document, _| {
            let digest = checked(&document.descriptor)?;
            self.asked().is_there(&digest.to_string(), &digest)
        })?;
        let (found, lacking): (Vec<_>, Vec<_>) = inner.iter().zip(there).partition(|one| one.1);
        let mut documents: Vec<&Document> = lacking.into_iter().map(|one| one.0).collect();
        documents.push(root);
        let parts = parts(&documents)?;
        let named = match named {
            None => Named::default(),
            Some(mut named) => {
                found.iter().for_each(|one| named.take(&one.0.links));
                let blobs: Vec<&Descriptor> = parts.iter().map(|part| part.descriptor).collect();
                let ours = inner.iter().map(|one| one.descriptor.digest().to_string());
                named.look_deeper(&self.asked(), self.width, &blobs, &ours.collect())?;
                named
            }
        };
        let blobs = parallel::each(&parts, self.width, |part, _| {
            let upload = Upload {
                repository: self.repository,
                descriptor: part.descriptor,
                digest: &part.digest,
                is_known: named.has(part.descriptor),
                source: self.source,
                locations: self.locations,
                part: &part.name,
                progress: self.progress,
                chunk: self.chunk,
            };
            Ok(PushedBlob {
                descriptor: part.descriptor.clone(),
                outcome: upload.run()?,
            })
        })?;
        Ok(Round {
            documents,
            believed: parts.iter().any(|part| named.has(part.descriptor)),
            blobs,
        })
    }

    /// Sends documents, those that others name before these, the root last. Says whether one was refused in a way that may mean that
    /// the registry lacks what it names.
    fn send_documents(
        &self,
        documents: &[&Document],
        may_lack: &AtomicBool,
    ) -> Result<(), TransferError> {
        let Some((root, inner)) = documents.split_last() else {
            return Ok(());
        };
        let (manifests, indexes): (Vec<&Document>, Vec<&Document>) = inner
            .iter()
            .partition(|document| document.links.manifests.is_empty());
        let by_digest = |document: &Document| {
            let digest = checked(&document.descriptor)?;
            self.send_document(document, &digest, &digest.to_string(), may_lack)
        };
        parallel::each(&manifests, self.width, |document, _| by_digest(document))?;
        for index in indexes {
            by_digest(index)?;
        }
        let digest = checked(&root.descriptor)?;
        self.send_document(root, &digest, &self.reference.manifest_name(), may_lack)
    }

    /// Puts a document under its name, and into the list of those that refer to its subject, if it has one.
    fn send_document(
        &self,
        document: &Document,
        digest: &Digest,
        name: &str,
        may_lack: &AtomicBool,
    ) -> Result<(), TransferError> {
        let (manifest, bytes) = (&document.descriptor, document.bytes.as_slice());
        let url = self.repository.url(&format!("manifests/{name}"));
        let ask = Ask::new(Method::PUT, url, self.doing())
            .header(header::CONTENT_TYPE, manifest.media_type().to_string())
            .payload(Payload::Bytes(bytes));
        let response = self.repository.send(&ask)?;
        if response.status() != StatusCode::CREATED {
            let untaken = untaken(&self.reference.familiar(), response);
            may_lack.fetch_or(untaken.may_lack, Ordering::Relaxed);
            return Err(untaken.error);
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

/// The blobs of these documents, each once, of which the last is the root. Layers that are not to be distributed are not sent.
fn parts<'t>(documents: &[&'t Document]) -> Result<Vec<Part<'t>>, TransferError> {
    let mut parts = Vec::new();
    let mut seen = HashSet::new();
    for document in documents {
        for descriptor in document.links.blobs() {
            let digest = checked(descriptor)?;
            if is_nondistributable(descriptor.media_type()) || !seen.insert(digest.clone()) {
                continue;
            }
            let is_config = document.links.config.as_ref() == Some(descriptor);
            let name = match is_config && documents.len() == 1 {
                true => "config".to_owned(),
                false => digest.short().to_owned(),
            };
            parts.push(Part {
                descriptor,
                digest,
                name,
            });
        }
    }
    Ok(parts)
}

fn checked(descriptor: &Descriptor) -> Result<Digest, TransferError> {
    Digest::of_descriptor(descriptor).map_err(|error| {
        TransferError::caused(TransferErrorKind::Other, "reading a descriptor", error)
    })
}
