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

/// A registry's own words.
struct Words {
    /// In one line; empty where it says nothing.
    line: String,
    codes: Vec<String>,
}

impl Words {
    /// A text with these words after it.
    fn after(&self, text: &str) -> String {
        match self.line.as_str() {
            "" => text.to_owned(),
            reason => format!("{text}: {reason}"),
        }
    }
}

/// The error for an answer that is no success. `doing` says what was asked, `what` to what: `pushing`, `localhost:5000/app:1`.
pub(crate) fn refused(doing: &str, what: &str, response: Response<Body>) -> TransferError {
    let status = response.status();
    error_of(doing, what, status, &words(response))
}

/// How a manifest was not taken.
pub(crate) struct Untaken {
    /// Of the kind [`TransferErrorKind::NotFound`] where the registry says that it lacks what the manifest names.
    pub(crate) error: TransferError,
    /// Whether that may be what it lacks: some registries call such a manifest invalid, no more.
    pub(crate) may_lack: bool,
}

/// What an answer means by which a manifest was not taken.
pub(crate) fn untaken(what: &str, response: Response<Body>) -> Untaken {
    let status = response.status();
    let words = words(response);
    let lacks = |code: &String| matches!(code.as_str(), "MANIFEST_BLOB_UNKNOWN" | "BLOB_UNKNOWN");
    if words.codes.iter().any(lacks) {
        let text =
            format!("pushing {what}: the registry does not have all that the manifest names");
        return Untaken {
            error: TransferError::new(TransferErrorKind::NotFound, words.after(&text)),
            may_lack: true,
        };
    }
    let is_other = matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PAYLOAD_TOO_LARGE
    );
    Untaken {
        error: error_of("pushing", what, status, &words),
        may_lack: status.is_client_error() && !is_transient(status) && !is_other,
    }
}

fn error_of(doing: &str, what: &str, status: StatusCode, words: &Words) -> TransferError {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => TransferError::new(
            TransferErrorKind::Denied,
            words.after(&format!(
                "{doing} {what}: the registry denies access ({}); if it needs a login, `dhow login` to it",
                status.as_u16()
            )),
        ),
        StatusCode::NOT_FOUND => TransferError::new(
            TransferErrorKind::NotFound,
            words.after(&format!("{doing} {what}: the registry does not have it")),
        ),
        _ => {
            let kind = match is_transient(status) {
                true => TransferErrorKind::Unreachable,
                false => TransferErrorKind::Other,
            };
            let text = format!("{doing} {what}: the registry answers {status}");
            TransferError::new(kind, words.after(&text))
        }
    }
}

/// Whether the same request may well succeed a little later.
pub(crate) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

fn words(response: Response<Body>) -> Words {
    let mut text = Vec::new();
    let mut body = paced(response).take(LONGEST);
    let entries = match body.read_to_end(&mut text) {
        Ok(_) => {
            serde_json::from_slice::<Errors>(&text).map_or_else(|_| Vec::new(), |all| all.errors)
        }
        Err(_) => Vec::new(),
    };
    let said: Vec<String> = entries
        .iter()
        .take(3)
        .map(|error| match error.message.as_str() {
            "" => error.code.clone(),
            message => format!("{message} ({})", error.code),
        })
        .collect();
    // What comes from outside must not move the cursor or begin a line of its own.
    let line = said.join(", ");
    Words {
        line: line.chars().filter(|c| !c.is_control()).take(500).collect(),
        codes: entries.into_iter().map(|error| error.code).collect(),
    }
}
