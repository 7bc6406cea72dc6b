//! Lists that registries give out in pages.

use dhow_image::{TransferError, TransferErrorKind};
use ureq::http::{Method, StatusCode};

use crate::body::document;
use crate::manifest::LARGEST;
use crate::refusal::refused;
use crate::repository::{Ask, Repository, drain};

/// How many pages of a list are read.
const PAGES: usize = 1000;

/// Hands over each page of the list that begins at an address; whether the registry has such a list. `asking` and `what` say for what is
/// asked: `asking for the tags of`, `localhost:5000/app`.
pub(crate) fn each(
    repository: &Repository<'_>,
    first: String,
    asking: &str,
    what: &str,
    mut take: impl FnMut(&[u8]) -> Result<(), TransferError>,
) -> Result<bool, TransferError> {
    let doing = format!("{asking} {what}");
    let mut url = first;
    // Of all pages together.
    let mut left = LARGEST;
    for _ in 0..PAGES {
        let response = repository.send(&Ask::new(Method::GET, url.clone(), doing.clone()))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                drain(response);
                return Ok(false);
            }
            _ => return Err(refused(asking, what, response)),
        }
        let next = repository.next_page(&response, &url, &doing)?;
        let page = document(response, &doing)?;
        left = match left.checked_sub(page.len() as u64) {
            Some(left) => left,
            None => break,
        };
        take(&page)?;
        match next {
            Some(next) => url = next,
            None => return Ok(true),
        }
    }
    let message = format!("{doing}: the list has no end");
    Err(TransferError::new(TransferErrorKind::Corrupt, message))
}
