//! What a request asks for: distribution-spec, "Endpoints". A repository's name has slashes in it, so the path is read from its end.

use dhow_image::Digest;

use crate::answer::{Code, Refusal};
use crate::name::{ManifestName, RepositoryName, Tag};

/// An endpoint with its checked arguments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `/v2/`
    Version,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/NAME/blobs/DIGEST`
    Blob(RepositoryName, Digest),
    /// `/v2/NAME/blobs/uploads/`
    Uploads(RepositoryName),
    /// `/v2/NAME/blobs/uploads/ID`
    Upload(RepositoryName, UploadId),
    /// `/v2/NAME/manifests/TAG-OR-DIGEST`
    Manifest(RepositoryName, ManifestName),
    /// `/v2/NAME/tags/list`
    Tags(RepositoryName),
    /// `/v2/NAME/referrers/DIGEST`
    Referrers(RepositoryName, Digest),
}

/// An upload's id: hexadecimal digits and dashes, as we make them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UploadId(String);

impl UploadId {
    /// Reads an id; none where it is not of our making.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let fits = text.len() == 36 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        fits.then(|| Self(text.to_owned()))
    }

    /// A new one in the form of a UUID of version 4.
    pub(crate) fn new() -> std::io::Result<Self> {
        let mut bytes = [0u8; 16];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += rustix::rand::getrandom(
                &mut bytes[filled..],
                rustix::rand::GetRandomFlags::empty(),
            )?;
        }
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let mut text = String::with_capacity(36);
        for (at, byte) in bytes.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push_str(&format!("{byte:02x}"));
        }
        Ok(Self(text))
    }

    /// The id as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Endpoint {
    /// Reads a request's path.
    pub(crate) fn read(path: &str) -> Result<Self, Refusal> {
        let path = decode(path);
        let unknown = || Refusal::new(Code::NameUnknown, format!("there is nothing at {path:?}"));
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Self::Version),
            Some("/_catalog") => return Ok(Self::Catalog),
            Some(rest) => rest.strip_prefix('/').ok_or_else(unknown)?,
            None => return Err(unknown().status(axum::http::StatusCode::NOT_FOUND)),
        };
        if let Some(name) = strip_suffixes(rest, &["/blobs/uploads/", "/blobs/uploads"]) {
            return Ok(Self::Uploads(repository(name)?));
        }
        let (front, last) = rest.rsplit_once('/').ok_or_else(unknown)?;
        if let Some(name) = front.strip_suffix("/blobs/uploads") {
            let id = UploadId::read(last).ok_or_else(|| {
                Refusal::new(Code::BlobUploadUnknown, format!("{last:?} is no upload"))
            })?;
            return Ok(Self::Upload(repository(name)?, id));
        }
        let (name, kind) = front.rsplit_once('/').ok_or_else(unknown)?;
        match (kind, last) {
            ("blobs", _) => Ok(Self::Blob(repository(name)?, digest(last)?)),
            ("manifests", _) => Ok(Self::Manifest(repository(name)?, manifest_name(last)?)),
            ("tags", "list") => Ok(Self::Tags(repository(name)?)),
            ("referrers", _) => Ok(Self::Referrers(repository(name)?, digest(last)?)),
            _ => Err(unknown()),
        }
    }
}

/// Reads a repository's name.
pub(crate) fn repository(text: &str) -> Result<RepositoryName, Refusal> {
    RepositoryName::read(text).ok_or_else(|| {
        Refusal::new(
            Code::NameInvalid,
            format!("{text:?} is not a repository's name"),
        )
    })
}

/// Reads a digest.
pub(crate) fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse()
        .map_err(|error| Refusal::new(Code::DigestInvalid, error))
}

/// Reads a tag.
pub(crate) fn tag(text: &str) -> Result<Tag, Refusal> {
    Tag::read(text)
        .ok_or_else(|| Refusal::new(Code::ManifestUnknown, format!("{text:?} is not a tag")))
}

fn manifest_name(text: &str) -> Result<ManifestName, Refusal> {
    if text.contains(':') {
        digest(text).map(ManifestName::Digest)
    } else {
        tag(text).map(ManifestName::Tag)
    }
}

fn strip_suffixes<'a>(text: &'a str, suffixes: &[&str]) -> Option<&'a str> {
    suffixes.iter().find_map(|suffix| text.strip_suffix(suffix))
}

/// Resolves `%XX`; what is no such thing, or no UTF-8 afterwards, is kept and fails the grammar later.
fn decode(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| path.to_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepositoryName {
        RepositoryName::read(text).unwrap()
    }

    #[test]
    fn paths_are_read_from_their_end() {
        let digest = Digest::of(b"");
        let id = UploadId::new().unwrap();
        for (path, endpoint) in [
            ("/v2".to_owned(), Endpoint::Version),
            ("/v2/".to_owned(), Endpoint::Version),
            ("/v2/_catalog".to_owned(), Endpoint::Catalog),
            (
                "/v2/blobs/tags/list".to_owned(),
                Endpoint::Tags(name("blobs")),
            ),
            (
                "/v2/a/b/blobs/uploads/".to_owned(),
                Endpoint::Uploads(name("a/b")),
            ),
            (
                format!("/v2/a/blobs/uploads/{}", id.as_str()),
                Endpoint::Upload(name("a"), id.clone()),
            ),
            (
                format!("/v2/a/blobs/{digest}"),
                Endpoint::Blob(name("a"), digest.clone()),
            ),
            (
                format!("/v2/a/referrers/{}", digest.to_string().replace(':', "%3A")),
                Endpoint::Referrers(name("a"), digest.clone()),
            ),
            (
                "/v2/a/manifests/1.0".to_owned(),
                Endpoint::Manifest(name("a"), ManifestName::Tag(Tag::read("1.0").unwrap())),
            ),
        ] {
            assert_eq!(Endpoint::read(&path).unwrap(), endpoint, "{path}");
        }
    }

    #[test]
    fn paths_that_name_nothing_or_climb_are_refused() {
        for path in [
            "/",
            "/v1/",
            "/v2x",
            "/v2/a",
            "/v2/a/tags/other",
            "/v2/../a/tags/list",
            "/v2/%2e%2e/a/tags/list",
            "/v2/a/%2e%2e/tags/list",
            "/v2/a/manifests/%2e%2e",
            "/v2/a/manifests/..%2f..",
            "/v2/a/blobs/sha256:../x",
            "/v2/a/blobs/uploads/../../x",
            "/v2/A/tags/list",
            "/v2//tags/list",
        ] {
            assert!(Endpoint::read(path).is_err(), "{path}");
        }
    }
}
