//! The last steps, which a new container and `exec` share: from a process of the spec to its program.

use std::path::PathBuf;

use oci_spec::runtime::{Capabilities, Linux, LinuxCapabilities, PosixRlimitType};

use super::resctrl::resctrl_group;
use super::step::{CapabilityBits, Carrier, HookKind, LabelModule, Step};
use super::{InitPlan, PlannedStep, from_outside, scheduling};
use crate::capabilities;
use crate::spec::{Process, SpecError};

/// What the last steps are made from.
#[derive(Debug, Clone, Copy)]
pub struct ProcessRequest<'a> {
    /// The process.
    pub process: &'a Process,
    /// What the container's Linux section says of all its processes: execution domain, memory nodes, filter of calls.
    pub linux: Option<&'a Linux>,
    /// How many descriptors after the first three pass.
    pub preserve_fds: u32,
    /// Whether it waits to be let go.
    pub waits: bool,
    /// Whether a missing working directory is made.
    pub make_cwd: bool,
    /// How many startContainer hooks there are.
    pub start_hooks: usize,
}

impl InitPlan {
    /// The plan of a process in a running container, whose namespaces are `namespaces` and whose session keyring is
    /// `keyring`, if it has one of its own.
    ///
    /// # Errors
    /// When the process asks for what cannot be.
    pub fn exec(
        request: &ProcessRequest<'_>,
        namespaces: u64,
        announce: Announce,
        keyring: Option<String>,
    ) -> Result<Self, SpecError> {
        let mut plan = Self::default();
        let affinity = request.process.exec_cpu_affinity().as_ref();
        let cpus = |list: Option<&String>| scheduling::cpus("execCPUAffinity", list);
        if let Some(cpus) = cpus(affinity.and_then(|set| set.initial().as_ref()))? {
            plan.push(Carrier::Parent, Step::SetCpuAffinity { cpus });
        }
        if from_outside::helps(namespaces) && !request.process.terminal().unwrap_or(false) {
            let uid = request.process.user().uid();
            plan.push(Carrier::Parent, Step::GivePipes { uid });
        }
        plan.push(Carrier::Parent, Step::Clone { namespaces: 0 });
        plan.push(Carrier::Parent, Step::AwaitProgram);
        for step in announce.steps() {
            plan.push(Carrier::Parent, step);
        }
        // The container sees a process as soon as it is in its pid namespace, and with CAP_SYS_PTRACE looks into it. So
        // one that it does not see leaves the host's namespaces first, and what it makes has nothing of the host's left.
        let mut between = |step| plan.push(Carrier::Intermediate, step);
        between(Step::JoinCgroup);
        if let Some(cpus) = cpus(affinity.and_then(|set| set.cpu_affinity_final().as_ref()))? {
            between(Step::SetCpuAffinity { cpus });
        }
        if let Some(value) = request.process.oom_score_adj() {
            between(Step::SetOomScoreAdj { value });
        }
        between(Step::Hide);
        between(Step::JoinContainer { namespaces });
        between(Step::Clone { namespaces: 0 });
        let mut init = |step| plan.push(Carrier::Init, step);
        if namespaces & dhow_sys::namespace::USER != 0 {
            init(Step::BecomeRoot);
        }
        init(Step::NewSession);
        if let Some(name) = keyring {
            let label = request.process.selinux_label().clone();
            init(Step::NewKeyring { name, label });
        }
        if request.process.terminal().unwrap_or(false) {
            let (height, width) = terminal_size(Some(request.process));
            init(Step::OpenTerminal { height, width });
            init(Step::SendConsole);
            init(Step::AttachTerminal);
        }
        for step in process_steps(request)? {
            init(step);
        }
        if from_outside::helps(namespaces) {
            plan.limit_from_outside(Carrier::Intermediate, &Step::JoinCgroup);
        }
        Ok(plan)
    }
}

/// Who is told of a process that was made.
#[derive(Debug, Clone, Default)]
pub struct Announce {
    /// The file that gets its id.
    pub pid_file: Option<PathBuf>,
    /// The socket that gets a descriptor of it.
    pub pidfd_socket: Option<PathBuf>,
}

impl Announce {
    /// The parent's steps for it.
    pub(super) fn steps(&self) -> impl Iterator<Item = Step> {
        let file = self.pid_file.clone();
        let socket = self.pidfd_socket.clone();
        let file = file.map(|path| Step::WritePidFile { path });
        file.into_iter()
            .chain(socket.map(|path| Step::SendPidfd { path }))
    }
}

/// The size that the spec gives the terminal; 0 for none.
pub(super) fn terminal_size(process: Option<&Process>) -> (u16, u16) {
    let size = process.and_then(Process::console_size);
    let number = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
    size.map_or((0, 0), |size| (number(size.height()), number(size.width())))
}

/// Each of these, once: Docker names a group as often as it finds it, and the kernel would keep them all.
fn once<'a>(groups: impl Iterator<Item = &'a u32>) -> Vec<u32> {
    let mut kept = Vec::new();
    for group in groups {
        if !kept.contains(group) {
            kept.push(*group);
        }
    }
    kept
}

/// The steps in their order. Privileges go as late as can be, and what they are needed for comes before.
pub(super) fn process_steps(request: &ProcessRequest<'_>) -> Result<Vec<Step>, SpecError> {
    let process = request.process;
    let capabilities = capability_bits(process.capabilities().as_ref());
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    let mut steps = attribute_steps(process, request.linux)?;
    let cwd = process.cwd().clone();
    if request.make_cwd {
        steps.push(Step::MakeDirectory { path: cwd.clone() });
    }
    steps.push(Step::DropBounding {
        keep: capabilities.bounding,
    });
    let user = process.user();
    steps.push(Step::SetUser {
        uid: user.uid(),
        gid: user.gid(),
        groups: once(user.additional_gids().iter().flatten()),
    });
    steps.push(Step::ChangeDirectory { path: cwd });
    steps.push(Step::SetUmask {
        mask: user.umask().unwrap_or(0o022),
    });
    let name = process.args().iter().flatten().next().cloned();
    steps.push(Step::FindProgram {
        name: name.unwrap_or_default(),
    });
    steps.push(Step::CloseDescriptors {
        first: 3 + request.preserve_fds,
    });
    if request.waits {
        steps.push(Step::AwaitStart);
    }
    if request.start_hooks > 0 {
        steps.push(Step::RunHooks {
            kind: HookKind::StartContainer,
            count: request.start_hooks,
        });
    }
    // A filter needs either no_new_privileges or CAP_SYS_ADMIN: with the first it comes last, else before privileges go.
    if no_new_privileges {
        steps.push(Step::NoNewPrivileges);
        steps.push(Step::SetCapabilities(capabilities));
    }
    if let Some(profile) = request.linux.and_then(|linux| linux.seccomp().as_ref()) {
        steps.push(Step::LoadSeccomp);
        if crate::seccomp::asks(profile) {
            steps.push(Step::SendSeccompFd);
        }
    }
    if !no_new_privileges {
        steps.push(Step::SetCapabilities(capabilities));
    }
    steps.push(Step::Execute);
    Ok(steps)
}

/// What the kernel keeps with a process: limits, scheduling, execution domain, and the label that its program will have.
fn attribute_steps(process: &Process, linux: Option<&Linux>) -> Result<Vec<Step>, SpecError> {
    let mut steps = scheduling::steps(process, linux)?;
    for limit in process.rlimits().iter().flatten() {
        steps.push(Step::SetRlimit {
            name: limit.typ().to_string(),
            resource: resource_number(limit.typ()),
            soft: limit.soft(),
            hard: limit.hard(),
        });
    }
    let labels = [
        (LabelModule::AppArmor, process.apparmor_profile()),
        (LabelModule::Selinux, process.selinux_label()),
    ];
    for (module, label) in labels {
        if let Some(label) = label.clone().filter(|label| !label.is_empty()) {
            steps.push(Step::SetExecLabel { module, label });
        }
    }
    Ok(steps)
}

/// The kernel's number of a resource (asm-generic/resource.h; the same on the architectures that we build for).
fn resource_number(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => 0,
        PosixRlimitType::RlimitFsize => 1,
        PosixRlimitType::RlimitData => 2,
        PosixRlimitType::RlimitStack => 3,
        PosixRlimitType::RlimitCore => 4,
        PosixRlimitType::RlimitRss => 5,
        PosixRlimitType::RlimitNproc => 6,
        PosixRlimitType::RlimitNofile => 7,
        PosixRlimitType::RlimitMemlock => 8,
        PosixRlimitType::RlimitAs => 9,
        PosixRlimitType::RlimitLocks => 10,
        PosixRlimitType::RlimitSigpending => 11,
        PosixRlimitType::RlimitMsgqueue => 12,
        PosixRlimitType::RlimitNice => 13,
        PosixRlimitType::RlimitRtprio => 14,
        PosixRlimitType::RlimitRttime => 15,
    }
}

/// The sets of a process; none named is none had. What the bounding set of this process lacks cannot be given: the
/// specification asks for a warning and no more.
fn capability_bits(asked: Option<&LinuxCapabilities>) -> CapabilityBits {
    let Some(asked) = asked else {
        return CapabilityBits::default();
    };
    let bits = |set: &Option<Capabilities>| set.as_ref().map_or(0, capabilities::bits);
    CapabilityBits {
        bounding: bits(asked.bounding()),
        effective: bits(asked.effective()),
        permitted: bits(asked.permitted()),
        inheritable: bits(asked.inheritable()),
        ambient: bits(asked.ambient()),
    }
}

impl CapabilityBits {
    /// Without what `available` lacks; warns of what that takes away.
    #[must_use]
    pub fn within(self, available: u64) -> Self {
        let all = self.bounding | self.effective | self.permitted | self.inheritable | self.ambient;
        for name in capabilities::names(all & !available) {
            crate::log::warn(&format!(
                "ignoring capability {name}: it is outside this process's own bounding set"
            ));
        }
        Self {
            bounding: self.bounding & available,
            effective: self.effective & available,
            permitted: self.permitted & available,
            inheritable: self.inheritable & available,
            ambient: self.ambient & available,
        }
    }
}

impl InitPlan {
    /// The plan of a process in a running container of this id, which joins the container's group of resctrl if it has one.
    ///
    /// # Errors
    /// When that group cannot be.
    pub fn in_resctrl(mut self, linux: Option<&Linux>, id: &str) -> Result<Self, SpecError> {
        let Some(asked) = linux.and_then(|linux| linux.intel_rdt().as_ref()) else {
            return Ok(self);
        };
        let step = Step::JoinResctrl(resctrl_group(asked, id)?);
        let made = self.steps.iter().position(|planned| {
            planned.carrier == Carrier::Parent && matches!(planned.step, Step::Clone { .. })
        });
        let at = made.map_or(self.steps.len(), |made| made + 1);
        let parents = [step, Step::LetGo].map(|step| PlannedStep {
            carrier: Carrier::Parent,
            step,
        });
        self.steps.splice(at..at, parents);
        // What it made before it is in the group would stay outside.
        let own = |planned: &PlannedStep| planned.carrier == Carrier::Init;
        let at = self.steps.iter().position(own).unwrap_or(self.steps.len());
        let wait = PlannedStep {
            carrier: Carrier::Init,
            step: Step::AwaitResctrl,
        };
        self.steps.insert(at, wait);
        Ok(self)
    }

    /// The plan without the capabilities that `available` (this process's bounding set) lacks.
    #[must_use]
    pub fn within(mut self, available: u64) -> Self {
        for planned in &mut self.steps {
            if let Step::SetCapabilities(bits) = &mut planned.step {
                *bits = bits.within(available);
            }
        }
        self
    }
}

/// The bounding set of this process. Where the kernel does not say, nothing is taken away, and the step that sets
/// capabilities will say what cannot be.
pub fn bounding_set() -> u64 {
    crate::procfs::own().bounding
}
