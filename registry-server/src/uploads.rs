//! Blobs that come: distribution-spec, "Pushing blobs", "Pushing a blob in chunks", "Mounting a blob from another repository".

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, Response, StatusCode, header};
use dhow_image::{Algorithm, Digest};
use futures_util::StreamExt as _;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};

use crate::answer::{Code, Refusal};
use crate::name::RepositoryName;
use crate::registry::{CONTENT_DIGEST, Parameters, Registry, empty, text};
use crate::route::{self, UploadId};
use crate::storage::{Upload, UploadError};

/// How many pieces of a body wait for the disk.
const WAITING: usize = 8;

/// How often at least it is looked for what nobody uses.
const TENDED: Duration = Duration::from_secs(60 * 60);

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// Which upload.
type Key = (RepositoryName, UploadId);

/// `POST`: mounts a blob, takes a whole one, or begins an upload.
pub(crate) async fn begin(
    registry: Arc<Registry>,
    name: RepositoryName,
    query: Parameters,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    if let Some(digest) = query.get("mount") {
        let digest = route::digest(digest)?;
        let from = query.get("from").map(route::repository).transpose()?;
        if let Some(from) = from
            && mount(&registry, &name, from, &digest).await?
        {
            return created(&name, &digest);
        }
    }
    let digest = query.get("digest").map(route::digest).transpose()?;
    let algorithm = match (&digest, query.get("digest-algorithm")) {
        (Some(digest), _) => digest.algorithm(),
        (None, None | Some("sha256")) => Algorithm::Sha256,
        (None, Some("sha512")) => Algorithm::Sha512,
        (None, Some(other)) => {
            return Err(Refusal::new(
                Code::DigestInvalid,
                format!("the algorithm {other:?} is neither sha256 nor sha512"),
            ));
        }
    };
    let id = UploadId::new()?;
    let key = (name, id);
    let upload = registry
        .on_disk({
            let (name, id) = key.clone();
            move |storage| Ok(storage.begin_upload(&name, &id, algorithm)?)
        })
        .await?;
    registry
        .uploads()
        .insert(key.clone(), Arc::new(Mutex::new(upload)));
    match digest {
        Some(digest) => {
            let finished = receive_last(&registry, &key, &digest, headers, body).await;
            if finished.is_err() {
                // Nobody was told of this upload, so nobody can go on with it.
                forget(&registry, &key).await?;
            }
            finished
        }
        None => progress(StatusCode::ACCEPTED, &key, 0),
    }
}

/// `PATCH`: takes a chunk.
pub(crate) async fn append(
    registry: Arc<Registry>,
    key: Key,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let upload = locked(&registry, &key).await?;
    check_range(headers, &key, upload.size())?;
    let upload = receive(&registry, &key, upload, headers, body).await?;
    progress(StatusCode::ACCEPTED, &key, upload.size())
}

/// `PUT`: takes the last chunk or the whole, and makes it a blob.
pub(crate) async fn finish(
    registry: Arc<Registry>,
    key: Key,
    query: Parameters,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let digest = query.get("digest").ok_or_else(|| {
        Refusal::new(Code::DigestInvalid, "the digest=... of the blob is missing")
    })?;
    receive_last(&registry, &key, &route::digest(digest)?, headers, body).await
}

/// `GET`: says how much has come.
pub(crate) async fn status(registry: Arc<Registry>, key: Key) -> Result<Response<Body>, Refusal> {
    let size = locked(&registry, &key).await?.size();
    progress(StatusCode::NO_CONTENT, &key, size)
}

/// `DELETE`: gives the upload up.
pub(crate) async fn cancel(registry: Arc<Registry>, key: Key) -> Result<Response<Body>, Refusal> {
    match forget(&registry, &key).await? {
        true => empty(StatusCode::NO_CONTENT, []),
        false => Err(unknown(&key)),
    }
}

/// Clears away what nobody has used for so long, again and again.
pub(crate) async fn tend(registry: Arc<Registry>, kept: Duration) {
    loop {
        tokio::time::sleep(TENDED.min(kept)).await;
        let collected = registry
            .on_disk(move |storage| Ok(storage.collect_unused(kept)?))
            .await;
        if collected.is_ok() {
            // One that a request holds is in use.
            registry
                .uploads()
                .retain(|_, upload| upload.try_lock().map_or(true, |upload| !upload.is_gone()));
        }
    }
}

async fn mount(
    registry: &Arc<Registry>,
    name: &RepositoryName,
    from: RepositoryName,
    digest: &Digest,
) -> Result<bool, Refusal> {
    let (name, digest) = (name.clone(), digest.clone());
    registry
        .on_disk(move |storage| {
            let _gate = storage.gate();
            let there = storage.has_blob(&from, &digest);
            if there {
                storage.link_blob(&name, &digest)?;
            }
            Ok(there)
        })
        .await
}

async fn receive_last(
    registry: &Arc<Registry>,
    key: &Key,
    digest: &Digest,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let upload = locked(registry, key).await?;
    check_range(headers, key, upload.size())?;
    let mut upload = receive(registry, key, upload, headers, body).await?;
    let (name, expected) = (key.0.clone(), digest.clone());
    let finished = registry
        .on_disk(move |storage| {
            storage
                .finish_upload(&name, &mut upload, &expected)
                .map_err(|error| match error {
                    UploadError::Io(error) => error.into(),
                    UploadError::Mismatch(actual) => Refusal::new(
                        Code::DigestInvalid,
                        format!("the content's digest is {actual} and not {expected}"),
                    ),
                })
        })
        .await;
    registry.uploads().remove(key);
    finished?;
    if let Some(sharing) = &registry.sharing {
        sharing.moved(digest);
    }
    created(&key.0, digest)
}

/// The upload, for this request alone.
async fn locked(registry: &Arc<Registry>, key: &Key) -> Result<OwnedMutexGuard<Upload>, Refusal> {
    let known = registry.uploads().get(key).map(Arc::clone);
    let upload = match known {
        Some(upload) => upload,
        None => {
            let (name, id) = key.clone();
            let resumed = registry
                .on_disk(move |storage| Ok(storage.resume_upload(&name, &id)?))
                .await?
                .ok_or_else(|| unknown(key))?;
            let mut uploads = registry.uploads();
            let entry = uploads.entry(key.clone());
            Arc::clone(entry.or_insert_with(|| Arc::new(Mutex::new(resumed))))
        }
    };
    Ok(upload.lock_owned().await)
}

/// Writes a request's body to the end of the upload. What could not be written, on a full disk, is given up at once.
async fn receive(
    registry: &Arc<Registry>,
    key: &Key,
    upload: OwnedMutexGuard<Upload>,
    headers: &HeaderMap,
    body: Body,
) -> Result<OwnedMutexGuard<Upload>, Refusal> {
    let received = write(upload, headers, body).await;
    if let Err(refusal) = &received
        && refusal.is_internal()
    {
        forget(registry, key).await?;
    }
    received
}

/// Writes a request's body to the end of the upload, in memory that does not grow with it.
async fn write(
    upload: OwnedMutexGuard<Upload>,
    headers: &HeaderMap,
    body: Body,
) -> Result<OwnedMutexGuard<Upload>, Refusal> {
    let before = upload.size();
    let (sender, mut receiver) = mpsc::channel::<Bytes>(WAITING);
    let writer = tokio::task::spawn_blocking(move || {
        let mut upload = upload;
        while let Some(piece) = receiver.blocking_recv() {
            upload.append(&piece)?;
        }
        std::io::Result::Ok(upload)
    });
    let mut pieces = body.into_data_stream();
    let mut broken = None;
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => {
                if sender.send(piece).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
    }
    drop(sender);
    let mut upload = writer
        .await
        .map_err(|error| Refusal::new(Code::Unknown, error))??;
    if let Some(error) = broken {
        return Err(Refusal::new(Code::BlobUploadInvalid, error));
    }
    let came = upload.size() - before;
    if let Some((first, last)) = content_range(headers)?
        && last.checked_sub(first).and_then(|span| span.checked_add(1)) != Some(came)
        && came > 0
    {
        upload.truncate(before)?;
        return Err(Refusal::new(
            Code::SizeInvalid,
            format!("{came} bytes came for the range {first}-{last}"),
        ));
    }
    Ok(upload)
}

/// A chunk has to begin where the last one ended.
fn check_range(headers: &HeaderMap, key: &Key, size: u64) -> Result<(), Refusal> {
    match content_range(headers)? {
        Some((first, _)) if first != size => Err(Refusal::new(
            Code::BlobUploadInvalid,
            format!("the chunk begins at {first}, but {size} bytes have come"),
        )
        .status(StatusCode::RANGE_NOT_SATISFIABLE)
        .header(header::LOCATION, location(key))
        .header(header::RANGE, received(size))),
        _ => Ok(()),
    }
}

/// Reads `Content-Range: FIRST-LAST`.
fn content_range(headers: &HeaderMap) -> Result<Option<(u64, u64)>, Refusal> {
    let Some(range) = text(headers, header::CONTENT_RANGE) else {
        return Ok(None);
    };
    let ends = range.split_once('-');
    let range = ends.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    range.map(Some).ok_or_else(|| {
        Refusal::new(
            Code::BlobUploadInvalid,
            "Content-Range is not of the form FIRST-LAST",
        )
        .status(StatusCode::RANGE_NOT_SATISFIABLE)
    })
}

async fn forget(registry: &Arc<Registry>, key: &Key) -> Result<bool, Refusal> {
    registry.uploads().remove(key);
    let (name, id) = key.clone();
    registry
        .on_disk(move |storage| Ok(storage.cancel_upload(&name, &id)?))
        .await
}

fn progress(status: StatusCode, key: &Key, size: u64) -> Result<Response<Body>, Refusal> {
    empty(
        status,
        [
            (header::LOCATION, location(key)),
            (header::RANGE, received(size)),
            (UPLOAD_ID, key.1.as_str().to_owned()),
        ],
    )
}

fn created(name: &RepositoryName, digest: &Digest) -> Result<Response<Body>, Refusal> {
    empty(
        StatusCode::CREATED,
        [
            (header::LOCATION, format!("/v2/{name}/blobs/{digest}")),
            (CONTENT_DIGEST, digest.to_string()),
        ],
    )
}

fn location((name, id): &Key) -> String {
    format!("/v2/{name}/blobs/uploads/{}", id.as_str())
}

/// The range that has come. Nothing is `0-0` too, as every registry has it.
fn received(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

fn unknown((_, id): &Key) -> Refusal {
    Refusal::new(
        Code::BlobUploadUnknown,
        format!("there is no upload {}", id.as_str()),
    )
}
