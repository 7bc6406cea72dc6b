//! The plan of a new container.

use std::path::{Path, PathBuf};

use dhow_sys::mount as attr;
use dhow_sys::namespace;
use oci_spec::runtime::{Linux, LinuxNamespaceType};

use super::devices::device_steps;
use super::mounts::{MountContext, MountSteps, clean, id_ranges, propagation};
use super::net_devices::net_device_steps;
use super::process::{Announce, ProcessRequest, process_steps, terminal_size};
use super::resctrl::resctrl_group;
use super::step::{Carrier, HookKind, IdMap, NamespaceKind, Step};
use super::{InitPlan, MountSource, from_outside};
use crate::cgroup::Driver;
use crate::hooks;
use crate::privilege::is_unprivileged;
use crate::spec::{Bundle, Spec, SpecError};

/// What is asked besides the bundle.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// The container's id.
    pub id: String,
    /// Move the root's mount instead of pivot_root.
    pub no_pivot: bool,
    /// Keep the caller's keyring.
    pub no_new_keyring: bool,
    /// Who is told of init.
    pub announce: Announce,
    /// How many descriptors after the first three pass to the container.
    pub preserve_fds: u32,
    /// Start it too (`run`).
    pub starts: bool,
    /// Who makes its cgroup.
    pub driver: Driver,
}

/// The namespaces of a container: made, and joined.
#[derive(Debug, Default)]
struct Namespaces {
    new: u64,
    joined: Vec<(u64, PathBuf)>,
}

impl Namespaces {
    fn of(linux: &Linux) -> Self {
        let mut sorted = Self::default();
        for wanted in linux.namespaces().iter().flatten() {
            let flag = match wanted.typ() {
                LinuxNamespaceType::Mount => namespace::MOUNT,
                LinuxNamespaceType::Cgroup => namespace::CGROUP,
                LinuxNamespaceType::Uts => namespace::UTS,
                LinuxNamespaceType::Ipc => namespace::IPC,
                LinuxNamespaceType::User => namespace::USER,
                LinuxNamespaceType::Pid => namespace::PID,
                LinuxNamespaceType::Network => namespace::NETWORK,
                LinuxNamespaceType::Time => namespace::TIME,
            };
            match wanted.path() {
                Some(path) if !path.as_os_str().is_empty() => {
                    sorted.joined.push((flag, path.clone()));
                }
                _ => sorted.new |= flag,
            }
        }
        // In another mount namespace the paths of the others would be somebody else's.
        sorted
            .joined
            .sort_by_key(|(flag, _)| *flag == namespace::MOUNT);
        sorted
    }

    fn makes(&self, flag: u64) -> bool {
        self.new & flag != 0
    }

    fn joins(&self, flag: u64) -> Option<&PathBuf> {
        self.joined
            .iter()
            .find(|(joined, _)| *joined == flag)
            .map(|(_, path)| path)
    }

    /// Whether the container has one that is not this process's too: a path may lead there.
    fn has_of_its_own(&self, flag: u64) -> bool {
        let Some(path) = self.joins(flag) else {
            return self.makes(flag);
        };
        let own = format!("/proc/self/ns/{}", NamespaceKind(flag).name());
        let of = |path: &Path| rustix::fs::stat(path).map(|stat| (stat.st_dev, stat.st_ino));
        // One that cannot be looked at cannot be joined either, which will be said then.
        of(path).ok() != of(Path::new(&own)).ok()
    }

    fn has(&self, flag: u64) -> bool {
        self.all() & flag != 0
    }

    /// All that the container has, made or joined.
    fn all(&self) -> u64 {
        self.joined
            .iter()
            .fold(self.new, |all, (joined, _)| all | joined)
    }

    /// Whether a process between has to enter namespaces, and make init from there. A user namespace can be entered but not left
    /// again; in a new one there is no power over those of others, which so are entered before it is made; and from another
    /// pid namespace only who has power over this process's own comes back.
    fn take_a_process_between(&self) -> bool {
        let others = namespace::MOUNT | namespace::PID;
        let joins_others = self.joined.iter().any(|(flag, _)| flag & others == 0);
        self.joins(namespace::USER).is_some()
            || (self.makes(namespace::USER) && joins_others)
            || (self.joins(namespace::PID).is_some() && is_unprivileged())
    }
}

impl InitPlan {
    /// The plan of a new container.
    ///
    /// # Errors
    /// When the bundle asks for what cannot be.
    pub fn create(bundle: &Bundle, request: &CreateRequest) -> Result<Self, SpecError> {
        let spec = &bundle.spec;
        let linux = spec.linux().clone().unwrap_or_default();
        let process = bundle.process().ok_or_else(|| SpecError::Invalid {
            what: "process is missing".to_owned(),
        })?;
        let namespaces = Namespaces::of(&linux);
        let mut plan = Self::default();
        let mounts = mount_steps(bundle, &linux, &namespaces)?;
        plan.parent_steps(spec, &linux, &namespaces, request, mounts.before)?;
        plan.namespace_steps(spec, &linux, &namespaces, request)?;
        plan.file_system_steps(bundle, &linux, mounts.mounts, request)?;
        // Who is in between takes up room beside init for a moment.
        if !may_have_one_process_only(&linux) {
            plan.enter_pid_namespace_last();
        }
        let tail = process_steps(&ProcessRequest {
            process,
            linux: Some(&linux),
            preserve_fds: request.preserve_fds,
            waits: true,
            make_cwd: true,
            start_hooks: hooks::of(spec.hooks().as_ref(), HookKind::StartContainer).len(),
        })?;
        for step in tail {
            plan.push(Carrier::Init, step);
        }
        if from_outside::helps(namespaces.all()) {
            plan.limit_from_outside(Carrier::Parent, &Step::AwaitReady);
        }
        Ok(plan)
    }

    fn parent_steps(
        &mut self,
        spec: &Spec,
        linux: &Linux,
        namespaces: &Namespaces,
        request: &CreateRequest,
        before: Vec<Step>,
    ) -> Result<(), SpecError> {
        let path = linux.cgroups_path().clone();
        let resctrl = linux.intel_rdt().as_ref();
        let resctrl = resctrl.map(|asked| resctrl_group(asked, &request.id));
        let resctrl = resctrl.transpose()?;
        // First the record of what will be made: after a crash it is found by it.
        let driver = request.driver;
        self.push(
            Carrier::Parent,
            Step::LocateCgroup {
                driver,
                path: path.clone(),
            },
        );
        if let Some(group) = &resctrl {
            self.push(Carrier::Parent, Step::LocateResctrl(group.clone()));
        }
        self.push(Carrier::Parent, Step::WriteRecord);
        self.push(
            Carrier::Parent,
            Step::CreateCgroup {
                driver,
                path,
                owner: cgroup_owner(spec, linux, namespaces),
            },
        );
        if let Some(group) = &resctrl {
            self.push(Carrier::Parent, Step::MakeResctrl(group.clone()));
        }
        for step in before {
            self.push(Carrier::Parent, step);
        }
        let between = namespaces.take_a_process_between();
        // Cgroup namespaces take the cgroup that one is in, and time namespaces their offsets, so init makes them itself.
        let mut new = namespaces.new & !(namespace::CGROUP | namespace::TIME);
        if namespaces.has(namespace::USER) {
            // Its message queues belong to who makes it, which is to be the root that init becomes.
            new &= !namespace::IPC;
        }
        let joined_pid = namespaces.joins(namespace::PID);
        if let Some(path) = joined_pid.filter(|_| !between) {
            let path = path.clone();
            self.push(Carrier::Parent, Step::EnterPidNamespace { path });
        }
        if between {
            self.push(Carrier::Parent, Step::Clone { namespaces: 0 });
            if namespaces.joins(namespace::USER).is_some() {
                if let Some(value) = oom_score_adj(spec) {
                    // Only while it is not hidden could the parent do this, without privileges.
                    self.push(Carrier::Intermediate, Step::SetOomScoreAdj { value });
                }
                // Whoever is root in that namespace has power over all who enter it, and this one still has something of
                // the host's.
                self.push(Carrier::Intermediate, Step::Hide);
            }
            let mut joined: Vec<_> = namespaces.joined.iter().collect();
            // The host's root may enter all of them from outside, and what the host owns only from there; everyone else
            // has power over them only from inside the user namespace.
            let user_last = dhow_sys::process::user_at_start() == 0;
            joined.sort_by_key(|(flag, _)| (*flag == namespace::USER) == user_last);
            for (flag, path) in joined {
                if *flag == namespace::MOUNT {
                    continue;
                }
                self.push(
                    Carrier::Intermediate,
                    Step::JoinNamespace {
                        kind: NamespaceKind(*flag),
                        path: path.clone(),
                    },
                );
            }
            self.push(Carrier::Intermediate, Step::Clone { namespaces: new });
        } else {
            self.push(Carrier::Parent, Step::Clone { namespaces: new });
        }
        if namespaces.makes(namespace::USER) {
            self.push(
                Carrier::Parent,
                Step::WriteIdMaps {
                    uids: id_ranges(linux.uid_mappings().as_deref()),
                    gids: id_ranges(linux.gid_mappings().as_deref()),
                },
            );
        }
        if from_outside::helps(namespaces.all())
            && let Some(process) = spec.process()
            && !process.terminal().unwrap_or(false)
        {
            let uid = process.user().uid();
            self.push(Carrier::Parent, Step::GivePipes { uid });
        }
        if let Some(value) = oom_score_adj_by_parent(spec, namespaces) {
            self.push(Carrier::Parent, Step::SetOomScoreAdj { value });
        }
        if awaits_id_map(spec, namespaces) {
            self.push(Carrier::Parent, Step::LetGo);
        }
        self.push(Carrier::Parent, Step::WriteRecord);
        if let Some(group) = resctrl {
            self.push(Carrier::Parent, Step::JoinResctrl(group));
        }
        let joined = namespaces.joins(namespace::NETWORK);
        for step in net_device_steps(linux, namespaces.has(namespace::NETWORK), joined)? {
            self.push(Carrier::Parent, step);
        }
        if awaits_hooks(spec) {
            self.push(Carrier::Parent, Step::AwaitMounts);
            for kind in [HookKind::Prestart, HookKind::CreateRuntime] {
                let count = hooks::of(spec.hooks().as_ref(), kind).len();
                if count > 0 {
                    self.push(Carrier::Parent, Step::RunHooks { kind, count });
                }
            }
            self.push(Carrier::Parent, Step::LetGo);
        }
        self.push(Carrier::Parent, Step::AwaitReady);
        for step in request.announce.steps() {
            self.push(Carrier::Parent, step);
        }
        // Now that its id is on record, init may live without this process.
        self.push(Carrier::Parent, Step::LetGo);
        if request.starts {
            self.push(Carrier::Parent, Step::AwaitProgram);
            let kind = HookKind::Poststart;
            let count = hooks::of(spec.hooks().as_ref(), kind).len();
            if count > 0 {
                self.push(Carrier::Parent, Step::RunHooks { kind, count });
            }
        }
        Ok(())
    }

    fn namespace_steps(
        &mut self,
        spec: &Spec,
        linux: &Linux,
        namespaces: &Namespaces,
        request: &CreateRequest,
    ) -> Result<(), SpecError> {
        let between = namespaces.take_a_process_between();
        let mut init = |step| self.push(Carrier::Init, step);
        if awaits_id_map(spec, namespaces) {
            init(Step::AwaitIdMap);
        }
        init(Step::JoinCgroup);
        for (flag, path) in &namespaces.joined {
            let done_before = *flag == namespace::PID || (between && *flag != namespace::MOUNT);
            if !done_before {
                init(Step::JoinNamespace {
                    kind: NamespaceKind(*flag),
                    path: path.clone(),
                });
            }
        }
        if namespaces.makes(namespace::CGROUP) {
            init(Step::UnshareCgroup);
        }
        if namespaces.makes(namespace::TIME) {
            let mut offsets: Vec<_> = linux
                .time_offsets()
                .iter()
                .flatten()
                .map(|(clock, by)| {
                    (
                        clock.clone(),
                        by.secs().unwrap_or(0),
                        by.nanosecs().unwrap_or(0),
                    )
                })
                .collect();
            offsets.sort();
            init(Step::UnshareTime { offsets });
        }
        if namespaces.has(namespace::USER) {
            init(Step::BecomeRoot);
            if namespaces.makes(namespace::IPC) {
                init(Step::UnshareIpc);
            }
        }
        init(Step::NewSession);
        if !request.no_new_keyring {
            let process = spec.process().as_ref();
            init(Step::NewKeyring {
                name: keyring_name(&request.id),
                label: process.and_then(|process| process.selinux_label().clone()),
            });
        }
        if namespaces.makes(namespace::NETWORK) {
            init(Step::RaiseLoopback);
        }
        if let Some(name) = spec.hostname().clone().filter(|name| !name.is_empty()) {
            init(Step::SetHostname { name });
        }
        if let Some(name) = spec.domainname().clone().filter(|name| !name.is_empty()) {
            init(Step::SetDomainname { name });
        }
        let mut sysctls: Vec<_> = linux.sysctl().iter().flatten().collect();
        sysctls.sort();
        for (key, value) in sysctls {
            check_sysctl(key, namespaces)?;
            init(Step::SetSysctl {
                key: key.clone(),
                value: value.clone(),
            });
        }
        Ok(())
    }

    fn file_system_steps(
        &mut self,
        bundle: &Bundle,
        linux: &Linux,
        mounts: Vec<Step>,
        request: &CreateRequest,
    ) -> Result<(), SpecError> {
        let spec = &bundle.spec;
        let root_propagation = match linux.rootfs_propagation().as_deref() {
            None | Some("") => None,
            Some(word) => Some(propagation(word)?),
        };
        let mut steps = Vec::new();
        // Never back to the host: slaves get what is mounted there later, private ones do not.
        let isolated = match root_propagation {
            Some((attr::PRIVATE | attr::UNBINDABLE, _)) => attr::PRIVATE,
            _ => attr::SLAVE,
        };
        steps.push(Step::IsolateMounts {
            propagation: isolated,
        });
        steps.push(Step::BindRoot {
            path: bundle.rootfs.clone(),
        });
        let mut host_dev = false;
        for step in mounts {
            if let Step::Mount {
                destination,
                source: MountSource::Bind(_) | MountSource::IdMapped { .. },
                ..
            } = &step
            {
                host_dev |= destination == Path::new("/dev");
            }
            steps.push(step);
        }
        if !host_dev {
            // A /dev of the host's has its own nodes, and is not ours to add to.
            steps.extend(device_steps(linux)?);
        }
        let terminal = bundle
            .process()
            .is_some_and(|process| process.terminal().unwrap_or(false));
        if terminal {
            let (height, width) = terminal_size(bundle.process());
            steps.push(Step::OpenTerminal { height, width });
            if !host_dev {
                steps.push(Step::MountConsole);
            }
        }
        if awaits_hooks(spec) {
            steps.push(Step::AwaitHooks);
        }
        let kind = HookKind::CreateContainer;
        let count = hooks::of(spec.hooks().as_ref(), kind).len();
        if count > 0 {
            steps.push(Step::RunHooks { kind, count });
        }
        let root = spec.root().as_ref();
        let mut readonly_root = root.is_some_and(|root| root.readonly().unwrap_or(false));
        for path in linux.readonly_paths().iter().flatten() {
            let path = clean(Path::new(path));
            match path == Path::new("/") {
                true => readonly_root = true,
                false => steps.push(Step::ReadonlyIfPresent { path }),
            }
        }
        for path in linux.masked_paths().iter().flatten() {
            let path = clean(Path::new(path));
            steps.push(Step::MaskIfPresent { path });
        }
        if readonly_root {
            steps.push(Step::ReadonlyRoot);
        }
        steps.push(if request.no_pivot {
            Step::MoveRoot
        } else {
            Step::PivotRoot
        });
        if !terminal {
            steps.push(Step::ReopenNull);
        }
        if let Some((propagation, recursive)) = root_propagation {
            steps.push(Step::PropagateRoot {
                propagation,
                recursive,
            });
        }
        if terminal {
            steps.push(Step::SendConsole);
            steps.push(Step::AttachTerminal);
        }
        for step in steps {
            self.push(Carrier::Init, step);
        }
        Ok(())
    }
}

/// The steps of a container's mounts.
fn mount_steps(
    bundle: &Bundle,
    linux: &Linux,
    namespaces: &Namespaces,
) -> Result<MountSteps, SpecError> {
    let made = || IdMap::Ranges {
        uids: id_ranges(linux.uid_mappings().as_deref()),
        gids: id_ranges(linux.gid_mappings().as_deref()),
    };
    let joined = namespaces.joins(namespace::USER);
    let context = MountContext {
        bundle: &bundle.dir,
        cgroup_namespace: namespaces.has(namespace::CGROUP),
        label: linux
            .mount_label()
            .as_deref()
            .filter(|label| !label.is_empty()),
        container_map: match joined {
            Some(path) => Some(IdMap::Namespace(path.clone())),
            None => namespaces.makes(namespace::USER).then(made),
        },
    };
    let mut steps = MountSteps::default();
    for mount in bundle.spec.mounts().iter().flatten() {
        steps.add(mount, &context)?;
    }
    Ok(steps)
}

/// The name of a container's session keyring: runc's.
pub(crate) fn keyring_name(id: &str) -> String {
    format!("_ses.{id}")
}

fn may_have_one_process_only(linux: &Linux) -> bool {
    let pids = linux.resources().as_ref().and_then(|of| of.pids().as_ref());
    pids.is_some_and(|pids| pids.limit() == 1)
}

/// Whether the parent has something to do with init before it may go on.
fn awaits_id_map(spec: &Spec, namespaces: &Namespaces) -> bool {
    namespaces.makes(namespace::USER) || oom_score_adj_by_parent(spec, namespaces).is_some()
}

/// Who joins a user namespace is hidden from the parent too, and sets its own.
fn oom_score_adj_by_parent(spec: &Spec, namespaces: &Namespaces) -> Option<i32> {
    oom_score_adj(spec).filter(|_| namespaces.joins(namespace::USER).is_none())
}

fn oom_score_adj(spec: &Spec) -> Option<i32> {
    let process = spec.process().as_ref()?;
    process.oom_score_adj()
}

/// Whether the parent has hooks to run when the mounts are made.
fn awaits_hooks(spec: &Spec) -> bool {
    [HookKind::Prestart, HookKind::CreateRuntime]
        .into_iter()
        .any(|kind| !hooks::of(spec.hooks().as_ref(), kind).is_empty())
}

/// A parameter must belong to a namespace that the container has of its own, or it would be the host's that changes.
fn check_sysctl(key: &str, namespaces: &Namespaces) -> Result<(), SpecError> {
    const IPC: [&str; 10] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.msg_next_id",
        "kernel.sem_next_id",
    ];
    let dotted = key.replace('/', ".");
    let (needed, name) = if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
        (namespace::IPC, "ipc")
    } else if dotted.starts_with("net.") {
        (namespace::NETWORK, "network")
    } else if dotted == "kernel.domainname" || dotted == "kernel.hostname" {
        (namespace::UTS, "uts")
    } else if dotted.starts_with("user.") {
        (namespace::USER, "user")
    } else {
        return Err(SpecError::Invalid {
            what: format!("linux.sysctl {key:?} is not in a separate kernel namespace"),
        });
    };
    if namespaces.has_of_its_own(needed) {
        return Ok(());
    }
    Err(SpecError::Invalid {
        what: format!("linux.sysctl {key:?} needs a {name} namespace of the container's own"),
    })
}

/// Who gets the container's cgroup, as a user of the host: the specification gives it to the user of the container's process where
/// that may write to it, with a cgroup namespace of its own.
fn cgroup_owner(spec: &Spec, linux: &Linux, namespaces: &Namespaces) -> Option<u32> {
    let writable = spec.mounts().iter().flatten().any(|mount| {
        mount.source().as_deref() == Some(Path::new("cgroup"))
            && mount.destination() == Path::new("/sys/fs/cgroup")
            && !mount
                .options()
                .iter()
                .flatten()
                .any(|option| option == "ro")
    });
    if !writable || namespaces.new & namespace::CGROUP == 0 {
        return None;
    }
    let uid = spec.process().as_ref()?.user().uid();
    if namespaces.new & namespace::USER == 0 {
        // In a user namespace that is joined nobody tells here who that is on the host.
        return namespaces.joins(namespace::USER).is_none().then_some(uid);
    }
    linux.uid_mappings().iter().flatten().find_map(|range| {
        let offset = uid.checked_sub(range.container_id())?;
        (offset < range.size()).then(|| range.host_id().checked_add(offset))?
    })
}
