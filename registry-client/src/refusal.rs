//! What a registry answers when it does not do what it was asked: distribution-spec, "Error Codes".

use std::io::Read as _;

use dhow_image::{TransferError, TransferErrorKind};
use serde::Deserialize;
use ureq::Body;
use ureq::http::{Response, StatusCode};

use crate::body::paced;

/// As much as is read of an error's text.
const LONGEST: u64 = 16 << 10;

#[derive(Deserialize)]
struct Errors {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The error for an answer that is no success. `doing` says what was asked, `what` to what: `pushing`, `localhost:5000/app:1`.
pub(crate) fn refused(doing: &str, what: &str, response: Response<Body>) -> TransferError {
    let status = response.status();
    let reason = reason(response);
    let with = |text: &str| match reason.as_str() {
        "" => text.to_owned(),
        reason => format!("{text}: {reason}"),
    };
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => TransferError::new(
            TransferErrorKind::Denied,
            with(&format!(
                "{doing} {what}: the registry denies access ({}); if it needs a login, `dhow login` to it",
                status.as_u16()
            )),
        ),
        StatusCode::NOT_FOUND => TransferError::new(
            TransferErrorKind::NotFound,
            with(&format!("{doing} {what}: the registry does not have it")),
        ),
        _ => {
            let kind = match is_transient(status) {
                true => TransferErrorKind::Unreachable,
                false => TransferErrorKind::Other,
            };
            let text = format!("{doing} {what}: the registry answers {status}");
            TransferError::new(kind, with(&text))
        }
    }
}

/// Whether the same request may well succeed a little later.
pub(crate) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// The registry's own words in one line.
fn reason(response: Response<Body>) -> String {
    let mut text = Vec::new();
    let mut body = paced(response).take(LONGEST);
    if body.read_to_end(&mut text).is_err() {
        return String::new();
    }
    let Ok(parsed) = serde_json::from_slice::<Errors>(&text) else {
        return String::new();
    };
    let errors: Vec<String> = parsed
        .errors
        .into_iter()
        .take(3)
        .map(|error| match error.message.as_str() {
            "" => error.code,
            message => format!("{message} ({})", error.code),
        })
        .collect();
    // What comes from outside must not move the cursor or begin a line of its own.
    let line = errors.join(", ");
    line.chars().filter(|c| !c.is_control()).take(500).collect()
}
