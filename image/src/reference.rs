//! Image references as Docker users write them: the grammar of distribution's reference package.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The registry that a name without one means.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// The namespace of names of one word in the default registry.
const OFFICIAL: &str = "library";

/// A name's longest form, registry included.
const NAME_LENGTH: usize = 255;

/// The name of an image: registry, repository, and a tag or a digest or both.
///
/// What was left out is filled in: `busybox` is `docker.io/library/busybox:latest`. A name with a digest gets no tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that is no image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image reference: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: String,
}

impl ImageReference {
    /// The registry's host and, where it was given, port: `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry: `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that was given with the name.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The name without tag and digest, as people write it: `busybox`, `localhost:5000/team/app`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return format!("{}/{}", self.registry, self.repository);
        }
        match self.repository.split_once('/') {
            Some((OFFICIAL, rest)) if !rest.contains('/') => rest.to_owned(),
            // Without its registry, such a name would lead to another one.
            Some((first, _)) if is_registry(first) => {
                format!("{DEFAULT_REGISTRY}/{}", self.repository)
            }
            _ => self.repository.clone(),
        }
    }

    /// The whole reference as people write it: `busybox:latest`.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// The same name with `digest` and no tag.
    #[must_use]
    pub fn at_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The last part of the path by which the distribution protocol names the manifest: the digest, or the tag.
    pub fn manifest_name(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name = format!("{name}:{tag}");
        }
        if let Some(digest) = &self.digest {
            name = format!("{name}@{digest}");
        }
        name
    }
}

impl fmt::Display for ImageReference {
    /// The full form, which reads back as the same reference.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(format!("{}/{}", self.registry, self.repository)))
    }
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let fail = |reason: &str| ReferenceError {
            text: text.chars().take(300).collect(),
            reason: reason.to_owned(),
        };
        if let Some((scheme, rest)) = text.split_once("://")
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        {
            return Err(fail(&format!(
                "it begins with \"{scheme}://\"; write {} alone",
                rest.chars().take(100).collect::<String>()
            )));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse::<Digest>().map_err(|e| fail(&e.to_string()))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        // A colon after the last slash begins a tag; one before it belongs to the registry's port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag {
            check_tag(tag).map_err(&fail)?;
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if is_registry(first) => (first, path),
            _ => (DEFAULT_REGISTRY, name),
        };
        check_registry(registry).map_err(&fail)?;
        check_path(path).map_err(&fail)?;
        let registry = match registry {
            "index.docker.io" => DEFAULT_REGISTRY,
            other => other,
        };
        if name == path && name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(fail("64 hexadecimal digits are an id, and no name"));
        }
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("{OFFICIAL}/{path}")
        } else {
            path.to_owned()
        };
        if registry.len() + 1 + repository.len() > NAME_LENGTH {
            return Err(fail("the name is longer than 255 characters"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
        })
    }
}

/// The first part of a name is a registry when nobody could mean a namespace by it.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':'])
        || first == "localhost"
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_registry(registry: &str) -> Result<(), &'static str> {
    const BAD: &str = "the registry before the first '/' is not a host name with an optional port";
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or(BAD)?;
            if address.is_empty() || !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                return Err(BAD);
            }
            return match rest.strip_prefix(':') {
                Some(port) if is_port(port) => Ok(()),
                None if rest.is_empty() => Ok(()),
                _ => Err(BAD),
            };
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if host.split('.').all(label) && port.is_none_or(is_port) {
        Ok(())
    } else {
        Err(BAD)
    }
}

fn is_port(port: &str) -> bool {
    port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit())
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("the repository is missing");
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("a repository is written in lower case");
    }
    if path.split('/').all(is_path_component) {
        Ok(())
    } else {
        Err(
            "a repository is made of the characters a-z and 0-9, with '.', '_', '__' or '-' only between them, and '/'",
        )
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    word(first)
        && word(last)
        && component
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|separator| {
                matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
            })
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = tag.as_bytes();
    if bytes.is_empty() {
        return Err("the tag after ':' is missing");
    }
    if bytes.len() > 128 {
        return Err("the tag is longer than 128 characters");
    }
    if word(bytes[0]) && bytes.iter().all(|&b| word(b) || b == b'.' || b == b'-') {
        Ok(())
    } else {
        Err(
            "a tag is made of letters, digits, '_', '.' and '-', and starts with neither '.' nor '-'",
        )
    }
}

impl TryFrom<String> for ImageReference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<ImageReference> for String {
    fn from(reference: ImageReference) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> ImageReference {
        text.parse().unwrap()
    }

    #[test]
    fn short_names_are_filled_in() {
        for (text, full, familiar) in [
            (
                "busybox",
                "docker.io/library/busybox:latest",
                "busybox:latest",
            ),
            (
                "busybox:1.36",
                "docker.io/library/busybox:1.36",
                "busybox:1.36",
            ),
            ("team/app", "docker.io/team/app:latest", "team/app:latest"),
            (
                "localhost/app",
                "localhost/app:latest",
                "localhost/app:latest",
            ),
            (
                "localhost:5000/team/app:1.2",
                "localhost:5000/team/app:1.2",
                "localhost:5000/team/app:1.2",
            ),
            (
                "[::1]:5000/app",
                "[::1]:5000/app:latest",
                "[::1]:5000/app:latest",
            ),
            (
                "docker.io/example.org/app",
                "docker.io/example.org/app:latest",
                "docker.io/example.org/app:latest",
            ),
            (
                "docker.io/busybox",
                "docker.io/library/busybox:latest",
                "busybox:latest",
            ),
            (
                "a__b/c--d.e_f",
                "docker.io/a__b/c--d.e_f:latest",
                "a__b/c--d.e_f:latest",
            ),
        ] {
            assert_eq!(read(text).to_string(), full);
            assert_eq!(read(text).familiar(), familiar);
            assert_eq!(read(full), read(text));
        }
    }

    #[test]
    fn a_digest_takes_the_place_of_the_default_tag() {
        let digest = Digest::of(b"");
        let reference = read(&format!("app@{digest}"));
        assert_eq!((reference.tag(), reference.digest()), (None, Some(&digest)));
        assert_eq!(reference.manifest_name(), digest.to_string());
        let both = read(&format!("app:1@{digest}"));
        assert_eq!((both.tag(), both.digest()), (Some("1"), Some(&digest)));
    }

    #[test]
    fn what_is_no_reference_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "repository is missing"),
            ("Busybox", "lower case"),
            ("app:", "tag after ':' is missing"),
            ("app:.1", "a tag is made of"),
            ("app:a b", "a tag is made of"),
            ("a//b", "a repository is made of"),
            ("../etc", "host name"),
            ("a/../etc", "a repository is made of"),
            ("-app", "a repository is made of"),
            ("a___b", "a repository is made of"),
            ("localhost:99999/app", "host name"),
            ("app@sha256:12", "not a digest"),
            (&"a".repeat(300), "longer than 255"),
            (&"a".repeat(64), "an id, and no name"),
            ("docker://app:1", "write app:1 alone"),
            ("https://example.org/app", "write example.org/app alone"),
        ] {
            let error = text.parse::<ImageReference>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_and_read_again(text in "[a-z0-9./:@_\\-A-Z]{0,40}") {
            if let Ok(reference) = text.parse::<ImageReference>() {
                prop_assert_eq!(reference.to_string().parse::<ImageReference>().unwrap(), reference);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}") {
            let _ = text.parse::<ImageReference>();
        }
    }
}
