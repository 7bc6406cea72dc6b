//! What a person can ask of a container, as types.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::runtime::{Capability, LinuxSeccomp};
use serde::{Deserialize, Serialize};

use crate::process::rlimit;
use crate::{Limits, SpecError, UserNamespace};

/// What a person asks of a container beyond what its image says. The default asks for nothing: a safe container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerOptions {
    /// Replaces the image's entrypoint; the image's command is then dropped too, as Docker does. An empty list clears it.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command when it is not empty.
    pub args: Vec<String>,
    /// `NAME=VALUE` each; added to the image's environment, a later one replaces an earlier one of the same name.
    pub env: Vec<String>,
    /// The directory to start in, absolute inside the container; the image's otherwise, or `/`.
    pub working_dir: Option<String>,
    /// `USER[:GROUP]`, each a name or a number; the image's otherwise, or root.
    pub user: Option<String>,
    /// The host name; none leaves the UTS namespace's own (and $HOSTNAME unset).
    pub hostname: Option<String>,
    /// Directories and files of the host that are seen inside.
    pub mounts: Vec<BindMount>,
    /// Empty file systems in memory.
    pub tmpfs: Vec<TmpfsMount>,
    /// Limits on what the container may use.
    pub limits: Limits,
    /// Resource limits of the first process; none by default.
    pub rlimits: Vec<Rlimit>,
    /// The network it is in.
    pub network: NetworkMode,
    /// Whether its root cannot be written.
    pub read_only: bool,
    /// Whether the first process gets a terminal.
    pub terminal: bool,
    /// The host's path of the mounted root file system; `rootfs` beside the bundle's config when it is empty.
    pub root_path: PathBuf,
    /// Where in the cgroup hierarchies the container lives; absolute from each hierarchy's mount. The runtime chooses when it is not given.
    pub cgroups_path: Option<PathBuf>,
    /// Whether root of a user namespace makes it, who may mount less than the machine's.
    pub rootless: bool,
    /// A user namespace of its own; otherwise it has that of who makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_namespace: Option<UserNamespace>,
    /// Labels that a person gave.
    pub labels: BTreeMap<String, String>,
    /// Annotations for the OCI Spec.
    pub annotations: BTreeMap<String, String>,
    /// How much the container may do.
    pub confinement: Confinement,
}

/// The longest host name that the kernel takes.
const LONGEST_HOSTNAME: usize = 64;

impl ContainerOptions {
    /// Sees that what is asked can be had, as far as that can be told without the container's files.
    ///
    /// # Errors
    /// When limits contradict each other or are beyond what the machine or this process has, or the host name is none.
    pub fn check(&self) -> Result<(), SpecError> {
        self.limits.resources()?;
        for limit in &self.rlimits {
            rlimit(limit)?;
            limit.check()?;
        }
        match &self.hostname {
            Some(name) if !is_hostname(name) => Err(SpecError::Hostname(name.clone())),
            _ => Ok(()),
        }
    }
}

/// Labels of letters, digits, `-` and `_` with dots between them, of which none begins or ends with another than a letter or digit.
fn is_hostname(name: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let ends = [label.bytes().next(), label.bytes().next_back()];
        let outer = |end: Option<u8>| end.is_some_and(|byte| byte.is_ascii_alphanumeric());
        label.bytes().all(inner) && ends.into_iter().all(outer)
    };
    name.len() <= LONGEST_HOSTNAME && name.split('.').all(is_label)
}

/// How much a container may do. The default is Docker's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Confinement {
    /// Everything: all capabilities, no seccomp filter, no masks, writable /sys and cgroups. The host's devices are not added.
    pub privileged: bool,
    /// Capabilities beyond Docker's default set.
    pub cap_add: Vec<Capability>,
    /// Capabilities taken away; done before `cap_add`.
    pub cap_drop: Vec<Capability>,
    /// Every capability of the kernel, before single ones are dropped (`--cap-add ALL`).
    pub cap_add_all: bool,
    /// No capability but those added (`--cap-drop ALL`).
    pub cap_drop_all: bool,
    /// Whether set-user-id programs have no effect inside.
    pub no_new_privileges: bool,
    /// The filter of system calls.
    pub seccomp: SeccompChoice,
}

/// Which filter of system calls a container has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeccompChoice {
    /// One equal in effect to Docker's.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// This one.
    Profile(Box<LinuxSeccomp>),
}

/// A directory or file of the host that is seen inside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BindMount {
    /// Absolute, on the host; must exist.
    pub source: PathBuf,
    /// Absolute, inside.
    pub destination: PathBuf,
    /// Whether it cannot be written from inside.
    pub read_only: bool,
    /// Whether its files have the owners inside that they have on the host, also where the container has a user namespace of its own.
    #[serde(default)]
    pub id_mapped: bool,
}

/// An empty file system in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TmpfsMount {
    /// Absolute, inside.
    pub destination: PathBuf,
    /// Mount options, for example `size=64m`; added to `noexec,nosuid,nodev`.
    pub options: Vec<String>,
}

/// A resource limit of the first process (getrlimit(2)).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Lower-case without `RLIMIT_`: `nofile`, `nproc`, ...
    pub name: String,
    /// The limit in force; `u64::MAX` is none.
    pub soft: u64,
    /// The limit up to which the process may raise it.
    pub hard: u64,
}

/// The network that a container is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// A namespace of its own with nothing but loopback.
    #[default]
    None,
    /// The host's.
    Host,
    /// A namespace that someone made, by its path.
    Namespace(PathBuf),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_host_can_be_called_is_refused() {
        let named = |name: &str| ContainerOptions {
            hostname: Some(name.to_owned()),
            ..ContainerOptions::default()
        };
        let longest = "a".repeat(LONGEST_HOSTNAME);
        for name in ["web", "WEB-1", "db.example.org", "my_host", "7", &longest] {
            named(name).check().unwrap();
        }
        let longer = format!("{longest}a");
        for name in [
            "", "a b", "-a", "a-", "a..b", ".a", "a.", "a/b", "ä", "a\nb", &longer,
        ] {
            let refused = named(name).check();
            assert!(matches!(refused, Err(SpecError::Hostname(_))), "{name:?}");
        }
    }
}
