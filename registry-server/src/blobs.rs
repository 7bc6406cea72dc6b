//! Blobs that are asked for: distribution-spec, "Pulling blobs", and RFC 9110, section 14, "Range requests".

use std::io::{Seek as _, SeekFrom};
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode, header};
use dhow_image::Digest;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use crate::answer::{Code, Refusal};
use crate::name::RepositoryName;
use crate::registry::{CONTENT_DIGEST, Registry, empty, text, with_body};

/// How much of a blob is in memory for one who reads it.
pub(crate) const PIECE: usize = 1 << 18;

const OCTETS: &str = "application/octet-stream";

/// The part of a blob that is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    /// From the first byte up to and with the last.
    Bytes(u64, u64),
    /// One that the blob does not have.
    Unsatisfiable,
}

impl Part {
    /// Its first byte and its length.
    pub(crate) fn span(&self, size: u64) -> (u64, u64) {
        match self {
            Self::Whole => (0, size),
            Self::Bytes(first, last) => (*first, last - first + 1),
            Self::Unsatisfiable => (0, 0),
        }
    }
}

pub(crate) async fn head(
    registry: Arc<Registry>,
    name: RepositoryName,
    digest: Digest,
) -> Result<Response<Body>, Refusal> {
    let wanted = digest.clone();
    let size = registry
        .on_disk(move |storage| {
            // Who asks may be about to push a manifest that names it.
            let _gate = storage.gate();
            storage.touch_blob(&name, &wanted);
            Ok(storage.blob_size(&name, &wanted)?)
        })
        .await?
        .ok_or_else(|| unknown(&digest))?;
    described(&digest, size)
}

/// The answer that describes a blob.
pub(crate) fn described(digest: &Digest, size: u64) -> Result<Response<Body>, Refusal> {
    empty(
        StatusCode::OK,
        [
            (header::CONTENT_LENGTH, size.to_string()),
            (header::CONTENT_TYPE, OCTETS.into()),
            (header::ACCEPT_RANGES, "bytes".into()),
            (CONTENT_DIGEST, digest.to_string()),
        ],
    )
}

pub(crate) async fn get(
    registry: Arc<Registry>,
    name: RepositoryName,
    digest: Digest,
    headers: &HeaderMap,
) -> Result<Response<Body>, Refusal> {
    if let Some(answer) = unchanged(&digest, headers) {
        return answer;
    }
    let (wanted, headers) = (digest.clone(), headers.clone());
    let (file, size, part) = registry
        .on_disk(move |storage| {
            let (mut file, size) = storage
                .blob(&name, &wanted)?
                .ok_or_else(|| unknown(&wanted))?;
            let part = asked_part(&wanted, size, &headers);
            file.seek(SeekFrom::Start(part.span(size).0))?;
            Ok((file, size, part))
        })
        .await?;
    let mut file = tokio::fs::File::from_std(file);
    file.set_max_buf_size(PIECE);
    let stream = ReaderStream::with_capacity(file.take(part.span(size).1), PIECE);
    answered(&digest, size, &part, Body::from_stream(stream))
}

/// The answer to who has the blob already.
pub(crate) fn unchanged(
    digest: &Digest,
    headers: &HeaderMap,
) -> Option<Result<Response<Body>, Refusal>> {
    let etag = etag(digest);
    let known = text(headers, header::IF_NONE_MATCH).is_some_and(|known| known.contains(&etag));
    known.then(|| empty(StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]))
}

/// The part of a blob that a request's headers ask for.
pub(crate) fn asked_part(digest: &Digest, size: u64, headers: &HeaderMap) -> Part {
    let other = text(headers, header::IF_RANGE).is_some_and(|known| known != etag(digest));
    match text(headers, header::RANGE) {
        Some(range) if !other => part(range, size),
        _ => Part::Whole,
    }
}

/// The answer with this part of a blob.
pub(crate) fn answered(
    digest: &Digest,
    size: u64,
    part: &Part,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let (first, length) = part.span(size);
    let (status, range) = match part {
        Part::Whole => (StatusCode::OK, None),
        Part::Bytes(_, last) => (
            StatusCode::PARTIAL_CONTENT,
            Some(format!("bytes {first}-{last}/{size}")),
        ),
        Part::Unsatisfiable => return Err(unsatisfiable(digest, size)),
    };
    let mut response = with_body(
        status,
        [
            (header::CONTENT_LENGTH, length.to_string()),
            (header::CONTENT_TYPE, OCTETS.into()),
            (header::ACCEPT_RANGES, "bytes".into()),
            (header::ETAG, etag(digest)),
            (CONTENT_DIGEST, digest.to_string()),
        ],
        body,
    )?;
    if let Some(range) = range.and_then(|range| range.try_into().ok()) {
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    Ok(response)
}

fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

pub(crate) async fn delete(
    registry: Arc<Registry>,
    name: RepositoryName,
    digest: Digest,
) -> Result<Response<Body>, Refusal> {
    registry
        .on_disk(move |storage| match storage.unlink_blob(&name, &digest)? {
            true => Ok(()),
            false => Err(unknown(&digest)),
        })
        .await?;
    empty(StatusCode::ACCEPTED, [])
}

fn unsatisfiable(digest: &Digest, size: u64) -> Refusal {
    Refusal::new(
        Code::SizeInvalid,
        format!("{digest} has {size} bytes, none of which were asked for"),
    )
    .status(StatusCode::RANGE_NOT_SATISFIABLE)
    .header(header::CONTENT_RANGE, format!("bytes */{size}"))
}

pub(crate) fn unknown(digest: &Digest) -> Refusal {
    Refusal::new(
        Code::BlobUnknown,
        format!("this repository has no blob {digest}"),
    )
}

/// Reads a `Range` header. A unit or form that we do not know, and more than one range, are answered with the whole, as RFC 9110
/// allows.
fn part(range: &str, size: u64) -> Part {
    let Some((first, last)) = range
        .strip_prefix("bytes=")
        .and_then(|range| range.trim().split_once('-'))
    else {
        return Part::Whole;
    };
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first > last => Part::Whole,
        (Ok(first), _) if first >= size => match last {
            "" => Part::Unsatisfiable,
            last if last.parse::<u64>().is_ok() => Part::Unsatisfiable,
            _ => Part::Whole,
        },
        (Ok(first), Ok(last)) => Part::Bytes(first, last.min(size - 1)),
        (Ok(first), Err(_)) if last.is_empty() => Part::Bytes(first, size - 1),
        (Err(_), Ok(0)) if first.is_empty() => Part::Unsatisfiable,
        (Err(_), Ok(_)) if first.is_empty() && size == 0 => Part::Unsatisfiable,
        (Err(_), Ok(count)) if first.is_empty() => Part::Bytes(size - count.min(size), size - 1),
        _ => Part::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_has_them() {
        for (range, size, expected) in [
            ("bytes=0-3", 10, Part::Bytes(0, 3)),
            ("bytes=4-", 10, Part::Bytes(4, 9)),
            ("bytes=4-99", 10, Part::Bytes(4, 9)),
            ("bytes=-3", 10, Part::Bytes(7, 9)),
            ("bytes=-30", 10, Part::Bytes(0, 9)),
            ("bytes=9-9", 10, Part::Bytes(9, 9)),
            ("bytes=10-", 10, Part::Unsatisfiable),
            ("bytes=10-20", 10, Part::Unsatisfiable),
            ("bytes=-0", 10, Part::Unsatisfiable),
            ("bytes=0-", 0, Part::Unsatisfiable),
            ("bytes=-1", 0, Part::Unsatisfiable),
            ("bytes=3-2", 10, Part::Whole),
            ("bytes=0-1,3-4", 10, Part::Whole),
            ("bytes=a-b", 10, Part::Whole),
            ("lines=0-1", 10, Part::Whole),
            ("bytes=99999999999999999999-", 10, Part::Whole),
        ] {
            assert_eq!(part(range, size), expected, "{range} of {size}");
        }
    }
}
