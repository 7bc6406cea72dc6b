//! containerd's `hosts.toml`: docs/hosts.md of containerd.

use std::path::{Path, PathBuf};

use dhow_image::{DEFAULT_REGISTRY, ImageReference, TransferError, TransferErrorKind};
use toml::{Table, Value};
use ureq::http::HeaderName;

use super::{Host, Place, unreadable};
use crate::endpoint::is_loopback;
use crate::repository::Access;
use crate::tls::TlsProfile;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What a file says: hosts in the order in which they are asked, the registry itself at the end.
#[derive(Debug)]
pub(super) struct Hosts(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    host: Host,
    /// Whether it can be asked what a tag stands for, read, and written to.
    resolve: bool,
    pull: bool,
    push: bool,
    is_mirror: bool,
}

impl Hosts {
    pub(super) fn read(path: &Path, registry: &str) -> Result<Self, TransferError> {
        let text = fs_err::read_to_string(path).map_err(|error| unreadable(path, error))?;
        Self::of_text(&text, path, registry)
    }

    pub(super) fn of_text(text: &str, path: &Path, registry: &str) -> Result<Self, TransferError> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        Self::parse(text, dir, registry).map_err(|error| unreadable(path, error))
    }

    fn parse(text: &str, dir: &Path, registry: &str) -> Result<Self, Error> {
        let document: Table = toml::from_str(text)?;
        let mut entries = Vec::new();
        if let Some(hosts) = document.get("host") {
            let hosts = hosts.as_table().ok_or("[host] is no table")?;
            for (address, settings) in hosts {
                let settings = settings
                    .as_table()
                    .ok_or_else(|| format!("[host.{address:?}] is no table"))?;
                let entry = Entry::read(address, settings, dir);
                entries.push(entry.map_err(|error| format!("[host.{address:?}]: {error}"))?);
            }
        }
        let own = match registry {
            DEFAULT_REGISTRY => "registry-1.docker.io",
            other => other,
        };
        let server = match document.get("server") {
            Some(server) => server.as_str().ok_or("server is no text")?,
            None => own,
        };
        let mut server = Entry::read(server, &document, dir)?;
        server.is_mirror = server.host.authority != own;
        entries.push(server);
        Ok(Self(entries))
    }

    pub(super) fn places(
        self,
        reference: &ImageReference,
        access: Access,
        resolved: bool,
    ) -> Result<Vec<Place>, TransferError> {
        let content = resolved || reference.digest().is_some();
        let fits = |entry: &Entry| match access {
            // What a tag stands for is asked of who can tell; content by its digest of all.
            Access::Pull => entry.pull && (entry.resolve || content),
            Access::Push => entry.push,
        };
        let mut fitting: Vec<Entry> = self.0.into_iter().filter(fits).collect();
        if matches!(access, Access::Push) {
            fitting.truncate(1);
        }
        if fitting.is_empty() {
            return Err(TransferError::new(
                TransferErrorKind::Denied,
                format!(
                    "hosts.toml names no host that {} may be {}",
                    reference.familiar(),
                    match access {
                        Access::Pull => "pulled from",
                        Access::Push => "pushed to",
                    }
                ),
            ));
        }
        let places = fitting.into_iter().map(|entry| Place {
            // The registry's own credentials are not for who stands in for it.
            registry: match entry.is_mirror {
                true => entry.host.authority.clone(),
                false => reference.registry().to_owned(),
            },
            repository: reference.repository().to_owned(),
            insecure: entry.host.profile.as_ref().is_some_and(|p| p.unverified),
            host: Some(entry.host),
            is_mirror: entry.is_mirror,
        });
        Ok(places.collect())
    }
}

impl Entry {
    fn read(address: &str, settings: &Table, dir: &Path) -> Result<Self, Error> {
        let (scheme, rest) = match address.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, address),
        };
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{}", path.trim_end_matches('/'))),
            None => (rest, String::new()),
        };
        if authority.is_empty() || authority.contains('@') {
            return Err(format!("{address:?} is no address of a registry").into());
        }
        let plain = match scheme {
            Some("http") => true,
            Some("https") => false,
            None => is_loopback(authority),
            Some(other) => return Err(format!("the scheme {other:?} is not understood").into()),
        };
        let overrides = flag(settings, "override_path")?;
        let path = match path.trim_end_matches('/') {
            path if overrides || path.ends_with("/v2") => path.to_owned(),
            path => format!("{path}/v2"),
        };
        let capabilities = match settings.get("capabilities") {
            Some(all) => texts(all).ok_or("capabilities is no list of words")?,
            None => ["pull", "resolve", "push"].map(str::to_owned).to_vec(),
        };
        let can = |word: &str| capabilities.iter().any(|known| known == word);
        Ok(Self {
            resolve: can("resolve"),
            pull: can("pull"),
            push: can("push"),
            is_mirror: true,
            host: Host {
                plain,
                authority: authority.to_owned(),
                path,
                headers: headers(settings)?,
                profile: profile(settings, dir)?,
            },
        })
    }
}

fn flag(settings: &Table, name: &str) -> Result<bool, Error> {
    match settings.get(name) {
        None => Ok(false),
        Some(value) => Ok(value
            .as_bool()
            .ok_or_else(|| format!("{name} is neither true nor false"))?),
    }
}

/// One text or a list of them.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(all) => all.iter().map(|v| v.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

fn profile(settings: &Table, dir: &Path) -> Result<Option<TlsProfile>, Error> {
    let mut profile = TlsProfile {
        unverified: flag(settings, "skip_verify")?,
        ..TlsProfile::default()
    };
    if let Some(authorities) = settings.get("ca") {
        let names = texts(authorities).ok_or("ca is no name of a file")?;
        profile.authorities = names.iter().map(|name| dir.join(name)).collect();
    }
    if let Some(client) = settings.get("client") {
        profile.client = Some(pair(client, dir).ok_or("client names no certificate")?);
    }
    Ok((profile != TlsProfile::default()).then_some(profile))
}

/// The certificate and its key: `"file"` with both, or the first of `["file", ...]` and `[["certificate", "key"], ...]`.
fn pair(client: &Value, dir: &Path) -> Option<(PathBuf, PathBuf)> {
    let first = match client {
        Value::Array(all) => all.first()?,
        one => one,
    };
    match first {
        Value::Array(two) => {
            let name = |at: usize| two.get(at)?.as_str().map(|name| dir.join(name));
            let certificate = name(0)?;
            Some((
                certificate.clone(),
                name(1).filter(|key| key != dir).unwrap_or(certificate),
            ))
        }
        one => one.as_str().map(|name| (dir.join(name), dir.join(name))),
    }
}

fn headers(settings: &Table) -> Result<Vec<(HeaderName, String)>, Error> {
    let Some(table) = settings.get("header") else {
        return Ok(Vec::new());
    };
    let mut headers = Vec::new();
    for (name, values) in table.as_table().ok_or("header is no table")? {
        let name: HeaderName = name.parse()?;
        let values = texts(values).ok_or_else(|| format!("the header {name} has no text"))?;
        headers.extend(values.into_iter().map(|value| (name.clone(), value)));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        server = "https://registry-1.docker.io"
        [host."https://mirror.local:5000"]
        capabilities = ["pull", "resolve"]
        ca = "ca.crt"
        client = [["client.cert", "client.key"]]
        [host."https://mirror.local:5000".header]
        x-custom = ["a", "b"]
        [host."http://content.local/cache/v2"]
        capabilities = ["pull"]
        override_path = true
        [host."push.local"]
        capabilities = ["push"]
        skip_verify = true
    "#;

    #[test]
    fn hosts_are_asked_in_their_order_for_what_they_can() {
        let read = |name: &str, access| {
            let hosts = Hosts::parse(TEXT, Path::new("/d"), "docker.io").unwrap();
            hosts.places(&name.parse().unwrap(), access, false).unwrap()
        };
        let places = read("busybox", Access::Pull);
        let names: Vec<&str> = places.iter().map(|place| place.registry.as_str()).collect();
        assert_eq!(names, ["mirror.local:5000", "docker.io"]);
        let host = places[0].host.as_ref().unwrap();
        assert_eq!((host.plain, host.path.as_str()), (false, "/v2"));
        assert_eq!(host.headers.len(), 2);
        let profile = host.profile.as_ref().unwrap();
        assert_eq!(profile.authorities, [PathBuf::from("/d/ca.crt")]);
        assert_eq!(
            profile.client,
            Some(("/d/client.cert".into(), "/d/client.key".into()))
        );
        let digest = dhow_image::Digest::of(b"");
        let places = read(&format!("busybox@{digest}"), Access::Pull);
        let host = places[1].host.as_ref().unwrap();
        assert_eq!((host.plain, host.path.as_str()), (true, "/cache/v2"));
        let places = read("busybox", Access::Push);
        assert_eq!(
            (places.len(), places[0].registry.as_str()),
            (1, "push.local")
        );
        assert!(places[0].insecure);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, word) in [
            ("[host.\"ftp://x\"]", "ftp"),
            ("[host.\"https://x\"]\nskip_verify = 1", "skip_verify"),
            ("server = 1", "server"),
            ("[host.\"https://a@x\"]", "address"),
        ] {
            let error = Hosts::parse(text, Path::new("/"), "x")
                .unwrap_err()
                .to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
