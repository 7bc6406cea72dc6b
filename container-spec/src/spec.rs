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
use crate::user_namespace::mappings;
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

/// The last group that may be given leave to send pings.
const LAST_GROUP: u32 = 2_147_483_647;

/// A container that cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Neither the image nor the person says what to run.
    #[error("no command: the image has neither CMD nor ENTRYPOINT; give a command after the image")]
    NoCommand,
    /// Not absolute.
    #[error("the working directory {0:?} is not absolute; it is a path inside the container")]
    RelativeWorkingDir(String),
    /// Something else is there.
    #[error(
        "the working directory {0:?} is not a directory in the container; name one that is, or a path that is not there yet"
    )]
    WorkingDirIsNone(String),
    /// Not a name that a host can have.
    #[error(
        "{0:?} is not a host name; write letters, digits, -, _ and single dots, 64 at most, none but letters and digits at the ends (--hostname)"
    )]
    Hostname(String),
    /// No such resource limit.
    #[error("{0:?} is no resource limit; see getrlimit(2), for example nofile=1024:2048")]
    UnknownRlimit(String),
    /// Whom it runs as.
    #[error(transparent)]
    User(#[from] UserError),
    /// Somebody whom the container's user namespace does not have.
    #[error(
        "{kind} {id} is not mapped into the container; map it too (--userns, --uidmap, --gidmap)"
    )]
    Unmapped {
        /// `user` or `group`.
        kind: &'static str,
        /// The number inside.
        id: u32,
    },
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
        .set_namespaces(Some(namespaces(options)))
        .set_resources(Some(resources))
        .set_cgroups_path(options.cgroups_path.clone())
        .set_devices(None)
        .set_seccomp(seccomp(&options.confinement))
        .set_sysctl(sysctl(options));
    if let Some(own) = &options.user_namespace {
        linux
            .set_uid_mappings(Some(mappings(own.uids())))
            .set_gid_mappings(Some(mappings(own.gids())));
    }
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
    let last = match &options.user_namespace {
        Some(own) => own.last_group_from_root().min(LAST_GROUP),
        None if options.rootless => 0,
        None => LAST_GROUP,
    };
    let pinging = format!("0 {last}");
    (options.network == NetworkMode::None).then(|| {
        HashMap::from([
            ("net.ipv4.ip_unprivileged_port_start".into(), "0".into()),
            ("net.ipv4.ping_group_range".into(), pinging),
        ])
    })
}

fn namespaces(options: &ContainerOptions) -> Vec<LinuxNamespace> {
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
    if options.user_namespace.is_some() {
        namespaces.push(namespace(Type::User));
    }
    match &options.network {
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
    use crate::UserNamespace;

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
    fn a_user_namespace_of_its_own_is_mapped_and_has_no_more_than_it_can_mount() {
        let range = |text: &str| vec![text.parse().unwrap()];
        let own = |gids| UserNamespace::new(range("0:100000:2000"), range(gids)).unwrap();
        let spec = |gids, network, user: &str| {
            let options = ContainerOptions {
                user_namespace: Some(own(gids)),
                args: vec!["true".into()],
                user: Some(user.into()),
                network,
                ..Default::default()
            };
            let root = std::fs::File::open("/proc").unwrap();
            container_spec(&ImageConfiguration::default(), &options, root.as_fd())
        };
        let described = spec("0:200000:3000", NetworkMode::None, "1").unwrap();
        assert_eq!(
            UserNamespace::of_spec(&described),
            Some(own("0:200000:3000"))
        );
        let linux = described.linux().as_ref().unwrap();
        assert_eq!(linux.namespaces().as_ref().unwrap().len(), 7);
        let sysctl = linux.sysctl().as_ref().unwrap();
        assert_eq!(sysctl["net.ipv4.ping_group_range"], "0 2999");
        let small = spec("0:200000:5", NetworkMode::Host, "1:1").unwrap();
        let mounts = small.mounts().as_ref().unwrap();
        let mount = |path: &str| {
            let at = |mount: &&oci_spec::runtime::Mount| {
                mount.destination() == std::path::Path::new(path)
            };
            mounts.iter().find(at).unwrap()
        };
        let options = mount("/dev/pts").options().as_ref().unwrap();
        assert!(!options.contains(&"gid=5".to_owned()), "{options:?}");
        assert_eq!(mount("/sys").typ().as_deref(), Some("bind"));
        for (user, kind, id) in [("2000", "user", 2000), ("1:3000", "group", 3000)] {
            let refused = spec("0:200000:3000", NetworkMode::None, user).unwrap_err();
            let expected = SpecError::Unmapped { kind, id };
            assert_eq!(refused.to_string(), expected.to_string());
        }
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
