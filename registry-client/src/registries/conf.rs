//! containers-registries.conf(5), version 2.

use std::collections::BTreeMap;
use std::path::Path;

use dhow_image::{ImageReference, TransferError, TransferErrorKind};
use serde::Deserialize;

use super::{Place, unreadable};
use crate::repository::Access;

/// What the files say together.
#[derive(Clone, Debug, Default)]
pub(super) struct Conf {
    /// Registries in which names without one are looked for; none where no file says anything.
    pub(super) search: Option<Vec<String>>,
    /// Short names and what they mean.
    pub(super) aliases: BTreeMap<String, String>,
    registries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    unqualified_search_registries: Option<Vec<String>>,
    #[serde(default)]
    registry: Vec<Entry>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    /// The table of version 1.
    registries: Option<serde::de::IgnoredAny>,
}

/// What is said of the references that begin with a prefix.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Entry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<Mirror>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: For,
}

/// What a mirror is asked for.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum For {
    #[default]
    All,
    DigestOnly,
    TagOnly,
}

impl Conf {
    pub(super) fn read(path: &Path) -> Result<Self, TransferError> {
        let text = fs_err::read_to_string(path).map_err(|error| unreadable(path, error))?;
        Self::of_text(&text, path)
    }

    pub(super) fn of_text(text: &str, path: &Path) -> Result<Self, TransferError> {
        Self::parse(text).map_err(|error| unreadable(path, error))
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let document: Document = toml::from_str(text)?;
        if document.registries.is_some() {
            return Err("it is of version 1, which is not understood; write [[registry]] tables (containers-registries.conf(5))".into());
        }
        let mut registries = document.registry;
        for entry in &mut registries {
            if entry.prefix.is_empty() {
                entry.prefix.clone_from(&entry.location);
            }
            if entry.prefix.is_empty() {
                return Err("a [[registry]] has neither prefix nor location".into());
            }
            if entry.location.is_empty() && !entry.prefix.starts_with("*.") {
                entry.location.clone_from(&entry.prefix);
            }
        }
        Ok(Self {
            search: document.unqualified_search_registries,
            aliases: document.aliases,
            registries,
        })
    }

    /// Takes in what a later file says.
    pub(super) fn merge(&mut self, later: Self) {
        // An empty list is a word, too: it takes back what an earlier file said.
        self.search = later.search.or(self.search.take());
        self.aliases.extend(later.aliases);
        for entry in later.registries {
            self.registries.retain(|known| known.prefix != entry.prefix);
            self.registries.push(entry);
        }
    }

    /// What is said of a reference: by the longest prefix.
    pub(super) fn entry(&self, reference: &ImageReference) -> Option<&Entry> {
        let fitting = self
            .registries
            .iter()
            .filter(|entry| entry.rest(reference).is_some());
        fitting.max_by_key(|entry| entry.prefix.len())
    }
}

impl Entry {
    /// What follows the prefix in a reference's name; none where it has another beginning.
    fn rest(&self, reference: &ImageReference) -> Option<String> {
        let name = format!("{}/{}", reference.registry(), reference.repository());
        if let Some(domain) = self.prefix.strip_prefix('*') {
            let host = reference.registry().split(':').next()?;
            return host
                .ends_with(domain)
                .then(|| format!("/{}", reference.repository()));
        }
        let rest = name.strip_prefix(&self.prefix)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
    }

    pub(super) fn places(
        &self,
        reference: &ImageReference,
        access: Access,
    ) -> Result<Vec<Place>, TransferError> {
        if self.blocked {
            return Err(TransferError::new(
                TransferErrorKind::Denied,
                format!(
                    "{} is blocked in registries.conf (prefix {})",
                    reference.familiar(),
                    self.prefix
                ),
            ));
        }
        let mut places = Vec::new();
        if matches!(access, Access::Pull) {
            for mirror in self
                .mirror
                .iter()
                .filter(|mirror| self.asks(mirror, reference))
            {
                places.push(self.place(reference, &mirror.location, mirror.insecure, true)?);
            }
        }
        places.push(self.place(reference, &self.location, self.insecure, false)?);
        Ok(places)
    }

    fn asks(&self, mirror: &Mirror, reference: &ImageReference) -> bool {
        match mirror.pull_from_mirror {
            For::All => !self.mirror_by_digest_only || reference.digest().is_some(),
            For::DigestOnly => reference.digest().is_some(),
            For::TagOnly => reference.digest().is_none(),
        }
    }

    fn place(
        &self,
        reference: &ImageReference,
        location: &str,
        insecure: bool,
        is_mirror: bool,
    ) -> Result<Place, TransferError> {
        let rest = self.rest(reference).unwrap_or_default();
        let name = match location {
            // Without a location a pattern of hosts changes nothing.
            "" => format!("{}/{}", reference.registry(), reference.repository()),
            location => format!("{location}{rest}"),
        };
        // The first word is a host, whatever it looks like.
        let (registry, repository) = name.split_once('/').unwrap_or((&name, ""));
        let probe = match registry.contains(['.', ':']) || registry == "localhost" {
            true => name.clone(),
            false => format!("{registry}.local/{repository}"),
        };
        let checked: Result<ImageReference, _> = probe.parse();
        match checked {
            // `docker.io/name` is `docker.io/library/name` there, too.
            Ok(checked) => Ok(Place {
                registry: registry.to_owned(),
                repository: checked.repository().to_owned(),
                insecure,
                host: None,
                is_mirror,
            }),
            Err(error) => Err(TransferError::caused(
                TransferErrorKind::Other,
                format!("registries.conf leads {} to {name:?}", reference.familiar()),
                error,
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        unqualified-search-registries = ["a.org", "b.org"]
        [[registry]]
        location = "example.com"
        insecure = true
        [[registry]]
        prefix = "example.com/foo"
        location = "internal:5000/bar"
        [[registry.mirror]]
        location = "mirror.local/foo"
        [[registry.mirror]]
        location = "digests.local/foo"
        pull-from-mirror = "digest-only"
        [[registry]]
        prefix = "*.evil.org"
        blocked = true
        [[registry]]
        prefix = "docker.io"
        location = "hub.local:5000/cache"
        [aliases]
        "tool" = "quay.io/team/tool"
    "#;

    fn places(name: &str, access: Access) -> Result<Vec<String>, String> {
        let conf = Conf::parse(TEXT).unwrap();
        let reference: ImageReference = name.parse().unwrap();
        let Some(entry) = conf.entry(&reference) else {
            return Ok(Vec::new());
        };
        let places = entry
            .places(&reference, access)
            .map_err(|e| e.to_string())?;
        Ok(places
            .iter()
            .map(|p| format!("{}/{}", p.registry, p.repository))
            .collect())
    }

    #[test]
    fn the_longest_prefix_decides() {
        let pull = |name| places(name, Access::Pull).unwrap();
        assert_eq!(
            pull("example.com/foo/app"),
            ["mirror.local/foo/app", "internal:5000/bar/app"]
        );
        assert_eq!(pull("example.com/foobar"), ["example.com/foobar"]);
        assert_eq!(pull("busybox"), ["hub.local:5000/cache/library/busybox"]);
        assert_eq!(pull("quay.io/x"), [""; 0]);
        let digest = dhow_image::Digest::of(b"");
        assert_eq!(pull(&format!("example.com/foo/app@{digest}")).len(), 3);
        assert_eq!(
            places("example.com/foo/app", Access::Push).unwrap(),
            ["internal:5000/bar/app"]
        );
        assert!(
            places("x.evil.org/a", Access::Pull)
                .unwrap_err()
                .contains("blocked")
        );
    }

    #[test]
    fn later_files_replace_what_they_name() {
        let mut conf = Conf::parse(TEXT).unwrap();
        conf.merge(Conf::parse("[[registry]]\nprefix = \"example.com/foo\"\nlocation = \"new.org\"\n[aliases]\ntool = \"x.org/tool\"").unwrap());
        assert_eq!(conf.search.as_deref().unwrap(), ["a.org", "b.org"]);
        assert_eq!(conf.aliases["tool"], "x.org/tool");
        let entry = conf.entry(&"example.com/foo/app".parse().unwrap()).unwrap();
        assert_eq!(entry.location, "new.org");
        conf.merge(Conf::parse("unqualified-search-registries = []").unwrap());
        assert_eq!(conf.search.as_deref().unwrap(), [""; 0]);
        assert!(Conf::parse("[registries.search]\nregistries = []").is_err());
        assert!(Conf::parse("[[registry]]\ninsecure = true").is_err());
    }
}
