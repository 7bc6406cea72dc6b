//! The client as callers see it.

use std::io::Write;

use dhow_image::{
    BlobLocations, BlobSink, BlobSource, Descriptor, Digest, ImageReference, Progress,
    TransferError, TransferErrorKind, Want,
};

use crate::auth::Authorizer;
use crate::body::Patience;
use crate::credentials::{Account, Credentials, Keychain, Proof};
use crate::download;
use crate::endpoint::Endpoint;
use crate::login;
use crate::manifest::{self, Resolved};
use crate::parallel::Stop;
use crate::pull::{Pull, Pulled, Wanted};
use crate::push::{Push, Pushed};
use crate::referrers;
use crate::registries::{Place, Registries};
use crate::repository::{Access, Repository};
use crate::source::{FromRepository, RegistrySource};
use crate::tags;
use crate::tls::Trust;
use crate::transfer::{Transfer, Words};
use crate::transport::Transport;

/// How a client works.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Who we are.
    pub credentials: Credentials,
    /// Whom we trust.
    pub trust: Trust,
    /// Where references are asked for.
    pub registries: Registries,
    /// How many blobs move at the same time.
    pub concurrency: usize,
    /// Send blobs in chunks of so many bytes; where there is none, whole, and in chunks only when the registry finds them too large.
    pub chunk: Option<u64>,
    /// How long registries are waited for.
    pub patience: Patience,
    /// It asks for a view, which says so to other views: see [`dhow_image::VIEW_HEADER`].
    pub is_view: bool,
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
            registries: Registries::default(),
            concurrency: 4,
            chunk: None,
            patience: Patience::default(),
            is_view: false,
        }
    }
}

impl Client {
    /// A client; nothing is sent yet.
    pub fn new(options: ClientOptions) -> Self {
        Self {
            transport: Transport::new(
                options.concurrency.max(1),
                options.trust.clone(),
                options.patience,
                options.is_view,
            ),
            authorizer: Authorizer::new(options.credentials.clone()),
            options,
        }
    }

    fn endpoint(&self, registry: &str) -> Endpoint {
        let transport = &self.transport;
        Endpoint::of(registry, transport.schemes(), transport.trust())
    }

    fn repository(
        &self,
        place: &Place,
        reference: &ImageReference,
        access: Access,
    ) -> Result<Repository<'_>, TransferError> {
        let transport = &self.transport;
        transport.learn(place)?;
        let schemes = transport.schemes();
        let endpoint = Endpoint::at(place, reference.registry(), schemes, transport.trust());
        let authorizer = &self.authorizer;
        let name = &place.repository;
        Ok(Repository::new(
            transport, authorizer, endpoint, name, access,
        ))
    }

    /// Whether what was had under this reference is to be had there again, as far as can be told: none of the places where it is asked for
    /// has said that it is a view (see [`dhow_image::VIEW_HEADER`]), whose store may rely on others for its blobs, even on who asks.
    ///
    /// # Errors
    /// When the places cannot be told.
    pub fn is_keeper(&self, reference: &ImageReference) -> Result<bool, TransferError> {
        let registries = &self.options.registries;
        for place in registries.places(reference, Access::Pull, true)? {
            if self.repository(&place, reference, Access::Pull)?.is_view() {
                return Ok(false);
            }
        }
        Ok(true)
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
        let places = self
            .options
            .registries
            .places(reference, Access::Pull, false)?;
        let mut requests = 0;
        let mut failures = Vec::new();
        for place in places {
            let repository = self.repository(&place, reference, Access::Pull)?;
            match manifest::fetch(&repository, reference) {
                Ok((descriptor, bytes)) => {
                    return Ok(Resolved {
                        descriptor,
                        bytes,
                        requests: requests + repository.traffic().1,
                        failed: failures.into_iter().map(|(place, _)| place).collect(),
                    });
                }
                Err(error) => {
                    requests += repository.traffic().1;
                    failures.push((place, error));
                }
            }
        }
        Err(together(reference, failures))
    }

    /// Fetches what is wanted of an image: what `sink` lacks of its layers (lowest begun first), its config and its manifest.
    /// Tagging is the caller's.
    ///
    /// # Errors
    /// When the image cannot be found or had, has no manifest for the platform, or is not what its digests say.
    pub fn pull(
        &self,
        reference: &ImageReference,
        wanted: &Wanted<'_>,
        sink: &dyn BlobSink,
        progress: &dyn Progress,
    ) -> Result<Pulled, TransferError> {
        let resolved = self.resolve(reference)?;
        self.pull_resolved(reference, &resolved, wanted, sink, progress)
    }

    /// What a reference stands for, to be copied from where it is.
    ///
    /// # Errors
    /// As [`Client::resolve`].
    pub fn source(&self, reference: &ImageReference) -> Result<RegistrySource<'_>, TransferError> {
        let resolved = self.resolve(reference)?;
        let mut places = self
            .options
            .registries
            .places(reference, Access::Pull, true)?;
        places.retain(|place| !resolved.failed.contains(place));
        let repositories = places.iter();
        let repositories = repositories
            .map(|place| self.repository(place, reference, Access::Pull))
            .collect::<Result<_, _>>()?;
        Ok(RegistrySource {
            repositories,
            reference: reference.clone(),
            resolved,
        })
    }

    /// The same for a reference that has been resolved already, so that it is asked for once.
    ///
    /// # Errors
    /// As [`Client::pull`].
    pub fn pull_resolved(
        &self,
        reference: &ImageReference,
        resolved: &Resolved,
        wanted: &Wanted<'_>,
        sink: &dyn BlobSink,
        progress: &dyn Progress,
    ) -> Result<Pulled, TransferError> {
        let places = self
            .options
            .registries
            .places(reference, Access::Pull, true)?;
        let mut failures = Vec::new();
        for place in places {
            // Who could not tell what it is does not have it.
            if resolved.failed.contains(&place) {
                continue;
            }
            let pull = Pull {
                repository: &self.repository(&place, reference, Access::Pull)?,
                reference,
                wanted,
                width: self.options.concurrency,
                sink,
                progress,
            };
            match pull.run(resolved) {
                Ok(pulled) => return Ok(pulled),
                // This machine's own failure would be the same with the next.
                Err(error) if error.kind() == TransferErrorKind::Other => return Err(error),
                Err(error) => failures.push((place, error)),
            }
        }
        Err(together(reference, failures))
    }

    /// The tags of the reference's repository; none where the registry knows no such repository.
    ///
    /// # Errors
    /// When the registry cannot be asked, or answers with something else.
    pub fn tags(&self, reference: &ImageReference) -> Result<Option<Vec<String>>, TransferError> {
        let mut places = self
            .options
            .registries
            .places(reference, Access::Pull, false)?;
        // A mirror need not have all of them; the registry itself is asked.
        let place = places.remove(places.len() - 1);
        tags::list(&self.repository(&place, reference, Access::Pull)?)
    }

    /// The manifests of the reference's repository that have `subject` as their subject, of one type of artifact or of all. Registries
    /// without this list are asked for the tag that takes its place.
    ///
    /// # Errors
    /// When the registry cannot be asked, or answers with something else.
    pub fn referrers(
        &self,
        reference: &ImageReference,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, TransferError> {
        let mut places = self
            .options
            .registries
            .places(reference, Access::Pull, false)?;
        // A mirror need not have what came later; the registry itself is asked.
        let place = places.remove(places.len() - 1);
        let repository = self.repository(&place, reference, Access::Pull)?;
        let found = referrers::list(&repository, subject, artifact_type)?;
        let each = found.into_iter().map(serde_json::from_value);
        each.collect::<Result<_, _>>().map_err(|error| {
            let message = format!("reading what refers to {subject}");
            TransferError::caused(TransferErrorKind::Corrupt, message, error)
        })
    }

    /// Fetches one blob of the reference's repository, if `sink` lacks it: checked against its descriptor, gone on with where an earlier
    /// attempt broke off.
    ///
    /// # Errors
    /// [`TransferErrorKind::NotFound`] when the registry does not have it; when it cannot be had or kept.
    pub fn fetch_blob(
        &self,
        reference: &ImageReference,
        descriptor: &Descriptor,
        sink: &dyn BlobSink,
        progress: &dyn Progress,
    ) -> Result<(), TransferError> {
        let registries = &self.options.registries;
        let mut failures = Vec::new();
        for place in registries.places(reference, Access::Pull, true)? {
            let digest = Digest::of_descriptor(descriptor).map_err(|error| {
                TransferError::caused(TransferErrorKind::Other, "reading a descriptor", error)
            })?;
            let repository = &self.repository(&place, reference, Access::Pull)?;
            let transfer = Transfer {
                source: &FromRepository {
                    repository,
                    reference,
                },
                descriptor,
                want: &Want::Blob,
                part: digest.short(),
                words: Words {
                    doing: "pulling",
                    done: "pulled",
                },
                progress,
                stop: &Stop::default(),
            };
            match transfer.run(sink) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == TransferErrorKind::Other => return Err(error),
                Err(error) => failures.push((place, error)),
            }
        }
        Err(together(reference, failures))
    }

    /// Writes a blob of the reference's repository as it comes; whether there is such a blob. Its digest is not checked.
    ///
    /// # Errors
    /// When it cannot be had, or `into` takes no more.
    pub fn copy_blob(
        &self,
        reference: &ImageReference,
        digest: &Digest,
        into: &mut dyn Write,
    ) -> Result<bool, TransferError> {
        let mut failures = Vec::new();
        for place in self
            .options
            .registries
            .places(reference, Access::Pull, true)?
        {
            let repository = self.repository(&place, reference, Access::Pull)?;
            match download::copy(&repository, digest, into) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => failures.push((place, error)),
            }
        }
        match failures.is_empty() {
            true => Ok(false),
            false => Err(together(reference, failures)),
        }
    }

    /// Sends the image whose manifest is `manifest`: what the registry lacks of its blobs, then the manifest under the reference's tag. Of
    /// an index all that it names goes first.
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
        let mut places = self
            .options
            .registries
            .places(reference, Access::Push, false)?;
        let place = places.remove(0);
        let push = Push {
            repository: &self.repository(&place, reference, Access::Push)?,
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

/// One error for all places that were asked in vain, which names each. Its kind is the registry's own, which is asked last.
fn together(
    reference: &ImageReference,
    mut failures: Vec<(Place, TransferError)>,
) -> TransferError {
    if failures.len() > 1 {
        let kind = failures
            .last()
            .map_or(TransferErrorKind::NotFound, |(_, e)| e.kind());
        let each: Vec<String> = failures
            .iter()
            .map(|(place, error)| {
                format!("{}/{}: {}", place.registry, place.repository, words(error))
            })
            .collect();
        let message = format!(
            "{} is at none of the {} places where it was looked for: {}",
            reference.familiar(),
            each.len(),
            each.join("; ")
        );
        return TransferError::new(kind, message);
    }
    match failures.pop() {
        Some((_, error)) => error,
        None => TransferError::new(
            TransferErrorKind::NotFound,
            format!("there is no place to ask for {}", reference.familiar()),
        ),
    }
}

/// An error with its causes, each said once.
fn words(error: &TransferError) -> String {
    let mut line = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        next = cause.source();
    }
    line
}
