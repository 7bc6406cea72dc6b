//! The client as callers see it.

use dhow_image::{
    BlobLocations, BlobSink, BlobSource, Descriptor, ImageReference, Platform, Progress,
    TransferError,
};

use crate::auth::Authorizer;
use crate::credentials::{Account, Credentials, Keychain, Proof};
use crate::endpoint::Endpoint;
use crate::login;
use crate::manifest::{self, Resolved};
use crate::pull::{Pull, Pulled};
use crate::push::{Push, Pushed};
use crate::repository::{Access, Repository};
use crate::tls::Trust;
use crate::transport::Transport;

/// How a client works.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Who we are.
    pub credentials: Credentials,
    /// Whom we trust.
    pub trust: Trust,
    /// How many blobs move at the same time.
    pub concurrency: usize,
    /// Send blobs in chunks of so many bytes; where there is none, whole, and in chunks only when the registry finds them too large.
    pub chunk: Option<u64>,
}

/// Speaks to registries, over connections that it keeps.
pub struct Client {
    options: ClientOptions,
    transport: Transport,
    authorizer: Authorizer,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            credentials: Credentials::Kept(Keychain::standard()),
            trust: Trust::default(),
            concurrency: 4,
            chunk: None,
        }
    }
}

impl Client {
    /// A client; nothing is sent yet.
    pub fn new(options: ClientOptions) -> Self {
        Self {
            transport: Transport::new(options.concurrency.max(1), options.trust.clone()),
            authorizer: Authorizer::new(options.credentials.clone()),
            options,
        }
    }

    fn endpoint(&self, registry: &str) -> Endpoint {
        let transport = &self.transport;
        Endpoint::of(registry, transport.schemes(), transport.trust())
    }

    fn repository(&self, reference: &ImageReference, access: Access) -> Repository<'_> {
        Repository::new(
            &self.transport,
            &self.authorizer,
            self.endpoint(reference.registry()),
            reference.repository(),
            access,
        )
    }

    /// Shows a registry who we are; what is to be kept of it, which is an identity token where the registry's token server gives one.
    ///
    /// # Errors
    /// When the registry does not accept it, or cannot be reached.
    pub fn log_in(&self, account: &Account, proof: &Proof) -> Result<Proof, TransferError> {
        let endpoint = self.endpoint(account.registry());
        login::log_in(&self.transport, endpoint, account, proof)
    }

    /// Asks the reference's registry for the manifest or index that it stands for.
    ///
    /// # Errors
    /// When there is none, who asks may not see it, or the answer is not what its digest says.
    pub fn resolve(&self, reference: &ImageReference) -> Result<Resolved, TransferError> {
        let repository = self.repository(reference, Access::Pull);
        let (descriptor, bytes) = manifest::fetch(&repository, reference)?;
        Ok(Resolved {
            descriptor,
            bytes,
            requests: repository.traffic().1,
        })
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
        let pull = Pull {
            repository: &self.repository(reference, Access::Pull),
            reference,
            platform,
            width: self.options.concurrency,
            sink,
            progress,
        };
        pull.run(resolved)
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
        let push = Push {
            repository: &self.repository(reference, Access::Push),
            reference,
            width: self.options.concurrency,
            chunk: self.options.chunk,
            source,
            locations,
            progress,
        };
        push.run(manifest)
    }
}
