//! The whole Spec of a container.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;

use dhow_image::ImageConfiguration;
use oci_spec::runtime::{
    Linux, LinuxDeviceCgroup, LinuxDeviceType, LinuxNamespace, LinuxNamespaceType, LinuxSeccomp,
    Root, Spec,
};

use crate::limits::LimitError;
use crate::mounts::mounts;
use crate::process::container_process;
use crate::seccomp::{default_seccomp, machine};
use crate::users::UserError;
use crate::{Confinement, ContainerOptions, NetworkMode, SeccompChoice};

/// The version of the runtime specification that is written.
const VERSION: &str = "1.2.0";

/// What of /proc and /sys tells or does more than a container should.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What of /proc can be read but not written.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// A container that cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Neither the image nor the person says what to run.
    #[error("no command: the image has neither CMD nor ENTRYPOINT; give a command after the image")]
    NoCommand,
    /// Not absolute.
    #[error("the working directory {0:?} is not absolute; it is a path inside the container")]
    RelativeWorkingDir(String),
    /// No such resource limit.
    #[error("{0:?} is no resource limit; see getrlimit(2), for example nofile=1024:2048")]
    UnknownRlimit(String),
    /// Whom it runs as.
    #[error(transparent)]
    User(#[from] UserError),
    /// What it may use.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

/// Describes a container of this image to the runtime. `root` is the mounted root file system, in which users are looked up, confined to it.
///
/// # Errors
/// When there is nothing to run, a user or device is not there, or limits contradict each other.
pub fn container_spec(
    image: &ImageConfiguration,
    options: &ContainerOptions,
    root: BorrowedFd<'_>,
) -> Result<Spec, SpecError> {
    let mut spec_root = Root::default();
    let path = if options.root_path.as_os_str().is_empty() {
        "rootfs".into()
    } else {
        options.root_path.clone()
    };
    spec_root
        .set_path(path)
        .set_readonly(Some(options.read_only));
    let annotations: HashMap<String, String> = options
        .annotations
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut spec = Spec::default();
    spec.set_version(VERSION.to_owned())
        .set_root(Some(spec_root))
        .set_process(Some(container_process(image, options, root)?))
        .set_hostname(options.hostname.clone())
        .set_mounts(Some(mounts(options)))
        .set_annotations((!annotations.is_empty()).then_some(annotations))
        .set_linux(Some(linux(options)?));
    Ok(spec)
}

fn linux(options: &ContainerOptions) -> Result<Linux, SpecError> {
    let privileged = options.confinement.privileged;
    let mut resources = options.limits.resources()?;
    resources.set_devices(Some(devices(privileged)));
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces(&options.network)))
        .set_resources(Some(resources))
        .set_cgroups_path(options.cgroups_path.clone())
        .set_devices(None)
        .set_seccomp(seccomp(&options.confinement))
        .set_sysctl(sysctl(options));
    let paths = |list: &[&str]| (!privileged).then(|| list.iter().map(|p| (*p).into()).collect());
    let masked = paths(&MASKED).map(|mut masked: Vec<String>| {
        masked.extend(throttle_counters());
        masked
    });
    linux
        .set_masked_paths(masked)
        .set_readonly_paths(paths(&READ_ONLY));
    Ok(linux)
}

/// Where a processor tells how often it was too hot, which tells neighbours what others compute; on machines that have it.
fn throttle_counters() -> Vec<String> {
    const CPUS: &str = "/sys/devices/system/cpu";
    let counter = |cpu: &str| format!("{CPUS}/{cpu}/thermal_throttle");
    if !std::path::Path::new(&counter("cpu0")).exists() {
        return Vec::new();
    }
    let cpus = std::fs::read_dir(CPUS).into_iter().flatten().flatten();
    let mut all: Vec<String> = cpus
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            name.strip_prefix("cpu")
                .is_some_and(|number| number.parse::<u32>().is_ok())
        })
        .map(|name| counter(&name))
        .collect();
    all.sort();
    all
}

fn seccomp(confinement: &Confinement) -> Option<LinuxSeccomp> {
    match &confinement.seccomp {
        _ if confinement.privileged => None,
        SeccompChoice::Default => Some(default_seccomp(&confinement.capabilities(), machine())),
        SeccompChoice::Unconfined => None,
        SeccompChoice::Profile(profile) => Some((**profile).clone()),
    }
}

/// What a program that is not root may do in a network of its own: open low ports and send pings, as in Docker.
fn sysctl(options: &ContainerOptions) -> Option<HashMap<String, String>> {
    // The kernel takes groups that the user namespace has, and root's is all that is sure to be there.
    let pinging = match options.rootless {
        true => "0 0",
        false => "0 2147483647",
    };
    (options.network == NetworkMode::None).then(|| {
        HashMap::from([
            ("net.ipv4.ip_unprivileged_port_start".into(), "0".into()),
            ("net.ipv4.ping_group_range".into(), pinging.into()),
        ])
    })
}

fn namespaces(network: &NetworkMode) -> Vec<LinuxNamespace> {
    use LinuxNamespaceType as Type;
    let namespace = |kind: Type| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind).set_path(None);
        namespace
    };
    let mut namespaces: Vec<LinuxNamespace> =
        [Type::Pid, Type::Mount, Type::Ipc, Type::Uts, Type::Cgroup]
            .map(namespace)
            .into();
    match network {
        NetworkMode::Host => {}
        NetworkMode::None => namespaces.push(namespace(Type::Network)),
        NetworkMode::Namespace(path) => {
            let mut joined = namespace(Type::Network);
            joined.set_path(Some(path.clone()));
            namespaces.push(joined);
        }
    }
    namespaces
}

/// The device rules: nodes may be made, but only those of no harm may be opened.
fn devices(privileged: bool) -> Vec<LinuxDeviceCgroup> {
    let rule = |allow, kind, major, minor, access: &str| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(allow)
            .set_typ(kind)
            .set_major(major)
            .set_minor(minor)
            .set_access(Some(access.to_owned()));
        rule
    };
    let character = |major, minor| rule(true, Some(LinuxDeviceType::C), Some(major), minor, "rwm");
    if privileged {
        return vec![rule(true, None, None, None, "rwm")];
    }
    vec![
        rule(false, None, None, None, "rwm"),
        rule(true, Some(LinuxDeviceType::C), None, None, "m"),
        rule(true, Some(LinuxDeviceType::B), None, None, "m"),
        character(1, Some(3)),
        character(1, Some(5)),
        character(1, Some(7)),
        character(1, Some(8)),
        character(1, Some(9)),
        character(5, Some(0)),
        character(5, Some(1)),
        character(5, Some(2)),
        character(136, None),
    ]
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn spec_of(options: &ContainerOptions) -> Spec {
        let root = std::fs::File::open("/var/empty")
            .or_else(|_| std::fs::File::open("/proc"))
            .unwrap();
        let options = ContainerOptions {
            args: vec!["true".into()],
            ..options.clone()
        };
        container_spec(&ImageConfiguration::default(), &options, root.as_fd()).unwrap()
    }

    #[test]
    fn the_default_is_private_and_masked() {
        let spec = spec_of(&ContainerOptions::default());
        let linux = spec.linux().as_ref().unwrap();
        assert_eq!(linux.namespaces().as_ref().unwrap().len(), 6);
        assert!(linux.masked_paths().as_ref().unwrap().len() >= MASKED.len());
        let process = spec.process().as_ref().unwrap();
        let sets = process.capabilities().as_ref().unwrap();
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 14);
        assert_eq!(sets.inheritable(), &None);
        assert_eq!(process.cwd().to_str(), Some("/"));
        assert_eq!(process.user().additional_gids(), &Some(vec![0]));
    }

    #[test]
    fn who_is_not_root_holds_nothing() {
        let spec = spec_of(&ContainerOptions {
            user: Some("1000".into()),
            ..Default::default()
        });
        let process = spec.process().as_ref().unwrap();
        let sets = process.capabilities().as_ref().unwrap();
        assert!(sets.effective().as_ref().unwrap().is_empty());
        assert!(sets.permitted().as_ref().unwrap().is_empty());
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 14);
    }

    #[test]
    fn the_hosts_network_is_no_namespace() {
        let spec = spec_of(&ContainerOptions {
            network: NetworkMode::Host,
            ..Default::default()
        });
        let linux = spec.linux().as_ref().unwrap();
        assert_eq!(linux.namespaces().as_ref().unwrap().len(), 5);
        assert_eq!(linux.sysctl(), &None);
    }
}
