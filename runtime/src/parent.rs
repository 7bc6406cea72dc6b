//! The parent's part of a plan: what is prepared before the clone, and what is done while init works.

mod clone;
mod id_map;
mod id_mapped;
mod net_device;
mod pipes;
mod source;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hooks, LinuxResources, LinuxSeccomp};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::cgroup::{Cgroup, Driver, Request as CgroupRequest, SubCgroups};
use crate::channel::{Channel, Message, send_descriptor};
use crate::container::{ContainerDir, Record, Status, process_stat};
use crate::error::Error;
use crate::hooks;
use crate::init::{Resources, StepError};
use crate::listener::Asking;
use crate::plan::{Carrier, HookKind, InitPlan, ResctrlGroup, Step};
use crate::resctrl;
use crate::root_dir::write_procfs;

/// A process that was made.
#[derive(Debug)]
pub(crate) struct Made {
    /// Its id on the host.
    pub(crate) pid: i32,
    /// The process.
    pub(crate) pidfd: OwnedFd,
}

/// The parent's work in progress.
pub(crate) struct Parent<'a> {
    /// The plan.
    pub(crate) plan: &'a InitPlan,
    /// The container's directory, with its lock.
    pub(crate) dir: Option<ContainerDir>,
    /// The container's record, kept up to date.
    pub(crate) record: Record,
    /// The limits.
    pub(crate) limits: Option<&'a LinuxResources>,
    /// The filter of system calls, for who is to be asked about them.
    pub(crate) seccomp: Option<&'a LinuxSeccomp>,
    /// Whether to go without the cgroups that this user may not make; none: if it is not the host's root.
    pub(crate) rootless: Option<bool>,
    /// The hooks of the runtime's namespaces.
    pub(crate) hooks: Option<&'a Hooks>,
    /// What init gets.
    pub(crate) resources: Resources,
    /// Init is to be the caller's child, not this process's.
    pub(crate) detached: bool,
    /// Whether the record is a new container's, to be written; else it is only read (exec).
    pub(crate) records: bool,
    /// The container's cgroup.
    pub(crate) cgroup: Option<Cgroup>,
    /// The cgroups below it that the process is to join (exec).
    pub(crate) sub_cgroups: SubCgroups,
    /// The process that was made.
    pub(crate) made: Option<Made>,
    /// The master end of its terminal, where init sent it here.
    pub(crate) console: Option<OwnedFd>,
    /// To init.
    pub(crate) channel: Option<Channel>,
    /// What init said while the process that made it had not told of it yet.
    pub(crate) early: Vec<Message>,
    /// The pid namespace that the next child is to begin in instead of this process's.
    pub(crate) pid_namespace: Option<OwnedFd>,
    /// Where its groups in resctrl are, when that was looked up.
    pub(crate) resctrl: Option<resctrl::Places>,
}

impl Parent<'_> {
    /// Carries out the parent's steps.
    ///
    /// # Errors
    /// The first that fails; nothing is cleaned up here.
    pub(crate) fn run(&mut self) -> Result<(), Error> {
        let plan = self.plan;
        plan.of(Carrier::Parent)
            .try_for_each(|step| self.step(step))?;
        if let Some(cgroup) = &mut self.cgroup {
            cgroup.release();
        }
        Ok(())
    }

    /// Carries out the steps before any process is made.
    ///
    /// # Errors
    /// The first that fails; nothing is cleaned up here.
    pub(crate) fn run_until_clone(&mut self) -> Result<(), Error> {
        let plan = self.plan;
        let makes =
            |step: &&Step| matches!(step, Step::Clone { .. } | Step::EnterPidNamespace { .. });
        plan.of(Carrier::Parent)
            .take_while(|step| !makes(step))
            .try_for_each(|step| self.step(step))
    }

    /// Makes a directory beside the container's record.
    pub(crate) fn make_directory(&self, name: &str) -> Result<PathBuf, Error> {
        let dir = self
            .dir
            .as_ref()
            .ok_or_else(|| Error::Asked("the container's directory is closed".to_owned()))?;
        let path = dir.path().join(name);
        rustix::fs::mkdir(&path, rustix::fs::Mode::from_raw_mode(0o700))
            .map_err(|errno| Error::system(format!("make {}", path.display()), errno))?;
        Ok(path)
    }

    /// Writes the process's id for others.
    pub(crate) fn write_pid_file(&self, path: &Path) -> Result<(), Error> {
        write_pid_file(path, self.made()?.pid)
    }

    /// Where the container's groups in resctrl are: all its steps are about the same.
    fn resctrl_places(&mut self, group: &ResctrlGroup) -> Result<&resctrl::Places, Error> {
        let found = match self.resctrl.take() {
            Some(places) => places,
            None => resctrl::Places::find(group)?,
        };
        Ok(self.resctrl.insert(found))
    }

    fn step(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::LocateCgroup { driver, path } => {
                let request = self.cgroup_request(*driver, path.as_deref());
                self.record.cgroup = Some(Cgroup::locate(&request)?);
                Ok(())
            }
            Step::CreateCgroup {
                driver,
                path,
                owner,
            } => self.create_cgroup(*driver, path.as_deref(), *owner),
            Step::WriteRecord => self.write_record(),
            Step::EnterPidNamespace { path } => {
                let what = || format!("enter the pid namespace {}", path.display());
                let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
                let fd = rustix::fs::open(path, flags, rustix::fs::Mode::empty())
                    .map_err(|errno| Error::system(what(), errno))?;
                self.pid_namespace = Some(fd);
                Ok(())
            }
            Step::MakeIdMappedMount {
                path,
                recursive,
                map,
                map_recursive,
            } => {
                let mount = id_mapped::make(path, *recursive, map, *map_recursive)?;
                self.resources.id_mapped.push(Some(mount));
                Ok(())
            }
            Step::MoveNetDevice {
                from,
                to,
                namespace,
            } => net_device::hand_over(from, to, namespace.as_deref(), self.made()?.pid),
            Step::LocateResctrl(group) => {
                self.record.resctrl = self.resctrl_places(group)?.made_by_us();
                Ok(())
            }
            Step::MakeResctrl(group) => Ok(self.resctrl_places(group)?.make(group)?),
            Step::JoinResctrl(group) => {
                let pid = self.made()?.pid;
                Ok(self.resctrl_places(group)?.join(pid)?)
            }
            Step::SetCpuAffinity { cpus } => {
                Ok(crate::init::set_affinity(cpus).map_err(|error| error.in_step(step))?)
            }
            Step::Clone { namespaces } => self.clone_init(*namespaces),
            Step::WriteIdMaps { uids, gids } => id_map::write(self.made()?.pid, uids, gids),
            Step::GivePipes { uid } => {
                // Of exec, the container's init is all that is there yet.
                let made = self.made.as_ref();
                pipes::give(made.map_or(self.record.pid, |made| made.pid), *uid);
                Ok(())
            }
            Step::SetRlimit {
                name,
                resource,
                soft,
                hard,
            } => {
                let process = Some(self.made()?.pid);
                let set = crate::init::set_limit(process, name, *resource, (*soft, *hard));
                Ok(set.map_err(|error| error.in_step(step))?)
            }
            Step::SetOomScoreAdj { value } => self.set_oom_score_adj(*value),
            Step::LetGo => self.let_go(),
            Step::AwaitMounts => self.await_message(|message| matches!(message, Message::Mounted)),
            Step::AwaitReady => self.await_message(|message| matches!(message, Message::Ready)),
            Step::AwaitProgram => self.await_program(),
            Step::RunHooks { kind, .. } => self.run_hooks(*kind),
            Step::WritePidFile { path } => write_pid_file(path, self.made()?.pid),
            Step::SendPidfd { path } => self.send_pidfd(path),
            other => Err(Error::Asked(format!("{other} is not a step of the parent"))),
        }
    }

    pub(crate) fn write_record(&self) -> Result<(), Error> {
        match &self.dir {
            Some(dir) => Ok(dir.write_record(&self.record)?),
            None => Err(Error::Asked(
                "the container's directory is closed".to_owned(),
            )),
        }
    }

    /// Writes the configuration that the container is made from into its directory.
    pub(crate) fn write_configuration(&self, content: &[u8]) -> Result<(), Error> {
        match &self.dir {
            Some(dir) => Ok(dir.write_configuration(content)?),
            None => Err(Error::Asked(
                "the container's directory is closed".to_owned(),
            )),
        }
    }

    fn made(&self) -> Result<&Made, Error> {
        self.made
            .as_ref()
            .ok_or_else(|| Error::Asked("no process was made".to_owned()))
    }

    fn channel(&self) -> Result<&Channel, Error> {
        self.channel
            .as_ref()
            .ok_or_else(|| Error::Asked("no process was made".to_owned()))
    }

    fn cgroup_request<'a>(&'a self, driver: Driver, path: Option<&'a Path>) -> CgroupRequest<'a> {
        CgroupRequest {
            driver,
            path,
            id: &self.record.id,
            annotations: Some(&self.record.annotations),
            rootless: self.rootless,
        }
    }

    fn create_cgroup(
        &mut self,
        driver: Driver,
        path: Option<&Path>,
        owner: Option<u32>,
    ) -> Result<(), Error> {
        let cgroup = Cgroup::create(&self.cgroup_request(driver, path), self.limits)?;
        let located = self.record.cgroup.replace(cgroup.record());
        let is_whole = located.is_some_and(|all| all.places.len() == cgroup.record().places.len());
        self.resources.cgroup = Some(match is_whole {
            true => cgroup.record(),
            false => cgroup.shown()?,
        });
        let cgroup = self.cgroup.insert(cgroup);
        if let Some(owner) = owner {
            cgroup.give(owner)?;
        }
        Ok(())
    }

    fn set_oom_score_adj(&self, value: i32) -> Result<(), Error> {
        let pid = self.made()?.pid.to_string();
        set_oom_score_adj(&pid, value)
            .map_err(|errno| Error::system(setting_oom_score_adj(value), errno))
    }

    /// Sends a descriptor of the process, with the word that runc has for its kind.
    fn send_pidfd(&self, path: &Path) -> Result<(), Error> {
        let socket = crate::commands::connect("pidfd socket", path)?;
        let word: &[u8] = if self.records { b"standard" } else { b"setns" };
        send_descriptor(&socket, word, self.made()?.pidfd.as_fd())
            .map_err(|errno| Error::system(format!("send the pidfd to {}", path.display()), errno))
    }

    /// What init says next; what it said before it was known to be there comes first.
    fn next_message(&mut self) -> Result<Option<Message>, Error> {
        loop {
            let message = match self.early.is_empty() {
                false => Some(self.early.remove(0)),
                true => self
                    .channel()?
                    .receive()
                    .map_err(|errno| Error::system("hear from init", errno))?,
            };
            match message {
                Some(Message::OpenSource(path)) => self.open_source(&path)?,
                message => return Ok(message),
            }
        }
    }

    /// Waits for a message of init's, and takes what comes before it.
    fn await_message(&mut self, wanted: impl Fn(&Message) -> bool) -> Result<(), Error> {
        loop {
            match self.next_message()? {
                Some(message) if wanted(&message) => return Ok(()),
                Some(Message::Console(master)) => self.take_console(master),
                Some(Message::Failed(error)) => return Err(error.into()),
                Some(_) => {}
                None => return Err(self.died()),
            }
        }
    }

    /// Waits until the channel closes, which init's execve does.
    fn await_program(&mut self) -> Result<(), Error> {
        loop {
            match self.next_message()? {
                Some(Message::Console(master)) => self.take_console(master),
                Some(Message::Listener(number)) => self.hand_listener_over(number)?,
                Some(Message::Failed(error)) => return Err(error.into()),
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }

    /// Gives the listener of init's filter to who is to be asked, and lets init go on.
    fn hand_listener_over(&self, number: i32) -> Result<(), Error> {
        let made = self.made()?;
        let profile = self
            .seccomp
            .ok_or_else(|| Error::Asked("there is no seccomp profile".to_owned()))?;
        let asking = Asking {
            pid: made.pid,
            pidfd: made.pidfd.as_fd(),
            number,
        };
        let status = match self.records {
            true => Status::Created,
            false => Status::Running,
        };
        crate::listener::hand_over(profile, &self.record, status, asking)?;
        self.let_go()
    }

    /// Lets init go on, which waits for it.
    fn let_go(&self) -> Result<(), Error> {
        match self.channel()?.send(&Message::Go) {
            Err(Errno::PIPE | Errno::CONNRESET) => Err(self.died()),
            sent => sent.map_err(|errno| Error::system("let init go on", errno)),
        }
    }

    /// Keeps the terminal, and gives it the size of the person's before the program looks at it.
    pub(crate) fn take_console(&mut self, master: OwnedFd) {
        if let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
            // The relay tries again.
            let _ = rustix::termios::tcsetwinsize(&master, size);
        }
        self.console = Some(master);
    }

    /// Why init may have ended without a word.
    fn died(&self) -> Error {
        let killed = self
            .cgroup
            .as_ref()
            .and_then(|cgroup| cgroup.oom_kills().ok())
            .unwrap_or(0);
        let message = if killed > 0 {
            "container init was OOM-killed (memory limit too low?)"
        } else {
            "container init ended without a word; was it killed?"
        };
        Error::Step(StepError::other(message))
    }

    pub(crate) fn run_hooks(&self, kind: HookKind) -> Result<(), Error> {
        let status = match kind {
            HookKind::Poststart => Status::Running,
            _ => Status::Creating,
        };
        let list = hooks::of(self.hooks, kind);
        let state = self.record.hook_state(status);
        Ok(hooks::run(list, kind, &state)?)
    }

    /// What is known of the process goes into the record.
    pub(crate) fn remember(&mut self, made: Made) {
        if self.records {
            self.record.pid = made.pid;
            self.record.start_time = process_stat(made.pid).map_or(0, |(_, began)| began);
        }
        self.made = Some(made);
    }

    /// After a failure: ends what was made, and waits a moment for its end so that its cgroup can be removed.
    pub(crate) fn kill(&mut self) {
        // What waits on the channel ends by itself, too.
        self.channel = None;
        let Some(made) = &self.made else {
            return;
        };
        // It may have ended already.
        let _ = dhow_sys::signal::send(made.pidfd.as_fd(), 9);
        let timeout = Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        let mut fds = [PollFd::new(&made.pidfd, PollFlags::IN)];
        let _ = rustix::event::poll(&mut fds, Some(&timeout));
        if !self.detached {
            let id = rustix::process::WaitId::PidFd(made.pidfd.as_fd());
            let _ = rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED);
        }
    }
}

/// Sets it for a process (`self` or an id); the value that it has anyway needs no setting.
pub(crate) fn set_oom_score_adj(process: &str, value: i32) -> rustix::io::Result<()> {
    let path = format!("/proc/{process}/oom_score_adj");
    let now = std::fs::read_to_string(&path).unwrap_or_default();
    if now.trim().parse() == Ok(value) {
        return Ok(());
    }
    write_procfs(Path::new(&path), value.to_string().as_bytes())
}

/// What is said when it cannot be set.
pub(crate) fn setting_oom_score_adj(value: i32) -> String {
    format!("set oom_score_adj to {value} (lowering it takes CAP_SYS_RESOURCE)")
}

/// Writes a pid for others, whole or not at all.
fn write_pid_file(path: &Path, pid: i32) -> Result<(), Error> {
    let error = |source| Error::File {
        path: path.to_owned(),
        source,
    };
    let name = path
        .file_name()
        .ok_or_else(|| error(std::io::ErrorKind::InvalidInput.into()))?;
    let new = path.with_file_name(format!(
        ".{}.{}",
        name.to_string_lossy(),
        std::process::id()
    ));
    std::fs::write(&new, pid.to_string()).map_err(error)?;
    std::fs::rename(&new, path).map_err(error)
}
