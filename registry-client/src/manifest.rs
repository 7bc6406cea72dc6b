//! Manifests and indexes: fetched, checked against their digest, and read.

use dhow_image::{
    Descriptor, Digest, DocumentKind, Hasher, ImageIndex, ImageReference, Platform, TransferError,
    TransferErrorKind,
};
use oci_spec::image::MediaType;
use serde::Deserialize;
use ureq::http::{HeaderName, Method, header};

use crate::body::document;
use crate::refusal::refused;
use crate::registries::Place;
use crate::repository::{Ask, Repository, text};

/// The largest document that is taken: distribution-spec wants at least 4 MB.
pub(crate) const LARGEST: u64 = 4 << 20;

/// The header by which registries name content.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What we can read, best first.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

/// What a reference stands for in its registry.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Names the manifest or index.
    pub descriptor: Descriptor,
    /// Its bytes, which have been checked against the descriptor.
    pub bytes: Vec<u8>,
    /// How many HTTP requests it took.
    pub requests: u64,
    /// The places that were asked in vain.
    pub(crate) failed: Vec<Place>,
}

impl Resolved {
    /// The image manifest for a platform, as far as it can be told without asking further: what the reference stands for, or what the
    /// index chooses.
    ///
    /// # Errors
    /// When the index has none for the platform.
    pub fn manifest(
        &self,
        platform: &Platform,
        reference: &ImageReference,
    ) -> Result<Descriptor, TransferError> {
        match DocumentKind::of(self.descriptor.media_type()) {
            Some(DocumentKind::Index) => choose(&self.bytes, platform, reference),
            _ => Ok(self.descriptor.clone()),
        }
    }
}

/// The part of a document that says what it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
}

/// Fetches the manifest or index that a tag or digest names.
pub(crate) fn fetch(
    repository: &Repository<'_>,
    reference: &ImageReference,
) -> Result<(Descriptor, Vec<u8>), TransferError> {
    let name = reference.manifest_name();
    let ask = Ask::new(
        Method::GET,
        repository.url(&format!("manifests/{name}")),
        format!("asking for {}", reference.familiar()),
    )
    .header(header::ACCEPT, ACCEPTED);
    let response = repository.send(&ask)?;
    if !response.status().is_success() {
        return Err(refused("asking for", &reference.familiar(), response));
    }
    let said_type = text(&response, header::CONTENT_TYPE).map(str::to_owned);
    let said_digest = text(&response, CONTENT_DIGEST).map(str::to_owned);
    let doing = format!("reading the manifest of {}", reference.familiar());
    let bytes = document(response, &doing)?;
    let digest = match (reference.digest(), said_digest) {
        (Some(digest), _) => digest.clone(),
        (None, Some(said)) => said.parse().map_err(|error| {
            TransferError::caused(
                TransferErrorKind::Corrupt,
                format!(
                    "the registry names the manifest of {} wrongly",
                    reference.familiar()
                ),
                error,
            )
        })?,
        (None, None) => Digest::of(&bytes),
    };
    check(&bytes, &digest, || {
        format!("the manifest of {}", reference.familiar())
    })?;
    let media_type = media_type(&bytes, said_type.as_deref(), reference)?;
    let descriptor = Descriptor::new(media_type, bytes.len() as u64, &digest);
    Ok((descriptor, bytes))
}

/// The digest by which a document of a registry is named.
pub(crate) fn digest_of(descriptor: &Descriptor) -> Result<Digest, TransferError> {
    Digest::of_descriptor(descriptor).map_err(|error| {
        TransferError::caused(TransferErrorKind::Corrupt, "reading a descriptor", error)
    })
}

/// Checks that `bytes` are what `digest` names.
pub(crate) fn check(
    bytes: &[u8],
    digest: &Digest,
    what: impl FnOnce() -> String,
) -> Result<(), TransferError> {
    let mut hasher = Hasher::new(digest.algorithm());
    hasher.update(bytes);
    let actual = hasher.finish();
    if actual == *digest {
        return Ok(());
    }
    Err(corrupt(format!(
        "{} should have the digest {digest}, but what came has {actual}; the registry or something on the way is broken",
        what()
    )))
}

/// Chooses the manifest of an index for a platform; the first that fits, as the specification has it.
pub(crate) fn choose(
    index: &[u8],
    platform: &Platform,
    reference: &ImageReference,
) -> Result<Descriptor, TransferError> {
    let index: ImageIndex = serde_json::from_slice(index).map_err(|error| {
        let message = format!("reading the index of {}", reference.familiar());
        TransferError::caused(TransferErrorKind::Corrupt, message, error)
    })?;
    if let Some(chosen) = platform.choose(index.manifests()) {
        return Ok(chosen.clone());
    }
    let offered = Platform::offered(index.manifests());
    let offered: Vec<String> = offered.iter().map(ToString::to_string).collect();
    Err(TransferError::new(
        TransferErrorKind::NotFound,
        format!(
            "{} is not there for {platform}; it is for {}",
            reference.familiar(),
            match offered.is_empty() {
                true => "no platform".to_owned(),
                false => offered.join(", "),
            }
        ),
    ))
}

/// What the document is: by its own word, which the header may not contradict; else by the header; else by its shape.
pub(crate) fn media_type(
    bytes: &[u8],
    said: Option<&str>,
    reference: &ImageReference,
) -> Result<MediaType, TransferError> {
    let kind: Kind = serde_json::from_slice(bytes).map_err(|error| {
        let message = format!("reading the manifest of {}", reference.familiar());
        TransferError::caused(TransferErrorKind::Corrupt, message, error)
    })?;
    if kind.schema_version == Some(1) {
        let name = reference.familiar();
        return Err(TransferError::new(
            TransferErrorKind::Other,
            format!(
                "{name} is of Docker's first form (schema 1), which dhow does not read; put it into a newer one: `skopeo copy --format v2s2 docker://{name} docker://{name}`"
            ),
        ));
    }
    let said = said.map(|said| said.split(';').next().unwrap_or_default().trim());
    let known = |name: &str| DocumentKind::of(&MediaType::from(name)).is_some();
    let name = match (kind.media_type.as_deref(), said) {
        (Some(own), Some(said)) if own != said && known(said) => {
            return Err(corrupt(format!(
                "the registry says that {} is {said}, but it is {own}",
                reference.familiar()
            )));
        }
        (Some(own), _) => own,
        (None, Some(said)) if known(said) => said,
        _ if kind.manifests.is_some() => "application/vnd.oci.image.index.v1+json",
        _ => "application/vnd.oci.image.manifest.v1+json",
    };
    let media_type = MediaType::from(name);
    match DocumentKind::of(&media_type) {
        Some(_) => Ok(media_type),
        None => Err(TransferError::new(
            TransferErrorKind::Other,
            format!(
                "{} is no image but a {name}, which dhow cannot use",
                reference.familiar()
            ),
        )),
    }
}

fn corrupt(message: String) -> TransferError {
    TransferError::new(TransferErrorKind::Corrupt, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> ImageReference {
        "localhost:5000/app:1".parse().unwrap()
    }

    fn index(entries: &[&str]) -> Vec<u8> {
        let digest = Digest::of(b"");
        let manifests: Vec<String> = entries
            .iter()
            .enumerate()
            .map(|(at, platform)| {
                format!(
                    r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{at}{platform}}}"#
                )
            })
            .collect();
        format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            manifests.join(",")
        )
        .into_bytes()
    }

    #[test]
    fn the_first_manifest_that_fits_is_chosen() {
        let amd = r#","platform":{"os":"linux","architecture":"amd64"}"#;
        let arm = r#","platform":{"os":"linux","architecture":"arm64","variant":"v8"}"#;
        let attestation = r#","platform":{"os":"unknown","architecture":"unknown"}"#;
        let choose = |entries: &[&str], platform: &str| {
            choose(&index(entries), &platform.parse().unwrap(), &reference())
                .map(|chosen| chosen.size())
        };
        assert_eq!(
            choose(&[arm, attestation, amd, amd], "linux/amd64").unwrap(),
            2
        );
        assert_eq!(choose(&[amd, arm], "linux/arm64").unwrap(), 1);
        assert_eq!(choose(&[""], "linux/amd64").unwrap(), 0);
        let error = choose(&[amd, attestation], "linux/s390x").unwrap_err();
        assert!(
            error.to_string().ends_with("it is for linux/amd64"),
            "{error}"
        );
    }

    #[test]
    fn a_document_is_what_it_says_it_is() {
        let of = |text: &str, said| {
            media_type(text.as_bytes(), said, &reference()).map(|kind| kind.to_string())
        };
        let manifest = "application/vnd.oci.image.manifest.v1+json";
        let index = "application/vnd.oci.image.index.v1+json";
        assert_eq!(of("{}", None).unwrap(), manifest);
        assert_eq!(
            of(r#"{"manifests":[]}"#, Some("text/plain")).unwrap(),
            index
        );
        assert_eq!(
            of(
                "{}",
                Some("application/vnd.oci.image.index.v1+json; charset=utf-8")
            )
            .unwrap(),
            index
        );
        let own = format!(r#"{{"mediaType":"{manifest}"}}"#);
        assert!(of(&own, Some(index)).is_err());
        assert!(of(r#"{"mediaType":"text/plain"}"#, None).is_err());
        assert!(of("<html>", None).is_err());
        let old = of(r#"{"schemaVersion":1,"name":"app","fsLayers":[]}"#, None);
        assert!(old.unwrap_err().to_string().contains("skopeo copy"));
    }
}
