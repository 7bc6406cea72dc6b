//! Manifests: distribution-spec, "Pulling manifests", "Pushing manifests", "Deleting manifests".

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use dhow_image::{Compression, Descriptor, Digest, Hasher};
use oci_spec::image::MediaType;
use serde::Deserialize;

use crate::answer::{Code, Refusal};
use crate::name::{ManifestName, RepositoryName, Tag};
use crate::registry::{CONTENT_DIGEST, Parameters, Registry, empty, text, with_body};
use crate::route;
use crate::storage::{Storage, StoredManifest};

/// The largest manifest that is taken.
const LARGEST: usize = 8 << 20;

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAGGED: HeaderName = HeaderName::from_static("oci-tag");

/// What a manifest or index says that concerns a registry. Documents of other kinds have none of it, and are kept all the same.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Contents {
    media_type: Option<String>,
    pub(crate) config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    pub(crate) artifact_type: Option<String>,
    pub(crate) annotations: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Contents {
    /// Reads a manifest or index.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The manifest that it refers to.
    pub(crate) fn subject(&self) -> Option<Digest> {
        let subject = self.subject.as_ref()?;
        Digest::of_descriptor(subject).ok()
    }
}

pub(crate) async fn get(
    registry: Arc<Registry>,
    name: RepositoryName,
    manifest: ManifestName,
) -> Result<Response<Body>, Refusal> {
    let found = registry
        .on_disk(move |storage| {
            storage
                .manifest(&name, &manifest)?
                .ok_or_else(|| unknown(&name, &manifest))
        })
        .await?;
    whole(found)
}

/// The answer with a manifest.
pub(crate) fn whole(found: StoredManifest) -> Result<Response<Body>, Refusal> {
    with_body(
        StatusCode::OK,
        [
            (header::CONTENT_TYPE, found.media_type),
            (header::CONTENT_LENGTH, found.bytes.len().to_string()),
            (header::ETAG, format!("\"{}\"", found.digest)),
            (CONTENT_DIGEST, found.digest.to_string()),
        ],
        Body::from(found.bytes),
    )
}

pub(crate) async fn put(
    registry: Arc<Registry>,
    (name, manifest): (RepositoryName, ManifestName),
    query: Parameters,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let bytes = axum::body::to_bytes(body, LARGEST).await.map_err(|error| {
        Refusal::new(
            Code::ManifestInvalid,
            format!("the manifest cannot be read, or is larger than {LARGEST} bytes: {error}"),
        )
        .status(StatusCode::PAYLOAD_TOO_LARGE)
    })?;
    let contents = Contents::read(&bytes).map_err(|error| {
        Refusal::new(
            Code::ManifestInvalid,
            format!("the manifest is no manifest: {error}"),
        )
    })?;
    let media_type = media_type(headers, &contents)?;
    let mut tags: Vec<Tag> = query
        .all("tag")
        .map(route::tag)
        .collect::<Result<_, Refusal>>()?;
    let extra_tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
    if let ManifestName::Tag(tag) = &manifest {
        tags.push(tag.clone());
    }
    let digest = checked_digest(&manifest, &bytes)?;
    let subject = contents.subject();
    let stored = StoredManifest {
        digest: digest.clone(),
        media_type,
        bytes: bytes.to_vec(),
    };
    let location = format!("/v2/{name}/manifests/{digest}");
    let referred = subject.clone();
    registry
        .on_disk(move |storage| {
            // What it names does not go between the look and the keeping.
            let _gate = storage.gate();
            check_references(storage, &name, &contents)?;
            storage.put_manifest(&name, &stored, &tags, referred.as_ref())?;
            Ok(())
        })
        .await?;
    let mut response = empty(
        StatusCode::CREATED,
        [
            (header::LOCATION, location),
            (CONTENT_DIGEST, digest.to_string()),
        ],
    )?;
    let tagged = (!extra_tags.is_empty()).then(|| extra_tags.join(", "));
    let subject = subject.map(|subject| subject.to_string());
    for (name, value) in [(SUBJECT, subject), (TAGGED, tagged)] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

pub(crate) async fn delete(
    registry: Arc<Registry>,
    name: RepositoryName,
    manifest: ManifestName,
) -> Result<Response<Body>, Refusal> {
    registry
        .on_disk(move |storage| {
            let removed = match &manifest {
                ManifestName::Tag(tag) => storage.remove_tag(&name, tag)?,
                ManifestName::Digest(digest) => {
                    let subject = storage
                        .manifest(&name, &manifest)?
                        .and_then(|found| Contents::read(&found.bytes).ok()?.subject());
                    storage.remove_manifest(&name, digest, subject.as_ref())?
                }
            };
            match removed {
                true => Ok(()),
                false => Err(unknown(&name, &manifest)),
            }
        })
        .await?;
    empty(StatusCode::ACCEPTED, [])
}

/// The digest of a manifest, which has to be the one that it is put under, if it is put under one.
fn checked_digest(manifest: &ManifestName, bytes: &[u8]) -> Result<Digest, Refusal> {
    let ManifestName::Digest(digest) = manifest else {
        return Ok(Digest::of(bytes));
    };
    let mut hasher = Hasher::new(digest.algorithm());
    hasher.update(bytes);
    let actual = hasher.finish();
    match actual == *digest {
        true => Ok(actual),
        false => Err(Refusal::new(
            Code::DigestInvalid,
            format!("the manifest's digest is {actual} and not {digest}"),
        )),
    }
}

/// The media type to keep: the header's, which may not contradict the document's own.
fn media_type(headers: &HeaderMap, contents: &Contents) -> Result<String, Refusal> {
    let said = text(headers, header::CONTENT_TYPE)
        .map(|said| said.split(';').next().unwrap_or_default().trim().to_owned())
        .filter(|said| !said.is_empty());
    match (said, &contents.media_type) {
        (Some(said), Some(own)) if said != *own => Err(Refusal::new(
            Code::ManifestInvalid,
            format!("Content-Type says {said}, but the manifest's mediaType says {own}"),
        )),
        (Some(said), _) => Ok(said),
        (None, Some(own)) => Ok(own.clone()),
        (None, None) => Err(Refusal::new(
            Code::ManifestInvalid,
            "neither Content-Type nor mediaType says what this manifest is",
        )),
    }
}

/// Everything that the manifest names has to be in the repository; only a subject may come later, and layers that must not be
/// distributed need not come.
fn check_references(
    storage: &Storage,
    name: &RepositoryName,
    contents: &Contents,
) -> Result<(), Refusal> {
    let mut missing = Vec::new();
    let blobs = contents
        .config
        .iter()
        .chain(contents.layers.iter().flatten());
    for descriptor in blobs.filter(|descriptor| !is_foreign(descriptor)) {
        let digest = checked(descriptor)?;
        match storage.blob_size(name, &digest)? {
            None => missing.push(digest.to_string()),
            Some(size) if size != descriptor.size() => {
                return Err(Refusal::new(
                    Code::ManifestInvalid,
                    format!(
                        "the manifest says {} bytes of {digest}, which has {size}",
                        descriptor.size()
                    ),
                ));
            }
            Some(_) => {}
        }
    }
    for descriptor in contents.manifests.iter().flatten() {
        let digest = checked(descriptor)?;
        if !storage.has_manifest(name, &digest) {
            missing.push(digest.to_string());
        }
    }
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Refusal::of_missing(missing)),
    }
}

fn checked(descriptor: &Descriptor) -> Result<Digest, Refusal> {
    Digest::of_descriptor(descriptor).map_err(|error| Refusal::new(Code::ManifestInvalid, error))
}

fn is_foreign(descriptor: &Descriptor) -> bool {
    let media_type: &MediaType = descriptor.media_type();
    let text = media_type.to_string();
    Compression::of_layer(media_type).is_some()
        && (text.contains("nondistributable") || text.contains("foreign"))
}

pub(crate) fn unknown(name: &RepositoryName, manifest: &ManifestName) -> Refusal {
    Refusal::new(
        Code::ManifestUnknown,
        format!("{name} has no manifest {manifest}"),
    )
}
