//! A bundle's config.json, checked once.

use std::collections::HashSet;
use std::io;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType, LinuxResources};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::procfs::read_record;

mod document;

pub use document::{ExecCpuAffinity, Process, Spec};

/// The longest name of a host or domain (uname(2)).
const LONGEST_NAME: usize = 64;

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file is not there or cannot be read.
    #[error("cannot read {path}: {source}; is {} a bundle?", path.parent().unwrap_or(path).display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// It is not what the specification says.
    #[error("{path} is not a valid configuration: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A value cannot be.
    #[error("config.json: {what}")]
    Invalid {
        /// Which value, and what is wrong with it.
        what: String,
    },
}

fn invalid(what: impl Into<String>) -> SpecError {
    SpecError::Invalid { what: what.into() }
}

/// A bundle whose configuration holds together.
#[derive(Debug)]
pub struct Bundle {
    /// Its directory, absolute and without links.
    pub dir: PathBuf,
    /// The root file system's directory, absolute and without links.
    pub rootfs: PathBuf,
    /// The configuration.
    pub spec: Spec,
    /// The configuration as it was read.
    pub text: Vec<u8>,
}

impl Bundle {
    /// Reads and checks the bundle at `dir`.
    ///
    /// # Errors
    /// When it is none, or asks for what cannot be.
    pub fn load(dir: &Path) -> Result<Self, SpecError> {
        let read_error = |path: &Path, source| SpecError::Read {
            path: path.to_owned(),
            source,
        };
        let config = dir.join("config.json");
        let text = read_record(&config).map_err(|errno| read_error(&config, errno.into()))?;
        let real = match dir.strip_prefix("/") {
            Ok(below) => real_directory_below(Path::new("/"), below),
            Err(_) => real_directory(dir),
        };
        let dir = real.map_err(|errno| read_error(dir, errno.into()))?;
        let spec = parse(&text, &config)?;
        check(&spec)?;
        let root = spec
            .root()
            .as_ref()
            .ok_or_else(|| invalid("root is missing"))?;
        let path = dir.join(root.path());
        let rootfs = real_directory_below(&dir, root.path()).map_err(|errno| match errno {
            Errno::NOTDIR => invalid(format!("root.path: {} is not a directory", path.display())),
            errno => invalid(format!("root.path: {}: {errno}", path.display())),
        })?;
        Ok(Self {
            dir,
            rootfs,
            spec,
            text,
        })
    }

    /// The process to run.
    pub fn process(&self) -> Option<&Process> {
        self.spec.process().as_ref()
    }

    /// The Linux section.
    pub fn linux(&self) -> Option<&Linux> {
        self.spec.linux().as_ref()
    }
}

/// The absolute path of a directory, without links: the kernel goes there, and says where it is.
fn real_directory(path: &Path) -> rustix::io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStringExt;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let real = rustix::fs::readlink(link, Vec::with_capacity(256))?;
    Ok(std::ffi::OsString::from_vec(real.into_bytes()).into())
}

/// The same of a path seen from a directory of which this is known: mostly there is no link in it, which the kernel tells with
/// one call less.
fn real_directory_below(dir: &Path, path: &Path) -> rustix::io::Result<PathBuf> {
    let is_plain = |part| matches!(part, Component::Normal(_));
    let real: PathBuf = dir.join(path).components().collect();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let links = ResolveFlags::NO_SYMLINKS;
    if path.components().all(is_plain)
        && rustix::fs::openat2(CWD, &real, flags, Mode::empty(), links).is_ok()
    {
        return Ok(real);
    }
    real_directory(&dir.join(path))
}

/// Parses a configuration. Names of capabilities that this program does not know are warned of and left out, as the
/// specification asks; where the types are not quite the specification's, its words are taken.
///
/// # Errors
/// When it is not a configuration.
pub fn parse(text: &[u8], path: &Path) -> Result<Spec, SpecError> {
    let parse_error = |source| SpecError::Parse {
        path: path.to_owned(),
        source,
    };
    let mut spec: Spec = match serde_json::from_slice(text) {
        Ok(spec) => spec,
        Err(first) => {
            let mut value: serde_json::Value = serde_json::from_slice(text).map_err(parse_error)?;
            if !value.get_mut("process").is_some_and(adapt_process) {
                return Err(parse_error(first));
            }
            reparse(&value).map_err(parse_error)?
        }
    };
    if let Some(linux) = spec.linux_mut()
        && has_pids_zero(linux.resources().as_ref())
        && let Some(mut resources) = linux.resources().clone()
    {
        drop_unsaid_pids(&mut resources, text, "/linux/resources/pids/limit");
        linux.set_resources(Some(resources));
    }
    Ok(spec)
}

fn has_pids_zero(resources: Option<&LinuxResources>) -> bool {
    let pids = resources.and_then(|resources| resources.pids().as_ref());
    pids.is_some_and(|pids| pids.limit() == 0)
}

/// Takes away a limit on processes that does not say how many. It is none (config-linux.md, "PIDs"), but our type has a 0 for it, which is
/// a limit. `pointer` leads to the number in the document.
pub fn drop_unsaid_pids(resources: &mut LinuxResources, document: &[u8], pointer: &str) {
    if !has_pids_zero(Some(resources)) {
        return;
    }
    let value: Option<serde_json::Value> = serde_json::from_slice(document).ok();
    if value.is_some_and(|value| value.pointer(pointer).is_none()) {
        resources.set_pids(None);
    }
}

/// Makes a process of the specification's one of our types; whether anything was changed.
fn adapt_process(process: &mut serde_json::Value) -> bool {
    let capabilities = drop_unknown_capabilities(process);
    let flags = rename_scheduler_flags(process);
    capabilities || flags
}

/// Two of the scheduler's flags have other names in our types.
fn rename_scheduler_flags(process: &mut serde_json::Value) -> bool {
    let flags = process.pointer_mut("/scheduler/flags");
    let mut changed = false;
    for flag in flags
        .and_then(serde_json::Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let name = match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
            Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
            _ => continue,
        };
        *flag = name.into();
        changed = true;
    }
    changed
}

/// What a changed document says. It goes by its text, since all that reads a document would be in the program twice over if
/// it could be read from a value too.
fn reparse<T: serde::de::DeserializeOwned>(value: &serde_json::Value) -> serde_json::Result<T> {
    serde_json::from_slice(&serde_json::to_vec(value)?)
}

/// Leaves unknown capability names out of a process; whether there were any.
fn drop_unknown_capabilities(process: &mut serde_json::Value) -> bool {
    let Some(sets) = process
        .get_mut("capabilities")
        .and_then(serde_json::Value::as_object_mut)
    else {
        return false;
    };
    let mut dropped = HashSet::new();
    for names in sets.values_mut().filter_map(|set| set.as_array_mut()) {
        names.retain(|name| {
            let known =
                serde_json::from_value::<oci_spec::runtime::Capability>(name.clone()).is_ok();
            if !known {
                dropped.insert(name.to_string());
            }
            known
        });
    }
    for name in &dropped {
        crate::log::warn(&format!("ignoring unknown capability {name}"));
    }
    !dropped.is_empty()
}

/// Parses a process document (exec --process).
///
/// # Errors
/// When it is none.
pub fn parse_process(text: &[u8], path: &Path) -> Result<Process, SpecError> {
    let parse_error = |source| SpecError::Parse {
        path: path.to_owned(),
        source,
    };
    match serde_json::from_slice(text) {
        Ok(process) => Ok(process),
        Err(first) => {
            let mut value = serde_json::from_slice(text).map_err(parse_error)?;
            if !adapt_process(&mut value) {
                return Err(parse_error(first));
            }
            reparse(&value).map_err(parse_error)
        }
    }
}

/// Checks a process by itself.
///
/// # Errors
/// When it cannot be run.
pub fn check_process(process: &Process) -> Result<(), SpecError> {
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(invalid("process.args is empty"));
    }
    if !process.cwd().is_absolute() {
        return Err(invalid(format!(
            "process.cwd {:?} is not an absolute path",
            process.cwd()
        )));
    }
    let mut limited = HashSet::new();
    for limit in process.rlimits().iter().flatten() {
        if !limited.insert(limit.typ() as u32) {
            return Err(invalid(format!(
                "process.rlimits: {} stands twice",
                limit.typ()
            )));
        }
        if limit.soft() > limit.hard() {
            return Err(invalid(format!(
                "process.rlimits: {}: the soft limit {} is above the hard limit {}",
                limit.typ(),
                limit.soft(),
                limit.hard()
            )));
        }
    }
    if let Some(adj) = process.oom_score_adj()
        && !(-1000..=1000).contains(&adj)
    {
        return Err(invalid(format!(
            "process.oomScoreAdj {adj} is not one of -1000 to 1000"
        )));
    }
    for pair in process.env().iter().flatten() {
        if pair.find('=').is_none_or(|at| at == 0) {
            return Err(invalid(format!("process.env: {pair:?} is not NAME=VALUE")));
        }
    }
    let user = process.user();
    let ids = [user.uid(), user.gid()];
    if ids
        .iter()
        .chain(user.additional_gids().iter().flatten())
        .any(|id| *id == u32::MAX)
    {
        // To the kernel this number says: as before, which is root.
        return Err(invalid(format!("process.user: {} is no id", u32::MAX)));
    }
    let strings = process.args().iter().chain(process.env().iter()).flatten();
    for text in strings {
        if text.contains('\0') {
            return Err(invalid("process.args or process.env holds a zero byte"));
        }
    }
    Ok(())
}

/// Checks a configuration by itself.
///
/// # Errors
/// When it asks for what cannot be.
pub fn check(spec: &Spec) -> Result<(), SpecError> {
    check_version(spec.version())?;
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| invalid("process is missing"))?;
    check_process(process)?;
    let none = Vec::new();
    let namespaces = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_ref())
        .unwrap_or(&none);
    check_namespaces(spec, namespaces)?;
    for mount in spec.mounts().iter().flatten() {
        let destination = mount.destination();
        if destination.as_os_str().is_empty() {
            return Err(invalid("mounts: a destination is empty"));
        }
    }
    check_hooks(spec)
}

fn check_version(version: &str) -> Result<(), SpecError> {
    let major = version.split('.').next().unwrap_or_default();
    if version.is_empty() {
        return Err(invalid(
            "ociVersion is missing: this runtime knows 1.0 to 1.3",
        ));
    }
    if major != "1" {
        return Err(invalid(format!(
            "ociVersion {version:?}: this runtime knows 1.0 to 1.3"
        )));
    }
    Ok(())
}

fn check_namespaces(spec: &Spec, namespaces: &[LinuxNamespace]) -> Result<(), SpecError> {
    let mut seen = HashSet::new();
    for namespace in namespaces {
        if !seen.insert(namespace.typ()) {
            return Err(invalid(format!(
                "linux.namespaces: {} stands twice",
                namespace.typ()
            )));
        }
        if let Some(path) = namespace.path().as_ref()
            && !path.as_os_str().is_empty()
            && !path.is_absolute()
        {
            return Err(invalid(format!(
                "linux.namespaces: {} is not an absolute path",
                path.display()
            )));
        }
    }
    let has = |kind| seen.contains(&kind);
    if !has(LinuxNamespaceType::Mount) {
        // Without it every mount would be made on the host.
        return Err(invalid("linux.namespaces lacks the mount namespace"));
    }
    check_names(spec, has(LinuxNamespaceType::Uts))?;
    let Some(linux) = spec.linux() else {
        return Ok(());
    };
    let mapped = linux
        .uid_mappings()
        .as_ref()
        .is_some_and(|map| !map.is_empty());
    if mapped && !has(LinuxNamespaceType::User) {
        return Err(invalid(
            "linux.uidMappings is set, but linux.namespaces lacks the user namespace",
        ));
    }
    let makes_user = namespaces.iter().any(|namespace| {
        namespace.typ() == LinuxNamespaceType::User
            && namespace
                .path()
                .as_ref()
                .is_none_or(|path| path.as_os_str().is_empty())
    });
    let gid_mapped = linux
        .gid_mappings()
        .as_ref()
        .is_some_and(|map| !map.is_empty());
    if makes_user && !(mapped && gid_mapped) {
        return Err(invalid(
            "linux.namespaces asks for a new user namespace, which needs linux.uidMappings and linux.gidMappings (without privileges at least one's own ids; see spec --rootless)",
        ));
    }
    let offsets = linux.time_offsets().iter().flatten();
    let clock = offsets
        .map(|(clock, _)| clock)
        .find(|clock| !["monotonic", "boottime"].contains(&clock.as_str()));
    if let Some(clock) = clock {
        return Err(invalid(format!(
            "linux.timeOffsets: {clock:?} is no clock that can be moved; monotonic and boottime are"
        )));
    }
    let offsets = linux
        .time_offsets()
        .as_ref()
        .is_some_and(|set| !set.is_empty());
    if offsets && !has(LinuxNamespaceType::Time) {
        return Err(invalid(
            "linux.timeOffsets is set, but linux.namespaces lacks the time namespace",
        ));
    }
    Ok(())
}

/// The names that the container has for its host and domain. Without a namespace of theirs they would be the host's that change.
fn check_names(spec: &Spec, has_namespace: bool) -> Result<(), SpecError> {
    let names = [
        ("hostname", spec.hostname()),
        ("domainname", spec.domainname()),
    ];
    for (field, name) in names {
        let Some(name) = name.as_ref().filter(|name| !name.is_empty()) else {
            continue;
        };
        if !has_namespace {
            return Err(invalid(format!(
                "{field} is set, but linux.namespaces lacks the uts namespace"
            )));
        }
        if name.len() > LONGEST_NAME {
            return Err(invalid(format!(
                "{field} {name:?} has {} bytes; the kernel takes {LONGEST_NAME}",
                name.len()
            )));
        }
    }
    Ok(())
}

fn check_hooks(spec: &Spec) -> Result<(), SpecError> {
    for (kind, hooks) in crate::hooks::all(spec.hooks().as_ref()) {
        for hook in hooks {
            if !hook.path().is_absolute() {
                return Err(invalid(format!(
                    "hooks.{}: {} is not an absolute path",
                    kind.name(),
                    hook.path().display()
                )));
            }
            if hook.timeout().is_some_and(|seconds| seconds <= 0) {
                return Err(invalid(format!(
                    "hooks.{}: {}: the timeout must be greater than zero",
                    kind.name(),
                    hook.path().display()
                )));
            }
        }
    }
    Ok(())
}
