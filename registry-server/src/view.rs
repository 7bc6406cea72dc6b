//! Images that are kept elsewhere, served as they lie there: nothing is copied, nothing can be pushed.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, header};
use dhow_image::{BlobBody, Digest, VIEW_HEADER};
use futures_util::stream;
use tokio::sync::mpsc;

use crate::access::Entrance;
use crate::answer::{Code, Refusal};
use crate::blobs::{self, PIECE, Part};
use crate::name::{ManifestName, RepositoryName};
use crate::registry::{Parameters, json, respond, text};
use crate::route::Endpoint;
use crate::storage::StoredManifest;
use crate::{listing, manifests};

/// Why images cannot be served.
pub type ImagesError = Box<dyn std::error::Error + Send + Sync>;

/// Pieces of a blob on their way from the thread that reads it to the connection.
const UNDERWAY: usize = 2;

/// Who asks for images.
#[derive(Clone, Debug)]
pub struct Asker {
    /// What the client calls the registry: images may be kept under names that begin with it.
    pub host: String,
    /// It is another view (or this very one) that looks for what its store lacks: what has to be looked for elsewhere is not here for it,
    /// or views that know of each other would ask each other for ever.
    pub is_view: bool,
}

/// Where images are kept that a registry serves without having them. Calls may block.
pub trait Images: Send + Sync {
    /// The repositories that there are.
    ///
    /// # Errors
    /// When they cannot be read.
    fn repositories(&self, asker: &Asker) -> Result<Vec<String>, ImagesError>;

    /// The tags of a repository; none where there is no such repository.
    ///
    /// # Errors
    /// When they cannot be read.
    fn tags(&self, asker: &Asker, repository: &str) -> Result<Vec<String>, ImagesError>;

    /// The manifest that a tag or digest names in a repository, with its media type. What it names stays for as long as a client
    /// may take to ask for it.
    ///
    /// # Errors
    /// When it cannot be read.
    fn manifest(
        &self,
        asker: &Asker,
        repository: &str,
        name: &str,
    ) -> Result<Option<(String, Vec<u8>)>, ImagesError>;

    /// The size of a blob of a repository.
    ///
    /// # Errors
    /// When it cannot be read.
    fn blob_size(
        &self,
        asker: &Asker,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<u64>, ImagesError>;

    /// Opens a blob of a repository, from `offset` on where that is possible.
    ///
    /// # Errors
    /// When it cannot be read.
    fn blob(
        &self,
        asker: &Asker,
        repository: &str,
        digest: &Digest,
        offset: u64,
    ) -> Result<Option<BlobBody<'static>>, ImagesError>;

    /// Lets go what no client has asked for lately; called every minute.
    fn tend(&self);
}

type Sender = mpsc::Sender<io::Result<Bytes>>;

/// What all requests share.
pub(crate) struct View {
    pub(crate) images: Arc<dyn Images>,
    pub(crate) entrance: Entrance,
}

/// Who asks for what.
#[derive(Clone)]
struct Asked {
    by: Asker,
    repository: RepositoryName,
}

/// Answers one request.
pub(crate) async fn answer(State(view): State<Arc<View>>, request: Request) -> Response<Body> {
    let mut response = respond(dispatch(view, request).await);
    let says = HeaderValue::from_static("store");
    response.headers_mut().insert(VIEW_HEADER, says);
    response
}

async fn dispatch(view: Arc<View>, request: Request) -> Result<Response<Body>, Refusal> {
    let method = request.method().clone();
    view.entrance.admit(&method, request.headers()).await?;
    let endpoint = Endpoint::read(request.uri().path())?;
    let query = Parameters::read(&request)?;
    let headers = request.headers();
    let by = Asker {
        host: text(headers, header::HOST).unwrap_or_default().to_owned(),
        is_view: headers.contains_key(VIEW_HEADER),
    };
    let at = |repository| Asked {
        by: by.clone(),
        repository,
    };
    match endpoint {
        Endpoint::Version => Ok(json(&serde_json::json!({}))),
        Endpoint::Catalog => {
            let names = view.on_disk(move |images| images.repositories(&by)).await?;
            listing::catalog_page(names, &query)
        }
        Endpoint::Tags(name) => {
            let asked = at(name.clone());
            let tags = view
                .on_disk(move |images| images.tags(&asked.by, asked.repository.as_str()))
                .await?;
            match tags.is_empty() {
                true => Err(listing::no_repository(&name)),
                false => listing::tags_page(&name, tags, &query),
            }
        }
        // Nothing that is kept there refers to something else.
        Endpoint::Referrers(..) => Ok(listing::referrers_of(&[], query.get("artifactType"))),
        Endpoint::Manifest(name, manifest) => view.manifest(at(name), manifest).await,
        Endpoint::Blob(name, digest) if method == Method::HEAD => {
            let size = view.blob_size(&at(name), &digest).await?;
            blobs::described(&digest, size)
        }
        Endpoint::Blob(name, digest) => view.blob(at(name), digest, headers).await,
        Endpoint::Uploads(_) | Endpoint::Upload(..) => Err(Refusal::new(
            Code::BlobUploadUnknown,
            "nothing can be pushed to this registry",
        )),
    }
}

/// How often it is looked for what no client has asked for lately.
const TENDED: Duration = Duration::from_secs(60);

/// Lets go what no client has asked for lately, again and again.
pub(crate) async fn tend(view: Arc<View>) {
    loop {
        tokio::time::sleep(TENDED).await;
        let _ = view
            .on_disk(|images| {
                images.tend();
                Ok(())
            })
            .await;
    }
}

impl View {
    /// Asks where it does not hold up other requests.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Images) -> Result<T, ImagesError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let images = Arc::clone(&self.images);
        tokio::task::spawn_blocking(move || work(&*images))
            .await
            .map_err(|error| Refusal::new(Code::Unknown, error))?
            .map_err(|error| {
                tracing::error!(%error, "images");
                Refusal::new(Code::Unknown, error)
            })
    }

    async fn manifest(
        &self,
        asked: Asked,
        manifest: ManifestName,
    ) -> Result<Response<Body>, Refusal> {
        let (name, wanted) = (asked.repository.clone(), manifest.to_string());
        let found = self
            .on_disk(move |images| images.manifest(&asked.by, asked.repository.as_str(), &wanted))
            .await?;
        let (media_type, bytes) = found.ok_or_else(|| manifests::unknown(&name, &manifest))?;
        let digest = match manifest {
            ManifestName::Digest(digest) => digest,
            ManifestName::Tag(_) => Digest::of(&bytes),
        };
        manifests::whole(StoredManifest {
            digest,
            media_type,
            bytes,
        })
    }

    async fn blob_size(&self, asked: &Asked, digest: &Digest) -> Result<u64, Refusal> {
        let (asked, wanted) = (asked.clone(), digest.clone());
        self.on_disk(move |images| images.blob_size(&asked.by, asked.repository.as_str(), &wanted))
            .await?
            .ok_or_else(|| blobs::unknown(digest))
    }

    async fn blob(
        &self,
        asked: Asked,
        digest: Digest,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Refusal> {
        if let Some(answer) = blobs::unchanged(&digest, headers) {
            return answer;
        }
        let size = self.blob_size(&asked, &digest).await?;
        let part = blobs::asked_part(&digest, size, headers);
        let (first, length) = part.span(size);
        if matches!(part, Part::Unsatisfiable) {
            return blobs::answered(&digest, size, &part, Body::empty());
        }
        let wanted = digest.clone();
        let body = self
            .on_disk(move |images| {
                images.blob(&asked.by, asked.repository.as_str(), &wanted, first)
            })
            .await?
            .ok_or_else(|| blobs::unknown(&digest))?;
        let (sender, receiver) = mpsc::channel(UNDERWAY);
        let is_end = first + length == size;
        tokio::task::spawn_blocking(move || send(body, first, length, is_end, &sender));
        let pieces = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|piece| (piece, receiver))
        });
        let body = Body::from_stream(pieces);
        blobs::answered(&digest, size, &part, body)
    }
}

/// Reads `length` bytes from `first` on and sends them; an error breaks the connection off, which no client takes for the end.
fn send(body: BlobBody<'_>, first: u64, length: u64, is_end: bool, to: &Sender) {
    let mut reader = body.reader;
    let sent = (|| {
        let before = first.saturating_sub(body.offset);
        let skipped = io::copy(&mut reader.by_ref().take(before), &mut io::sink())?;
        let mut left = if skipped == before { length } else { 0 };
        while left > 0 {
            let mut piece = Vec::with_capacity(PIECE);
            let most = left.min(PIECE as u64);
            let count = reader.by_ref().take(most).read_to_end(&mut piece)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= count as u64;
            // Whether what is made on the way is what it should be shows at its end, for which the last piece waits.
            if left == 0 && is_end && reader.read(&mut [0])? > 0 {
                return Err(io::Error::other("it is longer than it should be"));
            }
            if to.blocking_send(Ok(piece.into())).is_err() {
                // The client has gone.
                return Ok(());
            }
        }
        Ok(())
    })();
    if let Err(error) = sent {
        tracing::warn!(%error, "a blob broke off");
        let _ = to.blocking_send(Err(error));
    }
}
