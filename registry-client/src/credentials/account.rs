//! What a login is for, and under which names files know it: containers-auth.json(5).

use std::fmt;
use std::str::FromStr;

use dhow_image::{DEFAULT_REGISTRY, ImageReference};

/// Under this name the default registry's password is kept since Docker's first days.
pub(super) const DEFAULT_REGISTRY_KEY: &str = "https://index.docker.io/v1/";

/// A registry, or a part of one, that can be logged in to: `docker.io`, `localhost:5000`, `quay.io/team`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    registry: String,
    namespace: Option<String>,
}

/// A text that names no account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no registry to log in to: {reason}; write HOST[:PORT], or HOST[:PORT]/REPOSITORY for a part of one"
)]
pub struct AccountError {
    text: String,
    reason: String,
}

impl Account {
    /// The registry, as references name it.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The part of the registry; none for the whole.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.registry)?;
        match &self.namespace {
            Some(namespace) => write!(f, "/{namespace}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Account {
    type Err = AccountError;

    /// Takes what `docker login` takes: a name, or an address whose path does not count.
    fn from_str(text: &str) -> Result<Self, AccountError> {
        let (bare, is_address) = without_scheme(text);
        let (registry, path) = bare.split_once('/').unwrap_or((bare, ""));
        let path = path.trim_end_matches('/');
        let namespace = (!is_address && !path.is_empty()).then(|| path.to_owned());
        let registry = canonical(registry).to_owned();
        // The grammar of references decides; a name with a dot or port is needed there, and not here.
        let probe = format!("{}/probe", namespace.as_deref().unwrap_or("a"));
        let probe = match registry.contains(['.', ':', '[']) || registry == "localhost" {
            true => format!("{registry}/{probe}"),
            false => format!("{registry}.local/{probe}"),
        };
        match probe.parse::<ImageReference>() {
            Ok(_) => Ok(Self {
                registry,
                namespace,
            }),
            Err(error) => {
                let error = error.to_string();
                let reason = error.rsplit_once("reference: ").map_or(&*error, |(_, r)| r);
                Err(AccountError {
                    text: text.chars().take(300).collect(),
                    reason: reason.to_owned(),
                })
            }
        }
    }
}

/// Whether an entry's name means this registry as a whole; some tools write a scheme and a path around it.
pub(super) fn means(key: &str, registry: &str) -> bool {
    let (bare, is_address) = without_scheme(key);
    match bare.split_once('/') {
        // A path without a scheme before it is a part of the registry.
        Some((_, path)) if !is_address && !path.is_empty() => false,
        Some((host, _)) => canonical(host) == registry,
        None => canonical(bare) == registry,
    }
}

/// The names under which an entry for the repository can stand, the longest first.
pub(super) fn candidates(registry: &str, repository: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut name = format!("{registry}/{repository}");
    while let Some((shorter, _)) = name.rsplit_once('/') {
        let shorter = shorter.to_owned();
        names.push(std::mem::replace(&mut name, shorter));
    }
    names.push(name);
    names
}

fn without_scheme(text: &str) -> (&str, bool) {
    let address = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    (address.unwrap_or(text), address.is_some())
}

/// The default registry has several names.
fn canonical(host: &str) -> &str {
    match host {
        "" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_as_docker_and_podman_write_them() {
        for (text, registry, namespace) in [
            ("", "docker.io", None),
            ("https://index.docker.io/v1/", "docker.io", None),
            ("registry-1.docker.io", "docker.io", None),
            ("https://example.org/v2/", "example.org", None),
            ("localhost:5000", "localhost:5000", None),
            ("lab", "lab", None),
            ("quay.io/team/app", "quay.io", Some("team/app")),
            ("quay.io/team/", "quay.io", Some("team")),
        ] {
            let account: Account = text.parse().unwrap();
            assert_eq!(
                (account.registry(), account.namespace()),
                (registry, namespace),
                "{text}"
            );
        }
        for text in ["a b", "example.org/Team", "example.org:99999", "-a"] {
            assert!(text.parse::<Account>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_longest_name_comes_first() {
        assert_eq!(candidates("a:1", "b/c"), ["a:1/b/c", "a:1/b", "a:1"]);
        assert!(means("https://a.org/v2/", "a.org") && means("a.org/", "a.org"));
        assert!(!means("a.org/team", "a.org") && !means("https://a.org.b/", "a.org"));
        assert!(means(DEFAULT_REGISTRY_KEY, "docker.io"));
    }
}
