//! Joining another container's pid namespace last: its processes see who comes in, and with CAP_SYS_PTRACE look into it, so
//! what they see is to have nothing of the host's left. As in exec, a process that they do not see makes the container's
//! mounts and lets the host go, and only then makes init in their midst.
//!
//! A procfs is of the pid namespace of who mounts it, unless the kernel lets it be named (Linux 6.17); where it does not,
//! or where hooks are to know init's id before, init is there from the beginning, as in runc.

use std::path::PathBuf;

use dhow_sys::namespace;
use rustix::mount::FsOpenFlags;

use super::step::{Carrier, MountSource, Step};
use super::{InitPlan, PlannedStep};

/// The option of procfs that names its pid namespace.
const PID_NAMESPACE: &str = "pidns";

impl InitPlan {
    /// Changes a plan whose steps until the program's own are there, if it joins a pid namespace and can join it last.
    pub(super) fn enter_pid_namespace_last(&mut self) {
        let entered = self.steps.iter().find_map(|planned| match &planned.step {
            Step::EnterPidNamespace { path } => Some(path.clone()),
            _ => None,
        });
        if let Some(path) = entered
            && self.needs_init_only_when_it_is_ready()
            && procfs_names_its_namespace()
        {
            self.put_a_process_between(path);
        }
    }

    /// Whether the parent has no business with init before that is ready, and no hook runs before.
    fn needs_init_only_when_it_is_ready(&self) -> bool {
        let runs_hooks = self
            .of(Carrier::Init)
            .any(|step| matches!(step, Step::RunHooks { .. }));
        let no_business = self
            .of(Carrier::Parent)
            .skip_while(|step| !matches!(step, Step::Clone { .. }))
            .take_while(|step| **step != Step::AwaitReady)
            .all(|step| match step {
                Step::Clone { namespaces } => namespaces & namespace::USER == 0,
                Step::SetOomScoreAdj { .. } | Step::LetGo | Step::WriteRecord => true,
                _ => false,
            });
        no_business && !runs_hooks
    }

    fn put_a_process_between(&mut self, path: PathBuf) {
        let mut rest = Vec::new();
        let mut between = Vec::new();
        let mut init = Vec::new();
        let mut score = None;
        for planned in std::mem::take(&mut self.steps) {
            match (planned.carrier, planned.step) {
                (Carrier::Parent, Step::EnterPidNamespace { .. }) => {}
                // What it waited for it does itself.
                (Carrier::Parent, Step::SetOomScoreAdj { value }) => score = Some(value),
                (Carrier::Init, Step::AwaitIdMap) => {}
                (
                    Carrier::Init,
                    step @ (Step::NewSession | Step::SendConsole | Step::AttachTerminal),
                ) => init.push(step),
                (Carrier::Init, step) => between.push(of_namespace(step, &path)),
                (carrier, step) => rest.push(PlannedStep { carrier, step }),
            }
        }
        if score.is_some()
            && let Some(at) = rest.iter().position(|planned| planned.step == Step::LetGo)
        {
            rest.remove(at);
        }
        self.steps = rest;
        if let Some(value) = score {
            self.push(Carrier::Intermediate, Step::SetOomScoreAdj { value });
        }
        self.push(Carrier::Intermediate, Step::Hide);
        let kind = super::NamespaceKind(namespace::PID);
        self.push(Carrier::Intermediate, Step::JoinNamespace { kind, path });
        for step in between {
            self.push(Carrier::Intermediate, step);
        }
        self.push(Carrier::Intermediate, Step::Clone { namespaces: 0 });
        for step in init {
            self.push(Carrier::Init, step);
        }
    }
}

/// A mount of procfs is of the namespace that is joined, not of who mounts it.
fn of_namespace(mut step: Step, path: &std::path::Path) -> Step {
    if let Step::Mount {
        source: MountSource::Filesystem { fstype, .. },
        options,
        ..
    } = &mut step
        && fstype == "proc"
        && let Some(path) = path.to_str()
    {
        let option = (PID_NAMESPACE.to_owned(), Some(path.to_owned()));
        options.data.push(option);
    }
    step
}

fn procfs_names_its_namespace() -> bool {
    let named = || {
        let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(&context, PID_NAMESPACE, "/proc/self/ns/pid")
    };
    named().is_ok()
}
