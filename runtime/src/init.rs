//! Carrying out the steps of init, one after another, between the clone and the program.

mod console;
mod devices;
mod identity;
mod label;
mod mask;
mod mounts;
mod namespaces;
mod program;
mod root;
mod scheduling;
mod stdio;
mod tree;

pub(crate) use mounts::hierarchy_name;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Hook;
use rustix::io::Errno;

use crate::cgroup::{CgroupRecord, Joiner};
use crate::channel::{Channel, Message};
use crate::error::Kind;
use crate::hooks;
use crate::plan::{Carrier, HookKind, InitPlan, Step};
use crate::root_dir::RootDir;
use crate::seccomp::Program;

pub(crate) use scheduling::set_affinity;

/// A step that failed: which, doing what, and what the system answered.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StepError {
    /// The step's name.
    pub step: String,
    /// One line for people.
    pub message: String,
    /// What the system answered, if it was the system.
    pub errno: Option<Errno>,
    /// What a caller may decide by.
    pub kind: Kind,
}

impl StepError {
    /// The system refused `doing`.
    pub(crate) fn system(doing: impl std::fmt::Display, errno: Errno) -> Self {
        Self {
            step: String::new(),
            message: format!("{doing}: {errno}"),
            errno: Some(errno),
            kind: Kind::Other,
        }
    }

    /// Something else than the system says no.
    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self {
            step: String::new(),
            message: message.into(),
            errno: None,
            kind: Kind::Other,
        }
    }

    pub(crate) fn in_step(mut self, step: &Step) -> Self {
        self.step = step.name();
        if self.kind == Kind::Other {
            self.message = format!("{}: {}", self.step, self.message);
        }
        self
    }

    /// As bytes for the channel: errno, kind, step and message, with zero bytes between.
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        let errno = self.errno.map_or(0, Errno::raw_os_error);
        let text = format!(
            "{errno}\0{}\0{}\0{}",
            self.kind.name(),
            self.step,
            self.message
        );
        bytes.extend_from_slice(&text.as_bytes()[..text.len().min(8000)]);
    }

    /// From the bytes of the channel.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut parts = text.splitn(4, '\0');
        let errno = parts
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or(0);
        let kind = Kind::from_name(parts.next().unwrap_or_default());
        Self {
            step: parts.next().unwrap_or_default().to_owned(),
            message: parts.next().unwrap_or_default().to_owned(),
            errno: (errno != 0).then(|| Errno::from_raw_os_error(errno)),
            kind,
        }
    }
}

/// Names what was being done when the system refused.
pub(crate) trait Doing<T> {
    /// The error's words before what the system answered.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, StepError>;
}

impl<T> Doing<T> for rustix::io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, StepError> {
        self.map_err(|errno| StepError::system(what(), errno))
    }
}

/// What init needs besides the plan: opened and compiled before the clone.
#[derive(Default)]
pub(crate) struct Resources {
    /// To the parent.
    pub(crate) channel: Option<Channel>,
    /// For joining the cgroup.
    pub(crate) joiner: Option<Joiner>,
    /// Where the cgroup is.
    pub(crate) cgroup: Option<CgroupRecord>,
    /// Where `start` will call; without it, the parent says when to go.
    pub(crate) listener: Option<OwnedFd>,
    /// The filter of system calls.
    pub(crate) seccomp: Option<Program>,
    /// Whether who takes the filter's listener has no power over processes that hide from him (he is not root).
    pub(crate) shown_to_taker: bool,
    /// The mounts with mapped ids that the parent has made.
    pub(crate) id_mapped: Vec<Option<OwnedFd>>,
    /// The first descriptor that is not to pass to the program: from here on, what is not this program's own is the caller's.
    pub(crate) first_foreign: Option<u32>,
    /// The container's init (exec).
    pub(crate) target: Option<OwnedFd>,
    /// The hooks that init runs itself.
    pub(crate) create_container: Vec<Hook>,
    /// The hooks that init runs itself.
    pub(crate) start_container: Vec<Hook>,
    /// The state for those hooks, without the pid.
    pub(crate) hook_state: Option<crate::container::Record>,
    /// Where the terminal's master end goes; without it, to the parent.
    pub(crate) console_socket: Option<OwnedFd>,
    /// The program's arguments.
    pub(crate) args: Vec<String>,
    /// The program's environment.
    pub(crate) env: Vec<String>,
}

/// Keeps processes of the container, which may be in the same pid namespace, from looking into this one while it still
/// has something of the host's; execve ends it. Before a user namespace's maps are written the parent must look, though.
fn hide() {
    // It cannot fail with this value; if it did, nothing else would be the worse for it.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Limits a resource of a process; without one, of this.
pub(crate) fn set_limit(
    process: Option<i32>,
    name: &str,
    resource: u32,
    (soft, hard): (u64, u64),
) -> Result<(), StepError> {
    let hint = |errno| match errno {
        Errno::PERM => " (raising a hard limit takes CAP_SYS_RESOURCE)",
        _ => "",
    };
    dhow_sys::process::set_resource_limit(process, resource, soft, hard).map_err(|errno| {
        let what = format!("set {name} to {soft}:{hard}{}", hint(errno));
        StepError::system(what, errno)
    })
}

/// Init's work in progress.
pub(crate) struct Init {
    resources: Resources,
    root: Option<RootDir>,
    /// The directory of devices that is open.
    device_dir: Option<(std::path::PathBuf, OwnedFd)>,
    mask: mask::MaskSources,
    /// A file system that was just mounted and has nothing in it but mounts right below it, and where it is.
    new_directory: Option<(std::path::PathBuf, OwnedFd)>,
    /// The mounts at /proc and /sys: what is hidden in them is looked up from here, and not by their paths, since somebody who
    /// shares the root's directory may exchange the names in it at any time.
    held: Vec<(PathBuf, RootDir)>,
    /// Descriptors of the host's and of mounts that are not needed any more; closed together.
    spent: Vec<OwnedFd>,
    /// What the first three descriptors are, when somebody has looked.
    streams: Option<stdio::Streams>,
    /// Whether this process has entered a user namespace.
    in_user_namespace: bool,
    terminal: Option<console::Terminal>,
    program: Option<program::Found>,
    /// The user that this process has become.
    uid: Option<u32>,
    /// The listener of the filter of system calls.
    listener: Option<OwnedFd>,
}

impl Init {
    pub(crate) fn new(resources: Resources) -> Self {
        Self {
            resources,
            root: None,
            device_dir: None,
            mask: mask::MaskSources::default(),
            new_directory: None,
            held: Vec::new(),
            spent: Vec::new(),
            streams: None,
            in_user_namespace: false,
            terminal: None,
            program: None,
            uid: None,
            listener: None,
        }
    }

    /// Carries out init's steps; comes back only when one failed, which has then been told.
    pub(crate) fn run(mut self, plan: &InitPlan) -> ! {
        // Modes are given in full until the step that sets the container's own mask.
        rustix::process::umask(rustix::fs::Mode::empty());
        if !plan.of(Carrier::Init).any(|step| *step == Step::BecomeRoot) {
            hide();
        }
        for step in plan.of(Carrier::Init) {
            if let Err(error) = self.step(step) {
                if let Some(channel) = &self.resources.channel {
                    // If nobody is there to be told, nobody waits for it.
                    let _ = channel.send(&Message::Failed(error.in_step(step)));
                }
                break;
            }
        }
        dhow_sys::exec::exit_now(1)
    }

    /// A message of the intermediate's to the parent.
    pub(crate) fn tell(&self, message: &Message) {
        if let Some(channel) = &self.resources.channel {
            // If nobody is there to be told, nobody waits for it.
            let _ = channel.send(message);
        }
    }

    /// The container's root directory; the container's own `/` when the process is in it already (exec).
    fn root(&mut self) -> Result<&RootDir, StepError> {
        if self.root.is_none() {
            let flags = rustix::fs::OFlags::PATH
                | rustix::fs::OFlags::DIRECTORY
                | rustix::fs::OFlags::CLOEXEC;
            let fd = rustix::fs::open("/", flags, rustix::fs::Mode::empty())
                .doing(|| "open /".to_owned())?;
            self.root = Some(RootDir::new(fd));
        }
        self.root
            .as_ref()
            .ok_or_else(|| StepError::other("no root"))
    }

    /// Where a path of the container is looked up: in the mount that was put at /proc or /sys, whatever is at that path by now,
    /// or else in the root.
    fn place<'p>(&mut self, path: &'p Path) -> Result<(&RootDir, &'p Path), StepError> {
        let held = self.held.iter().rposition(|(at, _)| path.starts_with(at));
        match held {
            Some(number) => {
                let (at, mount) = &self.held[number];
                Ok((mount, path.strip_prefix(at).unwrap_or(path)))
            }
            None => Ok((self.root()?, path)),
        }
    }

    /// Makes the container's root the root, and closes what was open of it and of the host.
    fn leave_host(
        &mut self,
        how: impl Fn(&RootDir) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        how(self.root()?)?;
        let root = self.root.take().map(RootDir::into_fd);
        let dir = self.device_dir.take().map(|(_, dir)| dir);
        let dir = dir
            .into_iter()
            .chain(self.new_directory.take().map(|(_, dir)| dir));
        let mask = std::mem::take(&mut self.mask).into_fds();
        let held = std::mem::take(&mut self.held).into_iter();
        let held = held.map(|(_, mount)| mount.into_fd());
        self.spent
            .extend(root.into_iter().chain(dir).chain(mask).chain(held));
        let spent = std::mem::take(&mut self.spent);
        if self.close_foreign()? {
            // These were among them.
            spent.into_iter().map(OwnedFd::into_raw_fd).for_each(drop);
        } else {
            dhow_sys::exec::close_all(spent);
        }
        Ok(())
    }

    /// Closes what a careless caller left open, before the container can see this process: with CAP_SYS_PTRACE it would get at a
    /// directory of the host's through /proc, and a program's path could lead through one. Says whether it could: all is closed
    /// then but what this process still needs.
    fn close_foreign(&self) -> Result<bool, StepError> {
        let Some(first) = self.resources.first_foreign else {
            return Ok(false);
        };
        let mut kept: Vec<BorrowedFd<'_>> = Vec::with_capacity(8);
        kept.extend(self.resources.channel.as_ref().map(AsFd::as_fd));
        kept.extend(self.resources.listener.as_ref().map(AsFd::as_fd));
        kept.extend(self.resources.console_socket.as_ref().map(AsFd::as_fd));
        kept.extend(self.terminal.iter().flat_map(console::Terminal::ends));
        match dhow_sys::exec::close_others(first, &kept) {
            // Before Linux 5.9.
            Err(Errno::NOSYS) => Ok(false),
            answer => answer
                .map(|()| true)
                .doing(|| "close the caller's descriptors".to_owned()),
        }
    }

    /// Takes descriptors that have served, to be closed by few calls.
    fn spend<const N: usize>(&mut self, fds: [OwnedFd; N]) {
        /// So many are open at most: a process may have few.
        const MOST: usize = 128;
        self.spent.extend(fds);
        if self.spent.len() >= MOST {
            dhow_sys::exec::close_all(std::mem::take(&mut self.spent));
        }
    }

    fn channel(&self) -> Result<&Channel, StepError> {
        self.resources
            .channel
            .as_ref()
            .ok_or_else(|| StepError::other("the channel to the parent is closed"))
    }

    /// Opens a path of the host's for reference.
    fn open_of_host(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, rustix::fs::Mode::empty()) {
            Err(Errno::ACCESS) => self.opened_by_parent(path),
            answer => answer,
        }
    }

    /// The same by the parent, for a path that this process may not reach: in a user namespace it is somebody else.
    fn opened_by_parent(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let channel = self.resources.channel.as_ref().ok_or(Errno::ACCESS)?;
        channel.send(&Message::OpenSource(path.to_owned()))?;
        match channel.receive()? {
            Some(Message::Source(source)) => Ok(source),
            Some(Message::Failed(error)) => Err(error.errno.unwrap_or(Errno::ACCESS)),
            // If the parent has died, so does this process.
            _ => dhow_sys::exec::exit_now(1),
        }
    }

    /// Waits for the parent's word. If the parent has died, so does this process.
    fn await_go(&self) -> Result<(), StepError> {
        match self.channel()?.receive() {
            Ok(Some(Message::Go)) => Ok(()),
            Ok(_) => dhow_sys::exec::exit_now(1),
            Err(errno) => Err(StepError::system("wait for the parent", errno)),
        }
    }

    /// Carries out a step of init's or of the intermediate's.
    pub(crate) fn step(&mut self, step: &Step) -> Result<(), StepError> {
        match step {
            Step::AwaitIdMap | Step::AwaitResctrl => self.await_go(),
            Step::JoinCgroup => self.join_cgroup(),
            Step::JoinNamespace { kind, path } => namespaces::join(*kind, path),
            Step::Hide => {
                hide();
                Ok(())
            }
            Step::SetCpuAffinity { cpus } => set_affinity(cpus),
            Step::SetOomScoreAdj { value } => crate::parent::set_oom_score_adj("self", *value)
                .doing(|| crate::parent::setting_oom_score_adj(*value)),
            Step::JoinContainer { namespaces } => self.join_container(*namespaces),
            Step::UnshareCgroup => namespaces::unshare_cgroup(),
            Step::UnshareIpc => namespaces::unshare_ipc(),
            Step::UnshareTime { offsets } => namespaces::unshare_time(offsets),
            Step::BecomeRoot => {
                self.in_user_namespace = true;
                identity::become_root()?;
                hide();
                Ok(())
            }
            Step::NewSession => identity::new_session(),
            Step::NewKeyring { name, label } => identity::new_keyring(name, label.as_deref()),
            Step::RaiseLoopback => namespaces::raise_loopback(),
            Step::SetHostname { name } => rustix::system::sethostname(name.as_bytes())
                .doing(|| format!("set the host name {name:?}")),
            Step::SetDomainname { name } => rustix::system::setdomainname(name.as_bytes())
                .doing(|| format!("set the domain name {name:?}")),
            Step::SetSysctl { key, value } => namespaces::set_sysctl(key, value),
            Step::IsolateMounts { propagation } => root::isolate(*propagation),
            Step::BindRoot { path } => {
                let open = || self.open_of_host(path);
                self.root = Some(root::bind(path, open)?);
                Ok(())
            }
            Step::Mount {
                destination,
                source,
                options,
            } => self.mount(destination, source, options),
            Step::MakeDevice(node) => self.make_device(node),
            Step::MakeDevLink { name, target } => self.make_dev_link(name, target),
            Step::OpenTerminal { height, width } => self.open_terminal(*height, *width),
            Step::MountConsole => self.mount_console(),
            Step::SendConsole => self.send_console(),
            Step::AttachTerminal => self.attach_terminal(),
            Step::AwaitHooks => self.await_hooks(),
            Step::RunHooks { kind, .. } => self.run_hooks(*kind),
            Step::MaskIfPresent { path } => self.mask(path),
            Step::ReadonlyIfPresent { path } => self.make_read_only(path),
            Step::ReadonlyRoot => root::make_read_only(self.root()?),
            Step::PivotRoot => self.leave_host(root::pivot),
            Step::ReopenNull => {
                let streams = stdio::reopen_null();
                self.streams = Some(streams.doing(|| "open the container's /dev/null".to_owned())?);
                Ok(())
            }
            Step::MoveRoot => self.leave_host(root::move_over),
            Step::PropagateRoot {
                propagation,
                recursive,
            } => root::propagate(*propagation, *recursive),
            Step::MakeDirectory { path } if root::is_there(path) => Ok(()),
            Step::MakeDirectory { path } => root::make_directory(self.root()?, path),
            step => self.process_step(step),
        }
    }

    /// The steps that a new container and exec share.
    fn process_step(&mut self, step: &Step) -> Result<(), StepError> {
        match step {
            Step::SetRlimit {
                name,
                resource,
                soft,
                hard,
            } => set_limit(None, name, *resource, (*soft, *hard)),
            Step::SetScheduler(attributes) => dhow_sys::process::set_scheduling(attributes)
                .doing(|| {
                    "set the scheduling policy (real-time ones take CAP_SYS_NICE; not every kernel has every flag)"
                        .to_owned()
                }),
            Step::SetIoPriority { class, level } => {
                dhow_sys::process::set_io_priority(*class, *level)
                    .doing(|| "set the I/O priority".to_owned())
            }
            Step::SetMemoryPolicy { mode, nodes } => scheduling::set_memory_policy(*mode, nodes),
            Step::SetExecLabel { module, label } => label::set(*module, label),
            Step::SetPersonality { persona } => dhow_sys::process::set_personality(*persona)
                .doing(|| "set the personality".to_owned()),
            Step::DropBounding { keep } => {
                // In another user namespace it was given the whole set.
                let held = match self.in_user_namespace {
                    true => u64::MAX,
                    false => crate::procfs::own().bounding,
                };
                identity::drop_bounding(held, *keep)
            }
            Step::SetUser { uid, gid, groups } => {
                let streams = self.streams.unwrap_or_else(stdio::look_at_streams);
                identity::set_user(*uid, *gid, groups, &streams)?;
                self.uid = Some(*uid);
                Ok(())
            }
            Step::SetUmask { mask } => {
                rustix::process::umask(rustix::fs::Mode::from_raw_mode(*mask));
                Ok(())
            }
            Step::ChangeDirectory { path } => program::change_directory(path),
            Step::FindProgram { name } => self.find_program(name),
            Step::CloseDescriptors { first } => dhow_sys::exec::close_on_exec_from(*first)
                .doing(|| "mark descriptors close-on-exec".to_owned()),
            Step::AwaitStart => self.await_start(),
            Step::NoNewPrivileges => {
                rustix::thread::set_no_new_privs(true).doing(|| "set no_new_privs".to_owned())
            }
            Step::LoadSeccomp => self.load_seccomp(),
            Step::SendSeccompFd => self.send_seccomp_fd(),
            Step::SetCapabilities(bits) => identity::set_capabilities(bits),
            Step::Execute => self.execute(),
            other => Err(StepError::other(format!("{other} is not a step of init"))),
        }
    }

    fn await_hooks(&self) -> Result<(), StepError> {
        self.channel()?
            .send(&Message::Mounted)
            .doing(|| "tell the parent that the mounts are made".to_owned())?;
        self.await_go()
    }

    fn run_hooks(&self, kind: HookKind) -> Result<(), StepError> {
        let list = match kind {
            HookKind::CreateContainer => &self.resources.create_container,
            _ => &self.resources.start_container,
        };
        let status = match kind {
            HookKind::CreateContainer => crate::container::Status::Creating,
            _ => crate::container::Status::Created,
        };
        let mut state = self.resources.hook_state.clone();
        if let Some(record) = &mut state {
            record.pid = rustix::process::getpid().as_raw_nonzero().get();
        }
        let state = state
            .map(|record| record.hook_state(status))
            .unwrap_or_default();
        hooks::run(list, kind, &state).map_err(|error| StepError::other(error.to_string()))
    }

    /// All is done but the program: tells so, and waits to be let go.
    fn await_start(&mut self) -> Result<(), StepError> {
        self.channel()?
            .send(&Message::Ready)
            .doing(|| "tell the parent that all is ready".to_owned())?;
        // A parent that dies before it has recorded this process must not leave it waiting for ever.
        self.await_go()?;
        let Some(listener) = self.resources.listener.take() else {
            return Ok(());
        };
        // The creator's part ends here. Whoever calls `start` is told from now on.
        self.resources.channel = None;
        loop {
            let connection = loop {
                let flags = rustix::net::SocketFlags::CLOEXEC;
                match rustix::net::accept_with(&listener, flags) {
                    Err(Errno::INTR | Errno::CONNABORTED) => continue,
                    answer => break answer.doing(|| "wait for start".to_owned())?,
                }
            };
            let channel = Channel::from_fd(connection);
            // A caller that died before it said go has not started anything.
            if let Ok(Some(Message::Go)) = channel.receive() {
                self.resources.channel = Some(channel);
                return Ok(());
            }
        }
    }

    fn load_seccomp(&mut self) -> Result<(), StepError> {
        let Some(program) = &self.resources.seccomp else {
            return Ok(());
        };
        if self.resources.shown_to_taker {
            // Nothing of the host's is left here but the channel. Should it fail, so will the taking, with its own words.
            let shown = rustix::process::DumpableBehavior::Dumpable;
            let _ = rustix::process::set_dumpable_behavior(shown);
        }
        self.listener = dhow_sys::seccomp::install_filter(&program.instructions, program.flags)
            .doing(|| "load the seccomp filter".to_owned())?;
        Ok(())
    }

    /// The listener is taken out of this process by who waits at the channel: it cannot send it itself, since any call but
    /// write(2) may be one that the listener is asked about.
    fn send_seccomp_fd(&mut self) -> Result<(), StepError> {
        let Some(listener) = self.listener.take() else {
            return Ok(());
        };
        self.channel()?
            .send(&Message::Listener(listener.as_raw_fd()))
            .doing(|| "tell of the seccomp listener".to_owned())?;
        self.await_go()
    }
}
