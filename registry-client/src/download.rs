//! One blob from a registry as it comes, for who keeps it under a digest of its own finding.

use std::io;

use dhow_image::{Digest, TransferError, TransferErrorKind};
use ureq::http::{Method, StatusCode, header};

use crate::body::paced;
use crate::refusal::refused;
use crate::repository::{Ask, Repository, drain, text};

/// Writes a blob as it comes, whatever its digest is; whether there is one.
pub(crate) fn copy(
    repository: &Repository<'_>,
    digest: &Digest,
    into: &mut dyn io::Write,
) -> Result<bool, TransferError> {
    let doing = format!("pulling {digest}");
    let url = repository.url(&format!("blobs/{digest}"));
    let response = repository.send(&Ask::new(Method::GET, url, doing.clone()))?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => {
            drain(response);
            return Ok(false);
        }
        _ => {
            let what = format!("{digest} of {}", repository.title());
            return Err(refused("pulling", &what, response));
        }
    }
    let announced: Option<u64> =
        text(&response, header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
    let mut body = paced(response);
    let count = io::copy(&mut body, into).map_err(|error| {
        TransferError::caused(TransferErrorKind::Unreachable, doing.clone(), error)
    })?;
    repository.moved(count);
    match announced {
        Some(announced) if announced != count => Err(TransferError::new(
            TransferErrorKind::Unreachable,
            format!("{doing}: {count} of {announced} bytes came"),
        )),
        _ => Ok(true),
    }
}
