//! Manifests that refer to another: distribution-spec, "Listing Referrers" and "Pushing Manifests with Subject", with the tag by which
//! registries without that interface keep the list.

use dhow_image::{Descriptor, Digest, TransferError, TransferErrorKind};
use serde_json::{Value, json};
use ureq::http::{HeaderName, Method, StatusCode, header};

use crate::auth::encoded;
use crate::body::document;
use crate::manifest::ACCEPTED;
use crate::pages;
use crate::refusal::refused;
use crate::repository::{Ask, Repository, drain};
use crate::transport::Payload;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// By this header a registry says that it keeps the list itself.
pub(crate) const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// The digest of a manifest's subject, where it has one.
pub(crate) fn subject(manifest: &[u8]) -> Result<Option<Digest>, TransferError> {
    let broken = |error: Box<dyn std::error::Error + Send + Sync>| {
        TransferError::caused(
            TransferErrorKind::Corrupt,
            "reading a manifest's subject",
            error,
        )
    };
    let document: Value = serde_json::from_slice(manifest).map_err(|e| broken(e.into()))?;
    match document["subject"]["digest"].as_str() {
        Some(digest) => digest
            .parse()
            .map(Some)
            .map_err(|e: dhow_image::DigestError| broken(e.into())),
        None => Ok(None),
    }
}

/// Adds a manifest to the list of those that refer to `subject`, for a registry that does not do it itself.
pub(crate) fn add(
    repository: &Repository<'_>,
    subject: &Digest,
    descriptor: &Descriptor,
    manifest: &[u8],
) -> Result<(), TransferError> {
    let mut list = tagged(repository, subject)?.unwrap_or_default();
    let digest = descriptor.digest().to_string();
    if list.iter().any(|known| known["digest"] == digest) {
        return Ok(());
    }
    list.push(entry(descriptor, manifest));
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": list });
    let bytes = index.to_string().into_bytes();
    let tag = tag(subject);
    let what = format!("{}:{tag}", repository.title());
    let ask = Ask::new(
        Method::PUT,
        repository.url(&format!("manifests/{tag}")),
        format!("pushing {what}"),
    )
    .header(header::CONTENT_TYPE, INDEX)
    .payload(Payload::Bytes(&bytes));
    let response = repository.send(&ask)?;
    if response.status() != StatusCode::CREATED {
        return Err(refused("pushing", &what, response));
    }
    repository.moved(bytes.len() as u64);
    drain(response);
    Ok(())
}

/// The descriptors of the manifests that refer to `subject`, of one type of artifact or of all.
pub(crate) fn list(
    repository: &Repository<'_>,
    subject: &Digest,
    artifact_type: Option<&str>,
) -> Result<Vec<Value>, TransferError> {
    let filter = artifact_type.map_or_else(String::new, |kind| {
        format!("?artifactType={}", encoded(kind))
    });
    let first = repository.url(&format!("referrers/{subject}{filter}"));
    let (asking, what) = ("asking for what refers to", subject.to_string());
    let mut found = Vec::new();
    let listed = pages::each(repository, first, asking, &what, |page| {
        found.extend(entries(page, &format!("{asking} {what}"))?);
        Ok(())
    })?;
    if !listed {
        // A registry of before this interface.
        found = tagged(repository, subject)?.unwrap_or_default();
    }
    // A registry need not filter.
    found.retain(|entry| artifact_type.is_none_or(|kind| entry["artifactType"] == kind));
    Ok(found)
}

/// The list that the tag names; none where there is no such tag.
fn tagged(
    repository: &Repository<'_>,
    subject: &Digest,
) -> Result<Option<Vec<Value>>, TransferError> {
    let tag = tag(subject);
    let what = format!("{}:{tag}", repository.title());
    let doing = format!("asking for {what}");
    let ask = Ask::new(
        Method::GET,
        repository.url(&format!("manifests/{tag}")),
        doing.clone(),
    )
    .header(header::ACCEPT, ACCEPTED);
    let response = repository.send(&ask)?;
    match response.status() {
        StatusCode::OK => entries(&document(response, &doing)?, &doing).map(Some),
        StatusCode::NOT_FOUND => {
            drain(response);
            Ok(None)
        }
        _ => Err(refused("asking for", &what, response)),
    }
}

/// The entries of an index.
fn entries(index: &[u8], doing: &str) -> Result<Vec<Value>, TransferError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        TransferError::caused(TransferErrorKind::Corrupt, doing, error)
    };
    let mut index: Value = serde_json::from_slice(index).map_err(|error| failed(error.into()))?;
    match index["manifests"].take() {
        Value::Array(all) => Ok(all),
        _ => Err(failed("the answer is no image index".into())),
    }
}

/// The descriptor of a referrer, with what the specification wants copied from the manifest.
fn entry(descriptor: &Descriptor, manifest: &[u8]) -> Value {
    let document: Value = serde_json::from_slice(manifest).unwrap_or_default();
    let mut entry = json!({
        "mediaType": descriptor.media_type().to_string(),
        "digest": descriptor.digest().to_string(),
        "size": descriptor.size(),
    });
    let own = document["artifactType"]
        .as_str()
        .filter(|kind| !kind.is_empty());
    if let Some(kind) = own.or(document["config"]["mediaType"].as_str()) {
        entry["artifactType"] = kind.into();
    }
    if document["annotations"].is_object() {
        entry["annotations"] = document["annotations"].clone();
    }
    entry
}

/// The tag under which the list is kept: distribution-spec, "Referrers Tag Schema".
fn tag(subject: &Digest) -> String {
    let mut tag = format!("{}-{}", subject.algorithm().name(), subject.hex());
    // 32 for the algorithm, 64 for the digits.
    tag.truncate(subject.algorithm().name().len() + 1 + 64);
    tag
}
