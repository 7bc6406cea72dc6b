//! Which endpoint answers a request.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use axum::response::IntoResponse as _;

use crate::ServerOptions;
use crate::access::{Entrance, Passwords};
use crate::answer::{Code, Refusal};
use crate::name::RepositoryName;
use crate::route::{Endpoint, UploadId};
use crate::sharing::Sharing;
use crate::storage::{Storage, Upload};
use crate::upstream::Upstreams;
use crate::{blobs, listing, manifests, uploads};

/// The header by which content is named in answers.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// The uploads that this server began or resumed. A request holds an upload's lock while it writes to it.
type Uploads = HashMap<(RepositoryName, UploadId), Arc<tokio::sync::Mutex<Upload>>>;

/// What all requests share.
pub(crate) struct Registry {
    pub(crate) storage: Storage,
    uploads: Mutex<Uploads>,
    entrance: Entrance,
    upstream: Option<Upstreams>,
    /// The directory of blobs with which those of the registry are shared.
    pub(crate) sharing: Option<Sharing>,
}

/// A request's query, in its order.
pub(crate) struct Parameters(Vec<(String, String)>);

impl Registry {
    /// A registry over `storage`, as `options` have it.
    pub(crate) fn new(
        storage: Storage,
        passwords: Option<Passwords>,
        options: &ServerOptions,
    ) -> Self {
        Self {
            storage,
            uploads: Mutex::default(),
            entrance: Entrance {
                passwords: passwords.map(Arc::new),
                // What is a copy of another registry's is changed there.
                read_only: options.read_only || options.upstream.is_some(),
            },
            sharing: options.shared.clone().map(Sharing::new),
            upstream: options.upstream.clone().map(Upstreams::new),
        }
    }

    /// The registry that is asked for what is not here.
    pub(crate) fn upstream(&self) -> Option<&Upstreams> {
        self.upstream.as_ref()
    }

    /// The uploads that this server knows.
    pub(crate) fn uploads(&self) -> std::sync::MutexGuard<'_, Uploads> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does work on files where it does not hold up other requests.
    pub(crate) async fn on_disk<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Storage) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let registry = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&registry.storage))
            .await
            .map_err(|error| Refusal::new(Code::Unknown, error))?
    }
}

impl Parameters {
    pub(crate) fn read(request: &Request) -> Result<Self, Refusal> {
        Query::try_from_uri(request.uri())
            .map(|Query(pairs)| Self(pairs))
            .map_err(|error| Refusal::new(Code::Unsupported, error).status(StatusCode::BAD_REQUEST))
    }

    /// The first value of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of this name.
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let pairs = self.0.iter().filter(move |(key, _)| key == name);
        pairs.map(|(_, value)| value.as_str())
    }
}

/// Answers one request.
pub(crate) async fn answer(
    State(registry): State<Arc<Registry>>,
    request: Request,
) -> Response<Body> {
    respond(dispatch(registry, request).await)
}

/// The answer to a request, or the refusal.
pub(crate) fn respond(answer: Result<Response<Body>, Refusal>) -> Response<Body> {
    let mut response = match answer {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    };
    response
        .headers_mut()
        .insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    response
}

async fn dispatch(registry: Arc<Registry>, request: Request) -> Result<Response<Body>, Refusal> {
    let entrance = &registry.entrance;
    entrance.admit(request.method(), request.headers()).await?;
    let endpoint = Endpoint::read(request.uri().path())?;
    let query = Parameters::read(&request)?;
    let method = request.method().clone();
    let (parts, body) = request.into_parts();
    let headers = parts.headers;
    let reads = matches!(method, Method::GET | Method::HEAD);
    if let (Some(sharing), Endpoint::Blob(_, digest)) = (&registry.sharing, &endpoint) {
        sharing.moved(digest);
    }
    if reads && let Some(upstream) = registry.upstream() {
        upstream.provide(&registry, &endpoint).await?;
    }
    match (endpoint, method) {
        (Endpoint::Version, _) if reads => Ok(json(&serde_json::json!({}))),
        (Endpoint::Catalog, _) if reads => listing::catalog(registry, query).await,
        (Endpoint::Tags(name), _) if reads => listing::tags(registry, name, query).await,
        (Endpoint::Referrers(name, digest), _) if reads => {
            listing::referrers(registry, name, digest, query).await
        }
        (Endpoint::Blob(name, digest), Method::HEAD) => blobs::head(registry, name, digest).await,
        (Endpoint::Blob(name, digest), Method::GET) => {
            blobs::get(registry, name, digest, &headers).await
        }
        (Endpoint::Blob(name, digest), Method::DELETE) => {
            blobs::delete(registry, name, digest).await
        }
        (Endpoint::Manifest(name, manifest), _) if reads => {
            manifests::get(registry, name, manifest).await
        }
        (Endpoint::Manifest(name, manifest), Method::PUT) => {
            manifests::put(registry, (name, manifest), query, &headers, body).await
        }
        (Endpoint::Manifest(name, manifest), Method::DELETE) => {
            manifests::delete(registry, name, manifest).await
        }
        (Endpoint::Uploads(name), Method::POST) => {
            uploads::begin(registry, name, query, &headers, body).await
        }
        (Endpoint::Upload(name, id), Method::PATCH) => {
            uploads::append(registry, (name, id), &headers, body).await
        }
        (Endpoint::Upload(name, id), Method::PUT) => {
            uploads::finish(registry, (name, id), query, &headers, body).await
        }
        (Endpoint::Upload(name, id), _) if reads => uploads::status(registry, (name, id)).await,
        (Endpoint::Upload(name, id), Method::DELETE) => uploads::cancel(registry, (name, id)).await,
        (_, method) => Err(Refusal::new(
            Code::Unsupported,
            format!("{method} means nothing here"),
        )),
    }
}

/// An answer of 200 with a JSON document.
pub(crate) fn json(document: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::from(document.to_string()));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// An answer without a body.
pub(crate) fn empty<const N: usize>(
    status: StatusCode,
    headers: [(HeaderName, String); N],
) -> Result<Response<Body>, Refusal> {
    with_body(status, headers, Body::empty())
}

/// An answer with a body.
pub(crate) fn with_body<const N: usize>(
    status: StatusCode,
    headers: [(HeaderName, String); N],
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in headers {
        let value =
            HeaderValue::try_from(value).map_err(|error| Refusal::from(io::Error::other(error)))?;
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// A header's text, where there is one that is text.
pub(crate) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
