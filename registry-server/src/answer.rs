//! The errors that a registry answers with: distribution-spec, "Error Codes".

use std::fmt::Display;
use std::io;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// An error code of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Unsupported,
    /// What is not the client's fault; the specification has no word for it.
    Unknown,
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Unsupported => "UNSUPPORTED",
            Self::Unknown => "UNKNOWN",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::BlobUnknown
            | Self::BlobUploadUnknown
            | Self::ManifestUnknown
            | Self::NameUnknown => StatusCode::NOT_FOUND,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// A request that is refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    errors: Vec<(Code, String, serde_json::Value)>,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

impl Refusal {
    /// A refusal with one error and that error's status.
    pub(crate) fn new(code: Code, message: impl Display) -> Self {
        Self {
            status: code.status(),
            errors: vec![(code, message.to_string(), serde_json::Value::Null)],
            headers: Vec::new(),
        }
    }

    /// Whether it is the server that could not do its part.
    pub(crate) fn is_internal(&self) -> bool {
        self.status.is_server_error()
    }

    /// The same with another status.
    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with a header; one that HTTP cannot carry is left out.
    pub(crate) fn header(mut self, name: header::HeaderName, value: impl Display) -> Self {
        if let Ok(value) = HeaderValue::try_from(value.to_string()) {
            self.headers.push((name, value));
        }
        self
    }

    /// A refusal with an error for each of `digests`.
    pub(crate) fn of_missing(digests: Vec<String>) -> Self {
        let errors = digests
            .into_iter()
            .map(|digest| {
                let message = format!("the manifest names {digest}, which this repository lacks");
                (
                    Code::ManifestBlobUnknown,
                    message,
                    serde_json::json!({ "digest": digest }),
                )
            })
            .collect();
        Self {
            status: StatusCode::BAD_REQUEST,
            errors,
            headers: Vec::new(),
        }
    }
}

impl From<io::Error> for Refusal {
    /// A file system that does not do its part is the server's error, whatever was asked.
    fn from(error: io::Error) -> Self {
        tracing::error!(%error, "storage");
        Self::new(Code::Unknown, error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let errors: Vec<_> = self
            .errors
            .into_iter()
            .map(|(code, message, detail)| {
                serde_json::json!({ "code": code.name(), "message": message, "detail": detail })
            })
            .collect();
        let body = serde_json::json!({ "errors": errors }).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
