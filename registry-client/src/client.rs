//! The client as callers see it.

use dhow_image::{
    BlobLocations, BlobSink, BlobSource, Descriptor, ImageReference, Platform, Progress,
    TransferError,
};

use crate::Credentials;

/// How a client works.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Who we are.
    pub credentials: Credentials,
    /// Registries (`host:port` as in references) that are spoken to without TLS; loopback addresses always are.
    pub insecure: Vec<String>,
    /// How many blobs move at the same time.
    pub concurrency: usize,
}

/// Speaks to registries, over connections that it keeps.
pub struct Client {
    options: ClientOptions,
}

/// What a reference stands for in its registry.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Names the manifest or index.
    pub descriptor: Descriptor,
    /// Its bytes, which have been checked against the descriptor.
    pub bytes: Vec<u8>,
}

/// What a pull did.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The image manifest for the platform; what the reference is to be tagged with.
    pub manifest: Descriptor,
    /// What the reference stands for: the same, or the index that the manifest was chosen from.
    pub resolved: Descriptor,
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

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            credentials: Credentials::DockerConfig(None),
            insecure: Vec::new(),
            concurrency: 4,
        }
    }
}

impl Client {
    /// A client; nothing is sent yet.
    pub fn new(options: ClientOptions) -> Self {
        Self { options }
    }

    /// Asks the reference's registry for the manifest or index that it stands for.
    ///
    /// # Errors
    /// When there is none, who asks may not see it, or the answer is not what its digest says.
    pub fn resolve(&self, reference: &ImageReference) -> Result<Resolved, TransferError> {
        todo!("{reference} {:?}", self.options)
    }

    /// Fetches the image for `platform`: what `sink` lacks of its layers (lowest begun first), its config and its manifest.
    /// Tagging is the caller's.
    ///
    /// # Errors
    /// When the image cannot be found or had, has no manifest for the platform, or is not what its digests say.
    pub fn pull(
        &self,
        reference: &ImageReference,
        platform: &Platform,
        sink: &dyn BlobSink,
        progress: &dyn Progress,
    ) -> Result<Pulled, TransferError> {
        let resolved = self.resolve(reference)?;
        self.pull_resolved(reference, &resolved, platform, sink, progress)
    }

    /// The same for a reference that has been resolved already, so that it is asked for once.
    ///
    /// # Errors
    /// As [`Client::pull`].
    pub fn pull_resolved(
        &self,
        reference: &ImageReference,
        resolved: &Resolved,
        platform: &Platform,
        sink: &dyn BlobSink,
        progress: &dyn Progress,
    ) -> Result<Pulled, TransferError> {
        let _ = (sink, progress);
        todo!("{reference} {resolved:?} {platform}")
    }

    /// Sends the image whose manifest is `manifest`: what the registry lacks of its blobs, then the manifest under the reference's tag.
    ///
    /// # Errors
    /// When the registry refuses, cannot be reached, or `source` lacks a blob.
    pub fn push(
        &self,
        reference: &ImageReference,
        manifest: &Descriptor,
        source: &dyn BlobSource,
        locations: &dyn BlobLocations,
        progress: &dyn Progress,
    ) -> Result<Pushed, TransferError> {
        let _ = (source, locations, progress);
        todo!("{reference} {manifest:?}")
    }
}
