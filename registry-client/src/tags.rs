//! The tags of a repository: distribution-spec, "Listing Tags".

use dhow_image::{TransferError, TransferErrorKind};
use serde::Deserialize;

use crate::pages;
use crate::repository::Repository;

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// All tags, as the registry orders them; none where it knows no such repository.
pub(crate) fn list(repository: &Repository<'_>) -> Result<Option<Vec<String>>, TransferError> {
    let (asking, what) = ("asking for the tags of", repository.title());
    let mut tags = Vec::new();
    let first = repository.url("tags/list");
    let found = pages::each(repository, first, asking, &what, |page| {
        let page: Page = serde_json::from_slice(page).map_err(|error| {
            TransferError::caused(
                TransferErrorKind::Corrupt,
                format!("{asking} {what}"),
                error,
            )
        })?;
        tags.extend(page.tags.unwrap_or_default());
        Ok(())
    })?;
    Ok(found.then_some(tags))
}
