//! What a container sees mounted.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use crate::{ContainerOptions, NetworkMode};

/// The group of terminals.
const TTY: u32 = 5;

/// The mounts in the order in which they are made: the kernel's file systems, then what a person asked for, upper directories first.
pub(crate) fn mounts(options: &ContainerOptions) -> Vec<Mount> {
    let is_mapped = options.user_namespace.is_some();
    let binds = options.mounts.iter();
    let mut asked: Vec<Mount> = binds.map(|mount| bind(mount, is_mapped)).collect();
    asked.extend(options.tmpfs.iter().map(tmpfs));
    asked.sort_by_key(|mount| mount.destination().components().count());
    let mut mounts = kernel_mounts(options);
    let is_less = options.rootless || options.user_namespace.is_some();
    if is_less && options.network != NetworkMode::None {
        // A sysfs is mounted by who owns the network namespace that it shows; others see the host's, with its cgroups.
        mounts.retain(|mount| !mount.destination().starts_with("/sys"));
        let words = ["rbind", "nosuid", "noexec", "nodev", "ro", "rro"];
        mounts.push(self::mount("/sys", "bind", "/sys", &words));
    }
    // What a person puts in the place of a default is what they want there, and nothing of the default below it.
    mounts.retain(|default| {
        !asked.iter().any(|mount| {
            default.destination() == mount.destination()
                || (mount.destination() == Path::new("/dev")
                    && default.destination().starts_with("/dev"))
        })
    });
    mounts.extend(asked);
    mounts
}

fn kernel_mounts(options: &ContainerOptions) -> Vec<Mount> {
    let access = if options.confinement.privileged {
        "rw"
    } else {
        "ro"
    };
    let mut terminals = vec![
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
    ];
    // The group tty, where there is one.
    let own = options.user_namespace.as_ref();
    if own.is_none_or(|own| own.host_group(TTY).is_some()) {
        terminals.push("gid=5");
    }
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount("/dev/pts", "devpts", "devpts", &terminals),
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", access],
        ),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", access],
        ),
        mount(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
    ]
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(PathBuf::from(destination))
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(PathBuf::from(source)))
        .set_options(Some(options.iter().map(|o| (*o).to_owned()).collect()));
    mount
}

fn bind(bind: &crate::BindMount, is_mapped: bool) -> Mount {
    let mut options = vec!["rbind".to_owned(), "rprivate".to_owned()];
    let access: &[&str] = match bind.read_only {
        // What is mounted below the source is not writable either.
        true => &["ro", "rro"],
        false => &["rw"],
    };
    options.extend(access.iter().map(|word| (*word).to_owned()));
    if bind.id_mapped && is_mapped {
        // As the container's ids are.
        options.push("ridmap".to_owned());
    }
    let mut mount = Mount::default();
    mount
        .set_destination(bind.destination.clone())
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(bind.source.clone()))
        .set_options(Some(options));
    mount
}

fn tmpfs(tmpfs: &crate::TmpfsMount) -> Mount {
    let mut options: Vec<String> = ["noexec", "nosuid", "nodev"].map(str::to_owned).into();
    // A person's word replaces the default that it contradicts.
    for option in &tmpfs.options {
        options.retain(|default| {
            default.strip_prefix("no") != Some(option) && option.strip_prefix("no") != Some(default)
        });
        options.push(option.clone());
    }
    let mut mount = Mount::default();
    mount
        .set_destination(tmpfs.destination.clone())
        .set_typ(Some("tmpfs".to_owned()))
        .set_source(Some(PathBuf::from("tmpfs")))
        .set_options(Some(options));
    mount
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BindMount, TmpfsMount};

    fn destinations(options: &ContainerOptions) -> Vec<String> {
        mounts(options)
            .iter()
            .map(|mount| mount.destination().display().to_string())
            .collect()
    }

    fn bind_at(destination: &str) -> BindMount {
        BindMount {
            source: "/srv".into(),
            destination: destination.into(),
            read_only: true,
            id_mapped: false,
        }
    }

    #[test]
    fn a_mount_in_the_place_of_a_default_replaces_it() {
        let options = ContainerOptions {
            mounts: vec![bind_at("/dev/shm"), bind_at("/a/b"), bind_at("/a")],
            ..Default::default()
        };
        let all = destinations(&options);
        assert_eq!(all.iter().filter(|d| *d == "/dev/shm").count(), 1);
        let place = |d: &str| all.iter().position(|x| x == d).unwrap();
        assert!(place("/a") < place("/a/b"));
    }

    #[test]
    fn the_hosts_dev_brings_its_own() {
        let options = ContainerOptions {
            mounts: vec![bind_at("/dev")],
            ..Default::default()
        };
        assert!(!destinations(&options).contains(&"/dev/pts".to_owned()));
    }

    #[test]
    fn a_tmpfs_is_not_executable_unless_asked() {
        let options = ContainerOptions {
            tmpfs: vec![TmpfsMount {
                destination: "/run".into(),
                options: vec!["exec".into(), "size=1m".into()],
            }],
            ..Default::default()
        };
        let all = mounts(&options);
        let given = all.last().unwrap().options().clone().unwrap();
        assert_eq!(given, ["nosuid", "nodev", "exec", "size=1m"]);
    }
}
