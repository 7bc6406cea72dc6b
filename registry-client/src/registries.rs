//! Where a reference is asked for: containers' `registries.conf` (version 2) and containerd's `hosts.toml`.

mod conf;
mod hosts;

use std::path::{Path, PathBuf};

use dhow_image::{DEFAULT_REGISTRY, ImageReference, TransferError, TransferErrorKind};
use ureq::http::HeaderName;

use crate::repository::Access;
use crate::tls::TlsProfile;
use conf::Conf;

/// What the files of this machine say of registries.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    conf: Conf,
    /// Directories in each of which `HOST[:PORT]/hosts.toml` may be.
    hosts: Vec<PathBuf>,
}

/// One place where a reference is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The registry's name for credentials: the host, as references name it.
    pub(crate) registry: String,
    /// The repository there.
    pub(crate) repository: String,
    /// Whether anything may be believed to be it.
    pub(crate) insecure: bool,
    /// How its host is spoken to, where a file says so.
    pub(crate) host: Option<Host>,
    /// Whether it stands in for the registry that was meant.
    pub(crate) is_mirror: bool,
}

/// How a host is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) plain: bool,
    pub(crate) authority: String,
    /// What stands before a repository's name.
    pub(crate) path: String,
    pub(crate) headers: Vec<(HeaderName, String)>,
    /// What is particular about TLS with it, where the file says something.
    pub(crate) profile: Option<TlsProfile>,
}

impl Registries {
    /// What `$CONTAINERS_REGISTRIES_CONF` says (with `*.conf` in the directory of that name with `.d` after it); else
    /// `~/.config/containers/registries.conf`, else `/etc/containers/registries.conf`, with the `registries.conf.d` of both.
    ///
    /// `hosts` are the directories with containerd's `HOST[:PORT]/hosts.toml`.
    ///
    /// # Errors
    /// When a file is there and cannot be understood.
    pub fn standard(hosts: Vec<PathBuf>) -> Result<Self, TransferError> {
        let set = |name| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        if let Some(path) = set("CONTAINERS_REGISTRIES_CONF") {
            let mut more = path.clone().into_os_string();
            more.push(".d");
            return Self::read(&[path], &[more.into()], hosts);
        }
        let system = PathBuf::from("/etc/containers");
        let own = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
        let own = own.map(|dir| dir.join("containers"));
        let dirs: Vec<PathBuf> = [Some(system), own].into_iter().flatten().collect();
        let main: Vec<PathBuf> = dirs
            .iter()
            .rev()
            .map(|d| d.join("registries.conf"))
            .collect();
        let more: Vec<PathBuf> = dirs.iter().map(|d| d.join("registries.conf.d")).collect();
        Self::read(&main, &more, hosts)
    }

    /// The first of `main` that is there, and then what the files of `more` add and replace.
    fn read(
        main: &[PathBuf],
        more: &[PathBuf],
        hosts: Vec<PathBuf>,
    ) -> Result<Self, TransferError> {
        let mut conf = Conf::default();
        if let Some(path) = main.iter().find(|path| path.exists()) {
            conf.merge(Conf::read(path)?);
        }
        for dir in more {
            for path in files_in(dir)? {
                conf.merge(Conf::read(&path)?);
            }
        }
        Ok(Self { conf, hosts })
    }

    /// What a name without a registry can mean: its alias, else the name in each of the registries that are searched, else the default
    /// registry's. A name with a registry means itself.
    ///
    /// # Errors
    /// When a file's word on it is no name.
    pub fn candidates(&self, text: &str) -> Result<Vec<ImageReference>, TransferError> {
        let bad = |error: dhow_image::ReferenceError| {
            TransferError::caused(
                TransferErrorKind::Other,
                "finding out what a name means",
                error,
            )
        };
        let reference: ImageReference = text.parse().map_err(bad)?;
        let name = text.split_once('@').map_or(text, |(name, _)| name);
        let bare = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => name,
            _ => name,
        };
        let is_short = reference.registry() == DEFAULT_REGISTRY
            && !bare.starts_with(&format!("{DEFAULT_REGISTRY}/"));
        if !is_short {
            return Ok(vec![reference]);
        }
        let suffix = &text[bare.len()..];
        if let Some(full) = self.conf.aliases.get(bare).filter(|full| !full.is_empty()) {
            return Ok(vec![format!("{full}{suffix}").parse().map_err(bad)?]);
        }
        let search = self.conf.search.as_deref().unwrap_or_default();
        if search.is_empty() {
            return Ok(vec![reference]);
        }
        let each = search.iter();
        each.map(|registry| format!("{registry}/{text}").parse().map_err(bad))
            .collect()
    }

    /// The places where a reference is asked for, in their order. The last is the registry itself. `resolved` says that what it
    /// stands for is known already, so that places which only have content are good for it, too.
    pub(crate) fn places(
        &self,
        reference: &ImageReference,
        access: Access,
        resolved: bool,
    ) -> Result<Vec<Place>, TransferError> {
        if let Some(entry) = self.conf.entry(reference) {
            return entry.places(reference, access);
        }
        if let Some(file) = self.hosts_file(reference.registry()) {
            let hosts = hosts::Hosts::read(&file, reference.registry())?;
            return hosts.places(reference, access, resolved);
        }
        Ok(vec![Place {
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
            insecure: false,
            host: None,
            is_mirror: false,
        }])
    }

    fn hosts_file(&self, registry: &str) -> Option<PathBuf> {
        // Where a file system has no colons, containerd takes this form.
        let other = match registry.rsplit_once(':') {
            Some((host, port)) => format!("{host}_{port}_"),
            None => registry.to_owned(),
        };
        for name in [registry, &other, "_default"] {
            let mut files = self
                .hosts
                .iter()
                .map(|dir| dir.join(name).join("hosts.toml"));
            if let Some(file) = files.find(|file| file.exists()) {
                return Some(file);
            }
        }
        None
    }
}

/// The `*.conf` of a directory in the order of their names; none where it is missing.
fn files_in(dir: &Path) -> Result<Vec<PathBuf>, TransferError> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Ok(Vec::new());
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(dir, error))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "conf")
        {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

/// What a `registries.conf` makes of a name: how many places there are for all that it can mean.
pub(crate) fn trial_of_conf(text: &str, name: &str) -> Result<usize, TransferError> {
    let registries = Registries {
        conf: Conf::of_text(text, Path::new("registries.conf"))?,
        hosts: Vec::new(),
    };
    let mut count = 0;
    for reference in registries.candidates(name)? {
        for access in [Access::Pull, Access::Push] {
            count += registries.places(&reference, access, false)?.len();
        }
    }
    Ok(count)
}

/// What a `hosts.toml` makes of a reference: how many places there are for it.
pub(crate) fn trial_of_hosts(
    text: &str,
    reference: &ImageReference,
) -> Result<usize, TransferError> {
    let mut count = 0;
    for access in [Access::Pull, Access::Push] {
        let file = Path::new("/d/hosts.toml");
        let hosts = hosts::Hosts::of_text(text, file, reference.registry())?;
        count += hosts.places(reference, access, true)?.len();
    }
    Ok(count)
}

fn unreadable(
    path: &Path,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> TransferError {
    let message = format!("reading {}", path.display());
    TransferError::caused(TransferErrorKind::Other, message, error)
}
