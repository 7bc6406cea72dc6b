//! The names in a request's path, checked once: distribution-spec, "Pulling manifests". What has passed is safe as a file name.

use std::fmt;

use dhow_image::{Digest, ImageReference};

/// The longest repository that clients can name together with a registry of ordinary length.
const LONGEST: usize = 245;

/// A repository's name: components of `[a-z0-9]` with separators between, joined by `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RepositoryName(String);

impl RepositoryName {
    /// Reads a name; none where it breaks the grammar.
    pub(crate) fn read(text: &str) -> Option<Self> {
        // The grammar is that of a reference's repository, so a reference decides.
        let reference: ImageReference = format!("localhost/{text}").parse().ok()?;
        let plain = reference.repository() == text && reference.digest().is_none();
        (plain && text.len() <= LONGEST).then(|| Self(text.to_owned()))
    }

    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tag(String);

impl Tag {
    /// Reads a tag; none where it breaks the grammar.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let reference: ImageReference = format!("localhost/name:{text}").parse().ok()?;
        (reference.tag() == Some(text) && reference.digest().is_none())
            .then(|| Self(text.to_owned()))
    }

    /// The tag as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What stands for a manifest in a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ManifestName {
    /// A tag that can move.
    Tag(Tag),
    /// The manifest itself.
    Digest(Digest),
}

impl fmt::Display for ManifestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_their_directory_are_none() {
        for name in ["app", "team/app", "a__b/c--d.e_f/0"] {
            assert_eq!(RepositoryName::read(name).unwrap().as_str(), name);
        }
        for name in [
            "", "/", "..", "a/..", "../a", "a/./b", "a//b", "_blobs", "a/_tags", "A", "a:b", "a@b",
            "a%2fb", ".a", "a\0b",
        ] {
            assert_eq!(RepositoryName::read(name), None, "{name}");
        }
        assert_eq!(RepositoryName::read(&"a".repeat(300)), None);
    }

    #[test]
    fn tags_that_leave_their_directory_are_none() {
        for tag in ["latest", "1.2-rc_3", "_x"] {
            assert_eq!(Tag::read(tag).unwrap().as_str(), tag);
        }
        for tag in ["", ".", "..", "a/b", "-a", "a:b", "a@b", &"t".repeat(129)] {
            assert_eq!(Tag::read(tag), None, "{tag}");
        }
    }
}
