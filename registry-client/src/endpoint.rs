//! Where a registry's programming interface is.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dhow_image::DEFAULT_REGISTRY;
use ureq::http::HeaderName;

use crate::registries::Place;
use crate::tls::Trust;

/// The default registry answers under another name than the one in references.
const DEFAULT_REGISTRY_HOST: &str = "registry-1.docker.io";

/// Whether a host is spoken to in plain HTTP. Shared by all that speak to it, since the first answer may teach it.
#[derive(Debug)]
pub(crate) struct Scheme {
    plain: AtomicBool,
    /// Whether the other way may be tried when this one fails: with this machine itself, and where it was asked for.
    open: AtomicBool,
}

/// What is known of hosts.
#[derive(Default)]
pub(crate) struct Schemes(Mutex<HashMap<String, Arc<Scheme>>>);

impl Schemes {
    /// The scheme for a host, as it was learned, or as it begins; `insecure` where no proof is wanted of it.
    fn of(&self, authority: &str, trust: &Trust, insecure: bool) -> Arc<Scheme> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let scheme = known.entry(authority.to_owned()).or_insert_with(|| {
            let local = is_loopback(authority);
            Arc::new(Scheme {
                plain: AtomicBool::new(local && !trust.knows(authority)),
                open: AtomicBool::new(local || insecure || trust.is_insecure(authority)),
            })
        });
        Arc::clone(scheme)
    }
}

/// The base of a registry's addresses.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// The registry as references name it, whose credentials are used.
    registry: String,
    /// `HOST[:PORT]`.
    authority: String,
    /// `/v2`, or what stands in its place.
    path: String,
    /// What is added to each query.
    query: Option<String>,
    /// Headers that go with each request.
    headers: Vec<(HeaderName, String)>,
    is_mirror: bool,
    scheme: Arc<Scheme>,
}

impl Endpoint {
    /// The endpoint of a place. `namespace` is the registry for which a mirror is asked.
    pub(crate) fn at(place: &Place, namespace: &str, schemes: &Schemes, trust: &Trust) -> Self {
        let mut endpoint = Self::begun(&place.registry, schemes, trust, place.insecure);
        endpoint.is_mirror = place.is_mirror;
        if let Some(host) = &place.host {
            endpoint.authority.clone_from(&host.authority);
            endpoint.path.clone_from(&host.path);
            endpoint.headers.clone_from(&host.headers);
            // containerd's mirrors serve many registries, and are told which is meant.
            endpoint.query = place.is_mirror.then(|| format!("ns={namespace}"));
            endpoint.scheme = Arc::new(Scheme {
                plain: AtomicBool::new(host.plain),
                open: AtomicBool::new(false),
            });
        }
        endpoint
    }

    /// The endpoint of a registry. Plain HTTP is spoken with loopback addresses and, where TLS fails, with what was named as insecure.
    pub(crate) fn of(registry: &str, schemes: &Schemes, trust: &Trust) -> Self {
        Self::begun(registry, schemes, trust, false)
    }

    fn begun(registry: &str, schemes: &Schemes, trust: &Trust, insecure: bool) -> Self {
        let authority = match registry {
            DEFAULT_REGISTRY => DEFAULT_REGISTRY_HOST,
            other => other,
        };
        Self {
            registry: registry.to_owned(),
            authority: authority.to_owned(),
            path: "/v2".to_owned(),
            query: None,
            headers: Vec::new(),
            is_mirror: false,
            scheme: schemes.of(authority, trust, insecure),
        }
    }

    /// The registry as references name it.
    pub(crate) fn registry(&self) -> &str {
        &self.registry
    }

    /// The host and its port.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Headers that go with each request to it.
    pub(crate) fn headers(&self) -> &[(HeaderName, String)] {
        &self.headers
    }

    /// Whether it stands in for another registry.
    pub(crate) fn is_mirror(&self) -> bool {
        self.is_mirror
    }

    fn base(&self) -> String {
        let scheme = if self.is_plain() { "http" } else { "https" };
        format!("{scheme}://{}", self.authority)
    }

    /// The address of a path below the version's: `NAME/manifests/latest`.
    pub(crate) fn url(&self, path: &str) -> String {
        let url = format!("{}{}/{path}", self.base(), self.path);
        match &self.query {
            Some(query) => {
                let separator = if url.contains('?') { '&' } else { '?' };
                format!("{url}{separator}{query}")
            }
            None => url,
        }
    }

    /// Whether an address belongs to this registry, so that it may see our credentials.
    pub(crate) fn owns(&self, url: &str) -> bool {
        url.strip_prefix(&self.base())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    }

    /// Whether what is said to the registry can be read on the way.
    pub(crate) fn is_plain(&self) -> bool {
        self.scheme.plain.load(Ordering::Relaxed)
    }

    /// Whether the host has answered in this way, so that the other is not tried any more.
    pub(crate) fn settle(&self) {
        self.scheme.open.store(false, Ordering::Relaxed);
    }

    /// Whether the other scheme may be tried.
    pub(crate) fn is_open(&self) -> bool {
        self.scheme.open.load(Ordering::Relaxed)
    }

    /// Speaks the other scheme from now on; the address that this one has then.
    pub(crate) fn turn(&self, url: &str) -> String {
        let rest = url.strip_prefix(&self.base()).unwrap_or("/").to_owned();
        self.scheme.plain.fetch_xor(true, Ordering::Relaxed);
        self.settle();
        format!("{}{rest}", self.base())
    }

    /// Whether a host, other than this one, may be told over plain HTTP what this one is told.
    pub(crate) fn vouches_for(&self, url: &str, trust: &Trust) -> bool {
        let Some(authority) = authority_of(url) else {
            return false;
        };
        let here = is_loopback(&self.authority) && is_loopback(authority);
        self.is_plain() && (self.authority == authority || trust.is_insecure(authority)) || here
    }
}

/// The host and port of an address; none where there is a password before it.
pub(crate) fn authority_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    (!authority.contains('@')).then_some(authority)
}

/// Whether a host, with its port where there is one, is this machine itself.
pub(crate) fn is_loopback(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let address = rest.split(']').next().unwrap_or_default();
        return address
            .parse::<Ipv6Addr>()
            .is_ok_and(|address| address.is_loopback());
    }
    let name = host.split(':').next().unwrap_or_default();
    let lower = name.to_ascii_lowercase();
    lower == "localhost"
        || lower.ends_with(".localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Whether an address is one of this machine itself.
pub(crate) fn is_loopback_url(url: &str) -> bool {
    authority_of(url).is_some_and(is_loopback)
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

    fn endpoint(registry: &str) -> Endpoint {
        Endpoint::of(registry, &Schemes::default(), &Trust::default())
    }

    #[test]
    fn loopback_is_plain_and_the_rest_is_not() {
        for registry in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:5000",
            "registry.localhost:5000",
            "LocalHost:5000",
        ] {
            assert!(endpoint(registry).is_plain(), "{registry}");
        }
        for registry in [
            "docker.io",
            "127.0.0.1.example.org",
            "10.0.0.1:5000",
            "[fe80::1]",
        ] {
            assert!(!endpoint(registry).is_plain(), "{registry}");
        }
        // Where it was asked for, TLS is tried first.
        let trust = Trust {
            insecure: vec!["lab:5000".into()],
            ..Trust::default()
        };
        let lab = Endpoint::of("lab:5000", &Schemes::default(), &trust);
        assert!(!lab.is_plain() && lab.is_open() && !endpoint("docker.io").is_open());
        assert_eq!(lab.turn("https://lab:5000/v2/x"), "http://lab:5000/v2/x");
        assert!(lab.is_plain() && !lab.is_open());
    }

    #[test]
    fn credentials_stay_with_their_registry() {
        let endpoint = endpoint("example.org");
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
