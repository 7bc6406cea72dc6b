//! `exec`.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use dhow_sys::namespace;
use oci_spec::runtime::{Capability, LinuxCapabilities};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use super::Runtime;
use super::create::{Outcome, connect, shown_to_taker};
use super::passed;
use crate::cgroup::SubCgroups;
use crate::container::{ContainerDir, ContainerError, Record, Status, is_alive};
use crate::error::Error;
use crate::foreground::Foreground;
use crate::init::Resources;
use crate::parent::Parent;
use crate::plan::{Announce, InitPlan, ProcessRequest, bounding_set, keyring_name};
use crate::seccomp;
use crate::spec::{self, Process, Spec};

/// What is asked of a process in a running container.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// A document with the whole process; the options after `args` are not looked at then.
    pub process: Option<PathBuf>,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Working directory instead of the container's.
    pub cwd: Option<PathBuf>,
    /// Variables besides the container's.
    pub env: Vec<String>,
    /// With a terminal.
    pub tty: bool,
    /// User and group.
    pub user: Option<(u32, Option<u32>)>,
    /// More groups.
    pub additional_gids: Vec<u32>,
    /// AppArmor profile instead of the container's.
    pub apparmor: Option<String>,
    /// SELinux label instead of the container's.
    pub process_label: Option<String>,
    /// More capabilities.
    pub capabilities: Vec<Capability>,
    /// Whether privileges can be gained, instead of as the container's process.
    pub no_new_privileges: Option<bool>,
    /// Do not wait for its end.
    pub detach: bool,
    /// Where to write its id.
    pub pid_file: Option<PathBuf>,
    /// The socket that gets its terminal.
    pub console_socket: Option<PathBuf>,
    /// The socket that gets a descriptor of the process.
    pub pidfd_socket: Option<PathBuf>,
    /// How many descriptors after the first three pass.
    pub preserve_fds: u32,
    /// Cgroups below the container's own: `PATH`, or `CONTROLLER[,CONTROLLER...]:PATH`.
    pub cgroups: Vec<String>,
    /// Go ahead in a paused container.
    pub ignore_paused: bool,
}

/// Executes a process in a running container.
///
/// # Errors
/// When the container does not run or the process cannot be made.
pub fn exec(runtime: &Runtime, id: &str, options: &ExecOptions) -> Result<Outcome, Error> {
    passed::check(options.preserve_fds)?;
    let dir = ContainerDir::open(&runtime.root, id)?;
    let record = require_running(&dir, options.ignore_paused)?;
    let spec = dir.spec()?;
    let process = process_of(&spec, options)?;
    spec::check_process(&process)?;
    crate::labels::check(&process, None)?;
    let terminal = process.terminal().unwrap_or(false);
    if terminal && options.detach && options.console_socket.is_none() {
        return Err(Error::Asked(
            "cannot allocate tty if the runtime will detach without setting console socket; set --console-socket".to_owned(),
        ));
    }
    // Nothing of the host's that is not needed any more is open in what enters the container.
    drop(dir);
    let (target, namespaces) = open_target(&record)?;
    let profile = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().as_ref());
    let plan = InitPlan::exec(
        &ProcessRequest {
            process: &process,
            linux: spec.linux().as_ref(),
            // Sockets of systemd's are for a container's first process.
            preserve_fds: options.preserve_fds,
            waits: false,
            make_cwd: false,
            start_hooks: 0,
        },
        namespaces,
        Announce {
            pid_file: options.pid_file.clone(),
            pidfd_socket: options.pidfd_socket.clone(),
        },
        (!record.no_new_keyring).then(|| keyring_name(&record.id)),
    )?
    .in_resctrl(spec.linux().as_ref(), &record.id)?
    .within(bounding_set());
    let mut resources = Resources {
        target: Some(target),
        args: process.args().clone().unwrap_or_default(),
        env: process.env().clone().unwrap_or_default(),
        ..Resources::default()
    };
    if let Some(profile) = profile {
        resources.seccomp = Some(seccomp::compile(profile)?);
        resources.shown_to_taker = shown_to_taker(profile);
    }
    if let Some(path) = &options.console_socket {
        resources.console_socket = Some(connect("console socket", path)?);
    }
    let foreground = match options.detach {
        true => None,
        false => Some(Foreground::prepare()?),
    };
    let mut parent = Parent {
        plan: &plan,
        dir: None,
        cgroup: record.cgroup(),
        sub_cgroups: SubCgroups::parse(&options.cgroups)?,
        record,
        limits: None,
        rootless: None,
        seccomp: profile,
        hooks: None,
        resources,
        detached: options.detach,
        records: false,
        made: None,
        console: None,
        channel: None,
        early: Vec::new(),
        pid_namespace: None,
        resctrl: None,
    };
    if let Err(error) = parent.run() {
        parent.kill();
        let record = &parent.record;
        return Err(match error {
            // Whoever attends to the container has removed it meanwhile.
            Error::Cgroup(_) if !is_alive(record.pid, record.start_time) => has_stopped(record),
            error => error,
        });
    }
    let console = parent.console.take();
    match (foreground, parent.made.take()) {
        (Some(mut foreground), Some(made)) => {
            Ok(Outcome::Ended(foreground.attend(&made.pidfd, console)?))
        }
        _ => Ok(Outcome::Detached),
    }
}

fn require_running(dir: &ContainerDir, ignore_paused: bool) -> Result<Record, Error> {
    let record = dir.record()?;
    match dir.status(&record) {
        Status::Paused if ignore_paused => Ok(record),
        status if status.allows("exec") => Ok(record),
        status => Err(Error::Container(ContainerError::Status {
            verb: "exec",
            id: record.id,
            status,
        })),
    }
}

fn has_stopped(record: &Record) -> Error {
    Error::Container(ContainerError::Status {
        verb: "exec",
        id: record.id.clone(),
        status: Status::Stopped,
    })
}

/// The container's init, and the namespaces in which it differs from this process.
fn open_target(record: &Record) -> Result<(OwnedFd, u64), Error> {
    let error = |errno| match errno {
        // It has ended since its status was looked at.
        Errno::SRCH => has_stopped(record),
        errno => Error::system("open the container's init", errno),
    };
    let pid = Pid::from_raw(record.pid).ok_or_else(|| error(Errno::SRCH))?;
    let target = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(error)?;
    let mut namespaces = 0;
    for (name, flag) in [
        ("user", namespace::USER),
        ("mnt", namespace::MOUNT),
        ("pid", namespace::PID),
        ("net", namespace::NETWORK),
        ("ipc", namespace::IPC),
        ("uts", namespace::UTS),
        ("cgroup", namespace::CGROUP),
        ("time", namespace::TIME),
    ] {
        let of = |who: &str| rustix::fs::stat(format!("/proc/{who}/ns/{name}"));
        let (own, theirs) = match (of("self"), of(&record.pid.to_string())) {
            (Ok(own), Ok(theirs)) => (own, theirs),
            // Not every kernel has all. What cannot be looked at must not be taken for the host's, though.
            (Err(Errno::NOENT), _) => continue,
            // Its first thread has ended, others go on: nobody can enter any more.
            (_, Err(Errno::NOENT)) => return Err(error(Errno::SRCH)),
            (Err(errno), _) | (_, Err(errno)) => return Err(error(errno)),
        };
        if (own.st_dev, own.st_ino) != (theirs.st_dev, theirs.st_ino) {
            namespaces |= flag;
        }
    }
    // The look above was by number; it was at this process if it is still there.
    if !is_alive(record.pid, record.start_time) {
        return Err(error(Errno::SRCH));
    }
    Ok((target, namespaces))
}

/// The process that is asked for: a document, or the container's own with changes.
fn process_of(spec: &Spec, options: &ExecOptions) -> Result<Process, Error> {
    if let Some(path) = &options.process {
        return read_process(path);
    }
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_args(Some(options.args.clone()));
    process.set_terminal(Some(options.tty));
    process.set_console_size(None);
    if let Some(cwd) = &options.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(options.env.iter().cloned());
    process.set_env(Some(env));
    if let Some((uid, gid)) = options.user {
        let mut user = process.user().clone();
        user.set_uid(uid);
        user.set_gid(gid.unwrap_or(user.gid()));
        process.set_user(user);
    }
    if !options.additional_gids.is_empty() {
        let mut user = process.user().clone();
        let mut gids = user.additional_gids().clone().unwrap_or_default();
        gids.extend(&options.additional_gids);
        user.set_additional_gids(Some(gids));
        process.set_user(user);
    }
    if options.apparmor.is_some() {
        process.set_apparmor_profile(options.apparmor.clone());
    }
    if options.process_label.is_some() {
        process.set_selinux_label(options.process_label.clone());
    }
    if let Some(value) = options.no_new_privileges {
        process.set_no_new_privileges(Some(value));
    }
    if !options.capabilities.is_empty() {
        let sets = process.capabilities().clone().unwrap_or_default();
        process.set_capabilities(Some(with_capabilities(sets, &options.capabilities)));
    }
    Ok(process)
}

fn read_process(path: &Path) -> Result<Process, Error> {
    let text = std::fs::read(path).map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })?;
    Ok(spec::parse_process(&text, path)?)
}

/// The sets with more in them, as runc adds them: to all but the ambient one, where only what is inheritable counts.
fn with_capabilities(mut sets: LinuxCapabilities, more: &[Capability]) -> LinuxCapabilities {
    let add = |set: &Option<std::collections::HashSet<Capability>>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend(more);
        Some(set)
    };
    sets.set_bounding(add(sets.bounding()));
    sets.set_effective(add(sets.effective()));
    sets.set_permitted(add(sets.permitted()));
    sets
}
