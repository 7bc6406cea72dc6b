//! The steps from a bundle to a confined process, as data.

use std::fmt;
use std::path::PathBuf;

use dhow_sys::namespace;
use dhow_sys::process::SchedulingAttributes;

use super::mount_options::MountOptions;
use crate::cgroup::Driver;

/// Who carries a step out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// The command itself, in its own namespaces.
    Parent,
    /// A process between, which enters a user namespace and makes init in it.
    Intermediate,
    /// The process that becomes the container's.
    Init,
}

/// What is special in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// All is known beforehand.
    Plain,
    /// Whether there is anything to do shows only inside.
    Conditional,
    /// What it works on is resolved only inside.
    LateBound,
    /// It waits for another process.
    Rendezvous,
}

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NamespaceKind(pub u64);

impl NamespaceKind {
    /// The name that /proc/PID/ns has for it.
    pub fn name(self) -> &'static str {
        match self.0 {
            namespace::PID => "pid",
            namespace::MOUNT => "mnt",
            namespace::NETWORK => "net",
            namespace::IPC => "ipc",
            namespace::UTS => "uts",
            namespace::USER => "user",
            namespace::CGROUP => "cgroup",
            namespace::TIME => "time",
            _ => "unknown",
        }
    }
}

/// One range of a user namespace's map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First id inside.
    pub container: u32,
    /// First id outside.
    pub host: u32,
    /// How many.
    pub size: u32,
}

/// How the ids of a mount's files are mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdMap {
    /// As these ranges say.
    Ranges {
        /// Of users.
        uids: Vec<IdRange>,
        /// Of groups.
        gids: Vec<IdRange>,
    },
    /// As in the user namespace at this path.
    Namespace(PathBuf),
}

/// What a mount brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A file or directory of the host.
    Bind(PathBuf),
    /// A new file system.
    Filesystem {
        /// Its type.
        fstype: String,
        /// Its source.
        source: String,
    },
    /// A file or directory of the host, whose mount the parent has made (`Step::MakeIdMappedMount` of this number).
    IdMapped {
        /// The host's path.
        path: PathBuf,
        /// Which of the mounts that the parent has made.
        number: usize,
    },
    /// Nothing new: what is mounted there is changed.
    Remount,
    /// The container's own view of the cgroup file systems.
    Cgroup {
        /// Whether the container has a cgroup namespace, in which the kernel shows its own cgroup as the root.
        namespaced: bool,
        /// That of v2 alone, also where the host has v1 beside it.
        unified: bool,
    },
}

/// A group of resctrl: what its processes may use of caches and memory bandwidth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResctrlGroup {
    /// Its name; none for the group of all others.
    pub name: Option<String>,
    /// Whether the configuration names it, and it is not the container's alone.
    pub is_named: bool,
    /// Lines to be compared with those of a group that is there already, or written to a new one.
    pub compared: Vec<String>,
    /// Lines to be written in any case, last.
    pub written: Vec<String>,
    /// The name of a group in it by which its use is measured.
    pub monitor: Option<String>,
}

/// A security module that gives programs labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelModule {
    /// Labels are names of profiles.
    AppArmor,
    /// Labels are security contexts.
    Selinux,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// Its path in the container.
    pub path: PathBuf,
    /// The file type's bits (S_IFCHR, S_IFBLK, S_IFIFO).
    pub kind: u32,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookKind {
    /// Deprecated: as createRuntime.
    Prestart,
    /// In the runtime's namespaces, before pivot_root.
    CreateRuntime,
    /// In the container's namespaces, before pivot_root.
    CreateContainer,
    /// In the container, before its program.
    StartContainer,
    /// In the runtime's namespaces, after the program has begun.
    Poststart,
    /// In the runtime's namespaces, after the container was deleted.
    Poststop,
}

impl HookKind {
    /// The name in config.json.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }
}

/// The five capability sets, as the kernel's bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapabilityBits {
    /// What can ever be had.
    pub bounding: u64,
    /// What is in force.
    pub effective: u64,
    /// What may be put in force.
    pub permitted: u64,
    /// What programs with file capabilities may inherit.
    pub inheritable: u64,
    /// What programs without them inherit.
    pub ambient: u64,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant's documentation names its fields")]
pub enum Step {
    /// Finds where the cgroup will be.
    LocateCgroup {
        driver: Driver,
        path: Option<PathBuf>,
    },
    /// Finds where the group of resctrl will be.
    LocateResctrl(ResctrlGroup),
    /// Makes the group of resctrl, where it is missing, and writes what it may use.
    MakeResctrl(ResctrlGroup),
    /// Puts init into the group of resctrl.
    JoinResctrl(ResctrlGroup),
    /// Moves a network interface of the host's into the container's network namespace, with its addresses.
    MoveNetDevice {
        from: String,
        to: String,
        namespace: Option<PathBuf>,
    },
    /// Makes the cgroup, writes its limits, and gives it to the `owner` where the container may manage it (v2 only).
    CreateCgroup {
        driver: Driver,
        path: Option<PathBuf>,
        owner: Option<u32>,
    },
    /// Lets the next child begin in the pid namespace at `path`.
    EnterPidNamespace { path: PathBuf },
    /// Makes a mount whose files have other owners. Only who has power over the file system itself may, which is nobody in
    /// a new user namespace.
    MakeIdMappedMount {
        path: PathBuf,
        recursive: bool,
        map: IdMap,
        map_recursive: bool,
    },
    /// Makes the next process, in new namespaces.
    Clone { namespaces: u64 },
    /// Writes the user namespace's maps.
    WriteIdMaps {
        uids: Vec<IdRange>,
        gids: Vec<IdRange>,
    },
    /// Sets how readily the kernel kills init when memory is short (the parent of init's, or a process its own).
    SetOomScoreAdj { value: i32 },
    /// Writes the container's record, so that from here on other commands find it and `delete --force` can clean up.
    WriteRecord,
    /// Lets init go on from where it waits.
    LetGo,
    /// Waits until init has made the container's mounts.
    AwaitMounts,
    /// Waits until init has done all but start.
    AwaitReady,
    /// Writes the pid for others.
    WritePidFile { path: PathBuf },
    /// Sends a descriptor of the process to a socket.
    SendPidfd { path: PathBuf },
    /// Waits until init has become the program.
    AwaitProgram,

    /// Waits until the ids are mapped.
    AwaitIdMap,
    /// Waits until it is in the group of resctrl (exec).
    AwaitResctrl,
    /// Moves itself into the cgroup.
    JoinCgroup,
    /// Enters a namespace by path.
    JoinNamespace { kind: NamespaceKind, path: PathBuf },
    /// Keeps the container's processes from looking into this one.
    Hide,
    /// Enters all namespaces of the container's init (exec).
    JoinContainer { namespaces: u64 },
    /// Makes the cgroup the root of what is seen.
    UnshareCgroup,
    /// Makes a time namespace with offsets (clock, seconds, nanoseconds) and enters it.
    UnshareTime { offsets: Vec<(String, i64, u32)> },
    /// Becomes root of the user namespace.
    BecomeRoot,
    /// Makes an ipc namespace of which that root owns what there is to own.
    UnshareIpc,
    /// Leaves the caller's session.
    NewSession,
    /// Leaves the caller's session keyring for one of this name, made with the SELinux label if there is one.
    NewKeyring { name: String, label: Option<String> },
    /// Brings the loopback interface up.
    RaiseLoopback,
    /// Names the host.
    SetHostname { name: String },
    /// Names the domain.
    SetDomainname { name: String },
    /// Sets a kernel parameter, through a verified procfs.
    SetSysctl { key: String, value: String },
    /// Cuts the mounts off from the host's.
    IsolateMounts { propagation: u64 },
    /// Makes the root directory a mount of its own.
    BindRoot { path: PathBuf },
    /// Mounts something at a place resolved inside the root.
    Mount {
        destination: PathBuf,
        source: MountSource,
        options: MountOptions,
    },
    /// Makes a device node (a bind mount of the host's, where nodes are not allowed).
    MakeDevice(DeviceNode),
    /// Makes a symbolic link in /dev, where it is missing.
    MakeDevLink { name: String, target: String },
    /// Makes the terminal in the container's devpts.
    OpenTerminal { height: u16, width: u16 },
    /// Puts the terminal at /dev/console.
    MountConsole,
    /// Tells the parent that the mounts are made, and waits for it to run its hooks.
    AwaitHooks,
    /// Runs hooks here.
    RunHooks { kind: HookKind, count: usize },
    /// Hides a path.
    MaskIfPresent { path: PathBuf },
    /// Makes a path read-only.
    ReadonlyIfPresent { path: PathBuf },
    /// Makes the root's mount read-only.
    ReadonlyRoot,
    /// Makes the root the root, and lets the host's go.
    PivotRoot,
    /// The same by moving the mount, where the host's root is an initial ramdisk.
    MoveRoot,
    /// Puts the container's null device in place of the host's as standard input, output and error.
    ReopenNull,
    /// Gives the root's mount its propagation.
    PropagateRoot { propagation: u64, recursive: bool },
    /// Makes a directory, where it is missing.
    MakeDirectory { path: PathBuf },
    /// Sends the terminal's master end away.
    SendConsole,
    /// Makes the terminal the controlling one and standard input, output and error.
    AttachTerminal,
    /// Gives the pipes that the process begins with to a user of the container's user namespace.
    GivePipes { uid: u32 },
    /// Limits a resource.
    SetRlimit {
        name: String,
        resource: u32,
        soft: u64,
        hard: u64,
    },
    /// Sets the scheduling policy.
    SetScheduler(SchedulingAttributes),
    /// Sets the I/O priority.
    SetIoPriority { class: u8, level: u16 },
    /// Sets on which memory nodes it gets its memory (set_mempolicy's mode with flags, and a bit for each node).
    SetMemoryPolicy { mode: u32, nodes: Vec<u64> },
    /// Keeps to these processors.
    SetCpuAffinity { cpus: Vec<usize> },
    /// Asks a security module for a label for the program, through a verified procfs.
    SetExecLabel { module: LabelModule, label: String },
    /// Sets the execution domain.
    SetPersonality { persona: u64 },
    /// Gives up capabilities for ever.
    DropBounding { keep: u64 },
    /// Becomes the user, keeping privileges for the steps left.
    SetUser {
        uid: u32,
        gid: u32,
        groups: Vec<u32>,
    },
    /// Sets the mask of new files' permissions.
    SetUmask { mask: u32 },
    /// Goes to the working directory, and sees that it is inside.
    ChangeDirectory { path: PathBuf },
    /// Finds the program.
    FindProgram { name: String },
    /// Keeps nothing of this program's descriptors for the next.
    CloseDescriptors { first: u32 },
    /// Reports that all is ready and waits for `start`.
    AwaitStart,
    /// Gives up gaining privileges.
    NoNewPrivileges,
    /// Loads the filter of system calls.
    LoadSeccomp,
    /// Lets the command hand the filter's listener over, and waits for it.
    SendSeccompFd,
    /// Takes the final capabilities.
    SetCapabilities(CapabilityBits),
    /// Becomes the program.
    Execute,
}

impl Step {
    /// What is special in it.
    pub fn nature(&self) -> Nature {
        match self {
            Self::AwaitIdMap
            | Self::AwaitResctrl
            | Self::AwaitHooks
            | Self::AwaitStart
            | Self::AwaitMounts
            | Self::AwaitReady
            | Self::AwaitProgram
            | Self::LetGo
            | Self::SendSeccompFd
            | Self::SendConsole => Nature::Rendezvous,
            Self::MaskIfPresent { .. }
            | Self::ReadonlyIfPresent { .. }
            | Self::MakeDevLink { .. }
            | Self::ReopenNull
            | Self::MakeDirectory { .. }
            | Self::GivePipes { .. }
            | Self::DropBounding { .. } => Nature::Conditional,
            Self::Mount { .. }
            | Self::MakeDevice(_)
            | Self::OpenTerminal { .. }
            | Self::MountConsole
            | Self::SetSysctl { .. }
            | Self::SetExecLabel { .. }
            | Self::ChangeDirectory { .. }
            | Self::FindProgram { .. } => Nature::LateBound,
            _ => Nature::Plain,
        }
    }

    /// The step's name: that of its variant.
    pub fn name(&self) -> String {
        let text = format!("{self:?}");
        text.split([' ', '(', '{'])
            .next()
            .unwrap_or_default()
            .to_owned()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clone { namespaces } => {
                write!(f, "Clone")?;
                for bit in (0..64)
                    .map(|bit| 1u64 << bit)
                    .filter(|bit| namespaces & bit != 0)
                {
                    write!(f, " {}", NamespaceKind(bit).name())?;
                }
                Ok(())
            }
            Self::JoinNamespace { kind, path } => {
                write!(f, "JoinNamespace {} {}", kind.name(), path.display())
            }
            Self::SetCapabilities(bits) => write!(
                f,
                "SetCapabilities effective={:#x} permitted={:#x} inheritable={:#x} ambient={:#x}",
                bits.effective, bits.permitted, bits.inheritable, bits.ambient
            ),
            Self::DropBounding { keep } => write!(f, "DropBounding keep={keep:#x}"),
            Self::Mount {
                destination,
                source,
                options,
            } => write_mount(f, destination, source, options),
            other => {
                let text = format!("{other:?}");
                f.write_str(&text)
            }
        }
    }
}

fn write_mount(
    f: &mut fmt::Formatter<'_>,
    destination: &std::path::Path,
    source: &MountSource,
    options: &MountOptions,
) -> fmt::Result {
    write!(f, "Mount {} from ", destination.display())?;
    match source {
        MountSource::Bind(path) => write!(f, "the host's {}", path.display())?,
        MountSource::IdMapped { path, .. } => {
            write!(f, "the host's {}, owners mapped", path.display())?;
        }
        MountSource::Remount => write!(f, "what is there")?,
        MountSource::Filesystem { fstype, source } => write!(f, "a {fstype} ({source})")?,
        MountSource::Cgroup {
            namespaced: true, ..
        } => write!(f, "its cgroup, as the root")?,
        MountSource::Cgroup {
            namespaced: false, ..
        } => write!(f, "its cgroup")?,
    }
    write!(
        f,
        " set={:#x} clear={:#x}",
        options.attributes.set, options.attributes.clear
    )?;
    for (key, value) in &options.data {
        match value {
            Some(value) => write!(f, " {key}={value}")?,
            None => write!(f, " {key}")?,
        }
    }
    Ok(())
}
