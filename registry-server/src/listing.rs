//! Lists: distribution-spec, "Listing tags", "Listing referrers", and the catalog of repositories.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use dhow_image::Digest;
use serde_json::{Value, json};

use crate::answer::{Code, Refusal};
use crate::manifests::Contents;
use crate::name::RepositoryName;
use crate::registry::{Parameters, Registry, json};
use crate::storage::StoredManifest;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

pub(crate) async fn catalog(
    registry: Arc<Registry>,
    query: Parameters,
) -> Result<Response<Body>, Refusal> {
    let names = registry.on_disk(|storage| Ok(storage.catalog()?)).await?;
    catalog_page(names.iter().map(ToString::to_string).collect(), &query)
}

/// The answer with these repositories, sorted.
pub(crate) fn catalog_page(
    names: Vec<String>,
    query: &Parameters,
) -> Result<Response<Body>, Refusal> {
    let (page, next) = page(names, query, "/v2/_catalog")?;
    Ok(linked(json(&json!({ "repositories": page })), next))
}

pub(crate) async fn tags(
    registry: Arc<Registry>,
    name: RepositoryName,
    query: Parameters,
) -> Result<Response<Body>, Refusal> {
    let upstream = match registry.upstream() {
        Some(upstream) => upstream.tags(&registry, &name).await?,
        None => None,
    };
    let tags = match upstream {
        Some(tags) => tags,
        None => kept_tags(&registry, &name).await?,
    };
    tags_page(&name, tags, &query)
}

async fn kept_tags(
    registry: &Arc<Registry>,
    name: &RepositoryName,
) -> Result<Vec<String>, Refusal> {
    let repository = name.clone();
    let tags = registry
        .on_disk(move |storage| {
            if !storage.repository_exists(&repository) {
                return Err(no_repository(&repository));
            }
            Ok(storage.tags(&repository)?)
        })
        .await?;
    Ok(tags.iter().map(ToString::to_string).collect())
}

/// The answer with these tags, sorted.
pub(crate) fn tags_page(
    name: &RepositoryName,
    tags: Vec<String>,
    query: &Parameters,
) -> Result<Response<Body>, Refusal> {
    let (page, next) = page(tags, query, &format!("/v2/{name}/tags/list"))?;
    let answer = json(&json!({ "name": name.as_str(), "tags": page }));
    Ok(linked(answer, next))
}

pub(crate) fn no_repository(name: &RepositoryName) -> Refusal {
    Refusal::new(Code::NameUnknown, format!("there is no repository {name}"))
}

pub(crate) async fn referrers(
    registry: Arc<Registry>,
    name: RepositoryName,
    subject: Digest,
    query: Parameters,
) -> Result<Response<Body>, Refusal> {
    let filter = query.get("artifactType");
    if let Some(upstream) = registry.upstream()
        && let Some(found) = upstream.referrers(&registry, &name, &subject).await?
    {
        return Ok(referrers_page(found, filter));
    }
    let found = registry
        .on_disk(move |storage| Ok(storage.referrers(&name, &subject)?))
        .await?;
    Ok(referrers_of(&found, filter))
}

/// The answer with these referrers, of which a filter may leave some.
pub(crate) fn referrers_of(found: &[StoredManifest], filter: Option<&str>) -> Response<Body> {
    referrers_page(found.iter().map(descriptor).collect(), filter)
}

/// The answer with these descriptors, of which a filter may leave some.
fn referrers_page(mut manifests: Vec<Value>, filter: Option<&str>) -> Response<Body> {
    manifests.retain(|found| filter.is_none_or(|filter| found["artifactType"] == filter));
    let mut response = json(&json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": manifests,
    }));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(INDEX));
    if filter.is_some() {
        headers.insert(FILTERS, HeaderValue::from_static("artifactType"));
    }
    response
}

/// The descriptor of a referrer, with what the specification wants copied from the manifest.
fn descriptor(manifest: &StoredManifest) -> Value {
    let mut descriptor = json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest.to_string(),
        "size": manifest.bytes.len(),
    });
    let Ok(contents) = Contents::read(&manifest.bytes) else {
        return descriptor;
    };
    let artifact_type = contents
        .artifact_type
        .filter(|kind| !kind.is_empty())
        .or_else(|| Some(contents.config?.media_type().to_string()));
    if let Some(artifact_type) = artifact_type {
        descriptor["artifactType"] = artifact_type.into();
    }
    if let Some(annotations) = contents.annotations {
        descriptor["annotations"] = annotations.into();
    }
    descriptor
}

/// The names after `last`, at most `n`, and where the next page is.
fn page(
    mut names: Vec<String>,
    query: &Parameters,
    path: &str,
) -> Result<(Vec<String>, Option<String>), Refusal> {
    if let Some(last) = query.get("last") {
        names.retain(|name| name.as_str() > last);
    }
    let Some(count) = query.get("n") else {
        return Ok((names, None));
    };
    let count: usize = count.parse().map_err(|_| {
        Refusal::new(Code::Unsupported, format!("n={count} is not a number"))
            .status(StatusCode::BAD_REQUEST)
    })?;
    let more = names.len() > count;
    names.truncate(count);
    let next = names
        .last()
        .filter(|_| more)
        .map(|last| format!("<{path}?n={count}&last={last}>; rel=\"next\""));
    Ok((names, next))
}

fn linked(mut response: Response<Body>, next: Option<String>) -> Response<Body> {
    if let Some(next) = next.and_then(|next| HeaderValue::try_from(next).ok()) {
        response.headers_mut().insert(header::LINK, next);
    }
    response
}
