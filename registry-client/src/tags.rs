//! The tags of a repository: distribution-spec, "Listing Tags".

use dhow_image::{TransferError, TransferErrorKind};
use serde::Deserialize;
use ureq::http::{Method, StatusCode};

use crate::body::document;
use crate::manifest::LARGEST;
use crate::refusal::refused;
use crate::repository::{Ask, Repository, drain};

/// How many pages of a list are read.
const PAGES: usize = 1000;

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// All tags, as the registry orders them; none where it knows no such repository.
pub(crate) fn list(repository: &Repository<'_>) -> Result<Option<Vec<String>>, TransferError> {
    let doing = format!("asking for the tags of {}", repository.title());
    let too_long = || {
        let message = format!("{doing}: the list has no end");
        TransferError::new(TransferErrorKind::Corrupt, message)
    };
    let mut url = repository.url("tags/list");
    let mut tags = Vec::new();
    let mut bytes = 0;
    for _ in 0..PAGES {
        let response = repository.send(&Ask::new(Method::GET, url.clone(), doing.clone()))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                drain(response);
                return Ok(None);
            }
            _ => {
                let what = repository.title();
                return Err(refused("asking for the tags of", &what, response));
            }
        }
        let next = repository.next_page(&response, &url, &doing)?;
        let text = document(response, &doing)?;
        bytes += text.len() as u64;
        if bytes > LARGEST {
            return Err(too_long());
        }
        let page: Page = serde_json::from_slice(&text).map_err(|error| {
            TransferError::caused(TransferErrorKind::Corrupt, doing.clone(), error)
        })?;
        tags.extend(page.tags.unwrap_or_default());
        match next {
            Some(next) => url = next,
            None => return Ok(Some(tags)),
        }
    }
    Err(too_long())
}
