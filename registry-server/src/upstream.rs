//! A registry that stands before another and keeps what was asked for: a pull-through cache.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use dhow_image::{Descriptor, Digest};
use serde_json::Value;

use crate::answer::{Code, Refusal};
use crate::listing;
use crate::manifests::Contents;
use crate::name::{ManifestName, RepositoryName};
use crate::registry::Registry;
use crate::route::{Endpoint, UploadId};
use crate::storage::{Storage, StoredManifest, Upload, UploadError};

/// Why another registry cannot be asked.
pub type UpstreamError = Box<dyn std::error::Error + Send + Sync>;

/// Another registry, as far as one that stands before it needs it. Calls may block.
pub trait Upstream: Send + Sync {
    /// The manifest that a tag or digest names in a repository, with its media type; none where there is no such manifest.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn manifest(
        &self,
        repository: &str,
        name: &str,
    ) -> Result<Option<(String, Vec<u8>)>, UpstreamError>;

    /// All tags of a repository; none where there is no such repository.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn tags(&self, repository: &str) -> Result<Option<Vec<String>>, UpstreamError>;

    /// The descriptors of the manifests that have this one as their subject.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn referrers(
        &self,
        repository: &str,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, UpstreamError>;

    /// Writes a blob of a repository; whether there is such a blob. Its digest is checked by the caller.
    ///
    /// # Errors
    /// When it cannot be asked, breaks off, or `into` takes no more.
    fn blob(
        &self,
        repository: &str,
        digest: &Digest,
        into: &mut dyn Write,
    ) -> Result<bool, UpstreamError>;
}

/// The upstream registry, and what is being fetched from it.
pub(crate) struct Upstreams {
    upstream: Arc<dyn Upstream>,
    /// Who fetches a blob holds its lock, so that others wait instead of fetching it, too.
    underway: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

impl Upstreams {
    pub(crate) fn new(upstream: Arc<dyn Upstream>) -> Self {
        Self {
            upstream,
            underway: Mutex::default(),
        }
    }

    /// Sees to it that what is asked for is here, if the upstream registry has it.
    pub(crate) async fn provide(
        &self,
        registry: &Arc<Registry>,
        endpoint: &Endpoint,
    ) -> Result<(), Refusal> {
        match endpoint {
            Endpoint::Manifest(name, manifest) => {
                let upstream = Arc::clone(&self.upstream);
                let (name, manifest) = (name.clone(), manifest.clone());
                registry
                    .on_disk(move |storage| provide_manifest(storage, &*upstream, &name, &manifest))
                    .await
            }
            Endpoint::Blob(name, digest) => self.provide_blob(registry, name, digest).await,
            _ => Ok(()),
        }
    }

    /// The tags of a repository as the upstream registry has them; none where it is away, so that those that are kept have to do.
    pub(crate) async fn tags(
        &self,
        registry: &Arc<Registry>,
        name: &RepositoryName,
    ) -> Result<Option<Vec<String>>, Refusal> {
        let upstream = Arc::clone(&self.upstream);
        let name = name.clone();
        registry
            .on_disk(move |storage| match upstream.tags(name.as_str()) {
                Ok(Some(mut tags)) => {
                    tags.sort_unstable();
                    tags.dedup();
                    Ok(Some(tags))
                }
                Ok(None) => Err(listing::no_repository(&name)),
                Err(error) => {
                    tracing::warn!(%error, "upstream");
                    let kept = storage.repository_exists(&name);
                    if kept { Ok(None) } else { Err(away(&*error)) }
                }
            })
            .await
    }

    /// What refers to a manifest, as the upstream registry has it; none where it is away, so that what is kept has to do.
    pub(crate) async fn referrers(
        &self,
        registry: &Arc<Registry>,
        name: &RepositoryName,
        subject: &Digest,
    ) -> Result<Option<Vec<Value>>, Refusal> {
        let upstream = Arc::clone(&self.upstream);
        let (name, subject) = (name.clone(), subject.clone());
        registry
            .on_disk(
                move |storage| match upstream.referrers(name.as_str(), &subject) {
                    Ok(found) => {
                        let found = found.iter().map(serde_json::to_value);
                        let found = found.collect::<Result<_, _>>();
                        Ok(Some(found.map_err(io::Error::from)?))
                    }
                    Err(error) => {
                        tracing::warn!(%error, "upstream");
                        let kept = storage.repository_exists(&name);
                        if kept { Ok(None) } else { Err(away(&*error)) }
                    }
                },
            )
            .await
    }

    async fn provide_blob(
        &self,
        registry: &Arc<Registry>,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), Refusal> {
        if registry.storage.has_blob(name, digest) {
            return Ok(());
        }
        let lock = {
            let mut underway = self.underway.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(underway.entry(digest.clone()).or_default())
        };
        let held = lock.lock().await;
        let upstream = Arc::clone(&self.upstream);
        let (repository, wanted) = (name.clone(), digest.clone());
        let fetched = registry
            .on_disk(
                move |storage| match storage.has_blob(&repository, &wanted) {
                    true => Ok(()),
                    false => fetch(storage, &*upstream, &repository, &wanted),
                },
            )
            .await;
        drop(held);
        let mut underway = self.underway.lock().unwrap_or_else(PoisonError::into_inner);
        // This one and the map's own: nobody waits.
        if Arc::strong_count(&lock) <= 2 {
            underway.remove(digest);
        }
        fetched
    }
}

/// A tag is asked for each time, since it moves; what it stood for last serves while the upstream registry is away.
fn provide_manifest(
    storage: &Storage,
    upstream: &dyn Upstream,
    name: &RepositoryName,
    manifest: &ManifestName,
) -> Result<(), Refusal> {
    if let ManifestName::Digest(digest) = manifest
        && storage.has_manifest(name, digest)
    {
        return Ok(());
    }
    let found = match upstream.manifest(name.as_str(), &manifest.to_string()) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "upstream");
            let kept = storage.manifest(name, manifest)?.is_some();
            return if kept { Ok(()) } else { Err(away(&*error)) };
        }
    };
    let tags = match manifest {
        ManifestName::Tag(tag) => std::slice::from_ref(tag),
        ManifestName::Digest(_) => &[],
    };
    let Some((media_type, bytes)) = found else {
        for tag in tags {
            storage.remove_tag(name, tag)?;
        }
        return Ok(());
    };
    let digest = match manifest {
        ManifestName::Digest(digest) => digest.clone(),
        ManifestName::Tag(_) => Digest::of(&bytes),
    };
    let contents = Contents::read(&bytes).ok();
    let subject = contents.and_then(|contents| contents.subject());
    let stored = StoredManifest {
        digest,
        media_type,
        bytes,
    };
    let _gate = storage.gate();
    storage.put_manifest(name, &stored, tags, subject.as_ref())?;
    Ok(())
}

fn fetch(
    storage: &Storage,
    upstream: &dyn Upstream,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<(), Refusal> {
    let id = UploadId::new()?;
    let mut upload = storage.begin_upload(name, &id, digest.algorithm())?;
    let fetched = upstream.blob(name.as_str(), digest, &mut Appending(&mut upload));
    match fetched {
        Ok(true) => storage
            .finish_upload(name, &mut upload, digest)
            .map_err(|error| match error {
                UploadError::Io(error) => error.into(),
                UploadError::Mismatch(actual) => Refusal::new(
                    Code::Unknown,
                    format!("the upstream registry sent {actual} for {digest}"),
                )
                .status(StatusCode::BAD_GATEWAY),
            }),
        Ok(false) => {
            storage.cancel_upload(name, &id)?;
            Ok(())
        }
        Err(error) => {
            storage.cancel_upload(name, &id)?;
            Err(away(&*error))
        }
    }
}

fn away(error: &(dyn std::error::Error + Send + Sync)) -> Refusal {
    Refusal::new(
        Code::Unknown,
        format!("the upstream registry cannot be asked: {error}"),
    )
    .status(StatusCode::BAD_GATEWAY)
}

struct Appending<'a>(&'a mut Upload);

impl Write for Appending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
