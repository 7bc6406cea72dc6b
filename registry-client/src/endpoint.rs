//! Where a registry's programming interface is.

use std::net::{IpAddr, Ipv6Addr};

use dhow_image::DEFAULT_REGISTRY;

/// The default registry answers under another name than the one in references.
const DEFAULT_REGISTRY_HOST: &str = "registry-1.docker.io";

/// The base of a registry's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The registry as references name it.
    registry: String,
    /// `https://HOST[:PORT]`, without a slash at the end.
    base: String,
}

impl Endpoint {
    /// The endpoint of a registry. Plain HTTP is spoken with loopback addresses and with what `insecure` lists.
    pub(crate) fn of(registry: &str, insecure: &[String]) -> Self {
        let host = match registry {
            DEFAULT_REGISTRY => DEFAULT_REGISTRY_HOST,
            other => other,
        };
        let plain = is_loopback(host) || insecure.iter().any(|known| known == registry);
        let scheme = if plain { "http" } else { "https" };
        Self {
            registry: registry.to_owned(),
            base: format!("{scheme}://{host}"),
        }
    }

    /// The registry as references name it.
    pub(crate) fn registry(&self) -> &str {
        &self.registry
    }

    /// The address of a path that begins with `/`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Whether an address belongs to this registry, so that it may see our credentials.
    pub(crate) fn owns(&self, url: &str) -> bool {
        url.strip_prefix(&self.base)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    }

    /// Whether what is said to the registry can be read on the way.
    pub(crate) fn is_plain(&self) -> bool {
        self.base.starts_with("http://")
    }
}

/// Whether a host, with its port where there is one, is this machine itself.
fn is_loopback(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let address = rest.split(']').next().unwrap_or_default();
        return address
            .parse::<Ipv6Addr>()
            .is_ok_and(|address| address.is_loopback());
    }
    let name = host.split(':').next().unwrap_or_default();
    name == "localhost"
        || name.ends_with(".localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Whether an address is one of this machine itself.
pub(crate) fn is_loopback_url(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    !authority.contains('@') && is_loopback(authority)
}

/// Resolves a `Location` against the address that it was answered to: RFC 3986, section 5, as far as registries use it.
pub(crate) fn resolve(base: &str, location: &str) -> Option<String> {
    if location.starts_with("http://") || location.starts_with("https://") {
        return Some(location.to_owned());
    }
    let authority = base.find("://")? + 3;
    let end = base[authority..]
        .find(['/', '?'])
        .map_or(base.len(), |at| authority + at);
    match location {
        path if path.starts_with("//") => Some(format!("{}{path}", &base[..authority - 2])),
        path if path.starts_with('/') => Some(format!("{}{path}", &base[..end])),
        query if query.starts_with('?') => {
            let path = base.split('?').next()?;
            Some(format!("{path}{query}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_plain_and_the_rest_is_not() {
        for registry in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:5000",
            "registry.localhost:5000",
        ] {
            assert!(Endpoint::of(registry, &[]).is_plain(), "{registry}");
        }
        for registry in [
            "docker.io",
            "127.0.0.1.example.org",
            "10.0.0.1:5000",
            "[fe80::1]",
        ] {
            assert!(!Endpoint::of(registry, &[]).is_plain(), "{registry}");
        }
        assert!(Endpoint::of("lab:5000", &["lab:5000".into()]).is_plain());
    }

    #[test]
    fn credentials_stay_with_their_registry() {
        let endpoint = Endpoint::of("example.org", &[]);
        assert!(endpoint.owns("https://example.org/v2/"));
        for other in [
            "http://example.org/v2/",
            "https://example.org.evil/v2/",
            "https://example.org:444/",
            "https://example.org@evil/",
        ] {
            assert!(!endpoint.owns(other), "{other}");
        }
    }

    #[test]
    fn locations_are_resolved() {
        let base = "http://h:1/v2/a/blobs/uploads/?x=1";
        for (location, url) in [
            ("https://cdn/x", Some("https://cdn/x")),
            ("/v2/y?z=1", Some("http://h:1/v2/y?z=1")),
            ("//other/y", Some("http://other/y")),
            ("?z=1", Some("http://h:1/v2/a/blobs/uploads/?z=1")),
            ("ftp://x", None),
        ] {
            assert_eq!(resolve(base, location).as_deref(), url, "{location}");
        }
    }
}
