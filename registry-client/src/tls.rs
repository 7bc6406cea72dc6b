//! Whom we trust, and as whom we are trusted, by host: the directories `certs.d/HOST[:PORT]` of Docker, containers and containerd.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use dhow_image::{TransferError, TransferErrorKind};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::given::GivenTls;
use crate::roots;

/// Where certificates for single hosts are kept.
const DIRECTORIES: [&str; 3] = [
    "/etc/containers/certs.d",
    "/etc/docker/certs.d",
    "/etc/containerd/certs.d",
];

/// What is particular about TLS with a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct TlsProfile {
    /// Files of authorities that are trusted beside the system's.
    pub(crate) authorities: Vec<PathBuf>,
    /// Our certificate and its key, which may stand in one file.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
    /// Whether anybody is believed to be the host.
    pub(crate) unverified: bool,
}

/// How it is found out whom to trust.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Directories in each of which `HOST[:PORT]/` may hold `*.crt` (authorities) and `*.cert` with `*.key` (ours). The first that has
    /// the host counts.
    pub directories: Vec<PathBuf>,
    /// A directory of such files for every host, in the place of those.
    pub directory: Option<PathBuf>,
    /// Registries (`host:port` as in references) that may have any certificate, or speak without TLS.
    pub insecure: Vec<String>,
    /// Whether all may.
    pub all_insecure: bool,
}

impl Default for Trust {
    fn default() -> Self {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
        let home = home.map(|home| PathBuf::from(home).join(".config/containers/certs.d"));
        Self {
            directories: home
                .into_iter()
                .chain(DIRECTORIES.iter().map(PathBuf::from))
                .collect(),
            directory: None,
            insecure: Vec::new(),
            all_insecure: false,
        }
    }
}

impl Trust {
    /// Whether a host may have any certificate, or none.
    pub(crate) fn is_insecure(&self, authority: &str) -> bool {
        self.all_insecure || self.insecure.iter().any(|known| known == authority)
    }

    /// Whether there are certificates for a host, so that it surely speaks TLS.
    pub(crate) fn knows(&self, authority: &str) -> bool {
        self.directory_of(authority).is_some_and(|dir| {
            read_directory(&dir).is_ok_and(|found| found != TlsProfile::default())
        })
    }

    fn directory_of(&self, authority: &str) -> Option<PathBuf> {
        self.directory.clone().or_else(|| {
            let mut all = self.directories.iter().map(|dir| dir.join(authority));
            all.find(|dir| dir.is_dir())
        })
    }

    /// What is particular about a host.
    pub(crate) fn profile(&self, authority: &str) -> Result<TlsProfile, TransferError> {
        let mut profile = match self.directory_of(authority) {
            Some(dir) => read_directory(&dir).map_err(|error| unusable(&dir, error))?,
            None => TlsProfile::default(),
        };
        profile.unverified = self.is_insecure(authority);
        Ok(profile)
    }
}

/// Reads the names of what is in a host's directory.
fn read_directory(dir: &Path) -> io::Result<TlsProfile> {
    let mut profile = TlsProfile::default();
    let mut paths = Vec::new();
    for entry in fs_err::read_dir(dir)? {
        paths.push(entry?.path());
    }
    paths.sort_unstable();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => profile.authorities.push(path),
            Some("cert") => {
                let key = path.with_extension("key");
                if !key.exists() {
                    return Err(io::Error::new(
                        io::ErrorKind::NotFound,
                        format!(
                            "the key {} of the certificate {} is missing; the certificate of an authority is named *.crt",
                            key.display(),
                            path.display()
                        ),
                    ));
                }
                profile.client.get_or_insert((path, key));
            }
            _ => {}
        }
    }
    Ok(profile)
}

fn unusable(
    path: &Path,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> TransferError {
    let message = format!("reading the certificates in {}", path.display());
    TransferError::caused(TransferErrorKind::Denied, message, error)
}

/// TLS configurations, each made when it is needed, since reading the authorities takes a while.
#[derive(Default)]
pub(crate) struct TlsConfigs {
    system: OnceLock<RootCerts>,
    made: Mutex<HashMap<TlsProfile, TlsConfig>>,
}

impl TlsConfigs {
    pub(crate) fn of(&self, profile: &TlsProfile) -> Result<TlsConfig, TransferError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = made.get(profile) {
            return Ok(config.clone());
        }
        let config = TlsConfig::builder()
            .root_certs(self.roots(&profile.authorities)?)
            .client_cert(
                profile
                    .client
                    .as_ref()
                    .map(client_certificate)
                    .transpose()?,
            )
            .disable_verification(profile.unverified)
            .build();
        made.insert(profile.clone(), config.clone());
        Ok(config)
    }

    /// How TLS is spoken with a host for which certificates were given; none where there are none, or anybody is believed.
    pub(crate) fn given(&self, profile: &TlsProfile) -> Result<Option<GivenTls>, TransferError> {
        let Some(first) = profile.authorities.first().filter(|_| !profile.unverified) else {
            return Ok(None);
        };
        let RootCerts::Specific(all) = self.roots(&profile.authorities)? else {
            return Ok(None);
        };
        let mut own = 0;
        for file in &profile.authorities {
            own += certificates(file)?.len();
        }
        let all = all.iter().map(in_der).collect();
        let identity = match &profile.client {
            Some((path, key)) => {
                let chain = certificates(path)?.iter().map(in_der).collect();
                Some((chain, private_key(key)?))
            }
            None => None,
        };
        let given = GivenTls::new(all, own, identity).map_err(|error| unusable(first, error))?;
        Ok(Some(given))
    }

    fn roots(&self, files: &[PathBuf]) -> Result<RootCerts, TransferError> {
        let system = self.system.get_or_init(roots::authorities);
        if files.is_empty() {
            return Ok(system.clone());
        }
        let mut all = match system {
            RootCerts::Specific(all) => all.as_ref().clone(),
            _ => Vec::new(),
        };
        for file in files {
            let before = all.len();
            all.extend(certificates(file)?);
            if all.len() == before {
                return Err(unusable(file, "there is none"));
            }
        }
        Ok(RootCerts::Specific(Arc::new(all)))
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, TransferError> {
    let text = fs_err::read(path).map_err(|error| unusable(path, error))?;
    let mut found = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| unusable(path, error))? {
            found.push(certificate);
        }
    }
    Ok(found)
}

fn in_der(certificate: &Certificate<'static>) -> CertificateDer<'static> {
    CertificateDer::from(certificate.der().to_vec())
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TransferError> {
    let text = fs_err::read(path).map_err(|error| unusable(path, error))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| unusable(path, error))
}

fn client_certificate((path, key): &(PathBuf, PathBuf)) -> Result<ClientCert, TransferError> {
    let chain = certificates(path)?;
    if chain.is_empty() {
        return Err(unusable(path, "there is none"));
    }
    let text = fs_err::read(key).map_err(|error| unusable(key, error))?;
    let key = PrivateKey::from_pem(&text).map_err(|error| unusable(key, error))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_directory_that_has_the_host_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = dir.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(&path, "").unwrap();
            path
        };
        let authority = file("b/h:1/ca.crt");
        let (cert, key) = (file("b/h:1/client.cert"), file("b/h:1/client.key"));
        file("c/h:1/other.crt");
        file("b/broken/client.cert");
        let trust = Trust {
            directories: ["a", "b", "c"].map(|name| dir.path().join(name)).to_vec(),
            insecure: vec!["lab".into()],
            ..Trust::default()
        };
        let profile = trust.profile("h:1").unwrap();
        assert_eq!(
            (profile.authorities, profile.client),
            (vec![authority], Some((cert, key)))
        );
        assert!(trust.knows("h:1") && !trust.knows("h:2"));
        assert_eq!(trust.profile("h").unwrap(), TlsProfile::default());
        assert!(trust.profile("lab").unwrap().unverified);
        assert!(
            trust
                .profile("broken")
                .unwrap_err()
                .to_string()
                .contains("broken")
        );
    }
}
