//! config.json as it is written: the part of it that is for Linux.
//!
//! Its sections are oci-spec's types. The two outermost are not: oci-spec's process checks its processor lists by a regular
//! expression, and its spec reads what other systems' containers are made of; both together would be a third of this program.

use std::collections::HashMap;
use std::path::PathBuf;

use getset::{CopyGetters, Getters, Setters};
use oci_spec::runtime::{
    Box as ConsoleSize, Hooks, Linux, LinuxCapabilities, LinuxIOPriority, Mount, PosixRlimit, Root,
    Scheduler, User,
};
use serde::Deserialize;

/// The whole document (config.md).
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Getters)]
#[serde(rename_all = "camelCase")]
#[getset(get = "pub")]
pub struct Spec {
    /// The version of the specification that it follows.
    #[serde(default, rename = "ociVersion")]
    version: String,
    /// The root file system.
    root: Option<Root>,
    /// The mounts, in order.
    mounts: Option<Vec<Mount>>,
    /// The process to run.
    process: Option<Process>,
    /// The name of the host as the container has it.
    hostname: Option<String>,
    /// The name of the domain as the container has it.
    domainname: Option<String>,
    /// Programs to be run at points of the container's life.
    hooks: Option<Hooks>,
    /// What others have to say about the container.
    annotations: Option<HashMap<String, String>>,
    /// What is for Linux alone (config-linux.md).
    linux: Option<Linux>,
}

impl Spec {
    /// Adds a mount after all others, and a variable of its process.
    pub(crate) fn add(&mut self, mount: Mount, variable: String) {
        self.mounts.get_or_insert_default().push(mount);
        if let Some(process) = &mut self.process {
            process.env.get_or_insert_default().push(variable);
        }
    }

    /// What is for Linux alone, to be changed.
    pub(super) fn linux_mut(&mut self) -> Option<&mut Linux> {
        self.linux.as_mut()
    }
}

/// A process (config.md, "Process").
#[derive(Debug, Clone, PartialEq, Deserialize, CopyGetters, Getters, Setters)]
#[serde(rename_all = "camelCase")]
#[getset(set = "pub")]
pub struct Process {
    /// Whether it has a terminal.
    #[getset(get_copy = "pub")]
    terminal: Option<bool>,
    /// The terminal's size.
    #[getset(get_copy = "pub")]
    console_size: Option<ConsoleSize>,
    /// Who it is; root where nothing is said, as in runc.
    #[serde(default)]
    #[getset(get = "pub")]
    user: User,
    /// The program and its arguments.
    #[getset(get = "pub")]
    args: Option<Vec<String>>,
    /// Its environment.
    #[getset(get = "pub")]
    env: Option<Vec<String>>,
    /// Where it begins, an absolute path in the container.
    #[getset(get = "pub")]
    cwd: PathBuf,
    /// What it may do.
    #[getset(get = "pub")]
    capabilities: Option<LinuxCapabilities>,
    /// Its resource limits.
    #[getset(get = "pub")]
    rlimits: Option<Vec<PosixRlimit>>,
    /// Whether no program can give it more privileges.
    #[getset(get_copy = "pub")]
    no_new_privileges: Option<bool>,
    /// Its AppArmor profile.
    #[getset(get = "pub")]
    apparmor_profile: Option<String>,
    /// How readily it is killed when memory is short.
    #[getset(get_copy = "pub")]
    oom_score_adj: Option<i32>,
    /// Its SELinux label.
    #[getset(get = "pub")]
    selinux_label: Option<String>,
    /// Its place in the queues of devices.
    #[getset(get = "pub")]
    io_priority: Option<LinuxIOPriority>,
    /// Its place in the queues of processors.
    #[getset(get = "pub")]
    scheduler: Option<Scheduler>,
    /// The processors of a process that is executed in a running container.
    #[serde(rename = "execCPUAffinity")]
    #[getset(get = "pub")]
    exec_cpu_affinity: Option<ExecCpuAffinity>,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            terminal: None,
            console_size: None,
            user: User::default(),
            args: None,
            env: None,
            cwd: PathBuf::from("/"),
            capabilities: None,
            rlimits: None,
            no_new_privileges: None,
            apparmor_profile: None,
            oom_score_adj: None,
            selinux_label: None,
            io_priority: None,
            scheduler: None,
            exec_cpu_affinity: None,
        }
    }
}

/// On which processors a process begins and goes on (`process.execCPUAffinity`), as lists like `0-3,7`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Getters)]
#[getset(get = "pub")]
pub struct ExecCpuAffinity {
    /// Before it is in the container's cgroup.
    #[serde(default, deserialize_with = "unless_empty")]
    initial: Option<String>,
    /// From then on.
    #[serde(default, rename = "final", deserialize_with = "unless_empty")]
    cpu_affinity_final: Option<String>,
}

/// An empty list is as none.
fn unless_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let list = Option::<String>::deserialize(from)?;
    Ok(list.filter(|list| !list.is_empty()))
}
