//! `create` and `run`.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxSeccomp;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::Runtime;
use super::delete::remove_all;
use super::passed;
use crate::cgroup::{Cgroup, Driver, SubCgroups};
use crate::container::{COMING_START_SOCKET, ContainerDir, OCI_VERSION, Record};
use crate::error::Error;
use crate::foreground::Foreground;
use crate::init::Resources;
use crate::notify::{self, Notify};
use crate::parent::Parent;
use crate::plan::{Announce, Carrier, CreateRequest, HookKind, InitPlan, Step, bounding_set};
use crate::spec::{Bundle, Spec};
use crate::{hooks, seccomp};

/// What is asked of a new container.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The socket that gets its terminal.
    pub console_socket: Option<PathBuf>,
    /// The socket that gets a descriptor of init.
    pub pidfd_socket: Option<PathBuf>,
    /// Where to write init's id.
    pub pid_file: Option<PathBuf>,
    /// How many descriptors after the first three pass.
    pub preserve_fds: u32,
    /// Move the root's mount instead of pivot_root.
    pub no_pivot: bool,
    /// Keep the caller's keyring.
    pub no_new_keyring: bool,
    /// `run`: do not wait for its end.
    pub detach: bool,
    /// `run`: leave the record when it has ended.
    pub keep: bool,
    /// Who makes its cgroup.
    pub driver: Driver,
}

/// What `run` came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The container runs on.
    Detached,
    /// Its process ended with this status (128 + N for signal N).
    Ended(u8),
}

pub(super) fn request(id: &str, options: &CreateOptions, starts: bool) -> CreateRequest {
    CreateRequest {
        id: id.to_owned(),
        no_pivot: options.no_pivot,
        no_new_keyring: options.no_new_keyring,
        announce: Announce {
            pid_file: options.pid_file.clone(),
            pidfd_socket: options.pidfd_socket.clone(),
        },
        // What systemd's socket activation passes comes with it, as in runc.
        preserve_fds: options.preserve_fds.saturating_add(passed::listen_fds()),
        starts,
        driver: options.driver,
    }
}

/// The plan of a container, without anything being done.
///
/// # Errors
/// When the bundle is none or asks for what cannot be.
pub fn plan(id: &str, options: &CreateOptions) -> Result<InitPlan, Error> {
    crate::container::check_id(id)?;
    let bundle = Bundle::load(&options.bundle)?;
    let plan = InitPlan::create(&bundle, &request(id, options, false))?;
    Ok(plan.within(bounding_set()))
}

/// Makes a container; its init waits for `start`, as a child of this process's parent.
///
/// # Errors
/// What failed; nothing is left then.
pub fn create(runtime: &Runtime, id: &str, options: &CreateOptions) -> Result<(), Error> {
    passed::check(options.preserve_fds.saturating_add(passed::listen_fds()))?;
    crate::container::check_id(id)?;
    let mut bundle = Bundle::load(&options.bundle)?;
    let told = tell_when_ready(&mut bundle, runtime, id)?;
    check_terminal(&bundle, options, true)?;
    let plan = InitPlan::create(&bundle, &request(id, options, false))?.within(bounding_set());
    let dir = ContainerDir::create(&runtime.root, id)?;
    let listener = listen(&dir).map_err(|errno| Error::system("make the start socket", errno));
    let mut parent = prepare(&bundle, &plan, dir, true);
    parent.rootless = runtime.rootless;
    let done = listener.and_then(|listener| {
        parent.resources.listener = Some(listener);
        if let (true, Some(dir)) = (told, &parent.dir) {
            notify::make_directory(dir)?;
        }
        complete(&mut parent, &bundle, options)?;
        match &parent.dir {
            Some(dir) => Ok(dir.publish_start_socket()?),
            None => Ok(()),
        }
    });
    match done {
        Ok(()) => Ok(()),
        Err(error) => {
            give_up(parent, &bundle.spec);
            Err(error)
        }
    }
}

/// Makes a container and starts it; in the foreground waits for its end and removes it.
///
/// # Errors
/// What failed; nothing is left then.
pub fn run(runtime: &Runtime, id: &str, options: &CreateOptions) -> Result<Outcome, Error> {
    passed::check(options.preserve_fds.saturating_add(passed::listen_fds()))?;
    crate::container::check_id(id)?;
    let mut bundle = Bundle::load(&options.bundle)?;
    let told = tell_when_ready(&mut bundle, runtime, id)?;
    check_terminal(&bundle, options, options.detach)?;
    let plan = InitPlan::create(&bundle, &request(id, options, true))?.within(bounding_set());
    let dir = ContainerDir::create(&runtime.root, id)?;
    let mut parent = prepare(&bundle, &plan, dir, options.detach);
    parent.rootless = runtime.rootless;
    // Before there is a child, so that neither its end nor a signal to pass on can be missed.
    let foreground = match options.detach {
        true => None,
        false => Some(Foreground::prepare()?),
    };
    let done = listen_when_ready(&parent, told).and_then(|notify| {
        complete_unseen(&mut parent, &bundle, options)?;
        Ok(notify)
    });
    let notify = match done {
        Ok(notify) => notify,
        Err(error) => {
            give_up(parent, &bundle.spec);
            return Err(error);
        }
    };
    match (foreground, notify, &parent.made) {
        (None, Some(notify), Some(made)) => {
            if let Some(dir) = &parent.dir {
                dir.unlock();
            }
            notify.until_ready(made.pid, made.pidfd.as_fd())?;
            Ok(Outcome::Detached)
        }
        (foreground, notify, _) => {
            let foreground = foreground.map(|foreground| foreground.with(notify));
            finish(foreground, parent, options, &bundle)
        }
    }
}

/// Lets the container say that it is ready, if somebody wants to know; gives whether.
fn tell_when_ready(bundle: &mut Bundle, runtime: &Runtime, id: &str) -> Result<bool, Error> {
    let Some(given) = notify::for_container(&runtime.root, id)? else {
        return Ok(false);
    };
    bundle.spec.add(given.mount, given.variable);
    Ok(true)
}

fn listen_when_ready(parent: &Parent<'_>, told: bool) -> Result<Option<Notify>, Error> {
    match &parent.dir {
        Some(dir) if told => {
            notify::make_directory(dir)?;
            Notify::open(dir)
        }
        _ => Ok(None),
    }
}

/// What is left to do when a container runs: in the foreground, to wait for its end and remove it.
pub(super) fn finish(
    foreground: Option<Foreground>,
    mut parent: Parent<'_>,
    options: &CreateOptions,
    bundle: &Bundle,
) -> Result<Outcome, Error> {
    if let Some(dir) = &parent.dir {
        // Others may do with it what they will while this process only watches.
        dir.unlock();
    }
    let Some(foreground) = foreground else {
        return Ok(Outcome::Detached);
    };
    let status = attend(foreground, &mut parent)?;
    if let Some(dir) = parent.dir.take().filter(|_| !options.keep) {
        // Somebody may have deleted it already.
        if dir.lock().is_ok() {
            remove_all(dir, Some(&parent.record), Some(&bundle.spec))?;
        }
    }
    // What is still open is closed by the end of this process, which comes now.
    std::mem::forget(parent);
    Ok(Outcome::Ended(status))
}

/// Watches the container's process to its end.
fn attend(mut foreground: Foreground, parent: &mut Parent<'_>) -> Result<u8, Error> {
    let made = parent
        .made
        .take()
        .ok_or_else(|| Error::Asked("no process was made".to_owned()))?;
    let status = foreground.attend(&made.pidfd, parent.console.take());
    // Closed by the end of this process.
    std::mem::forget((foreground, made));
    status
}

/// A terminal needs somebody who holds its other end.
pub(super) fn check_terminal(
    bundle: &Bundle,
    options: &CreateOptions,
    detached: bool,
) -> Result<(), Error> {
    let terminal = bundle
        .process()
        .is_some_and(|process| process.terminal().unwrap_or(false));
    match (terminal, &options.console_socket, detached) {
        (true, None, true) => Err(Error::Asked(
            "cannot allocate tty if the runtime will detach without setting console socket; set --console-socket or process.terminal to false".to_owned(),
        )),
        (false, Some(_), _) => Err(Error::Asked(
            "cannot use console socket if the runtime will not allocate tty; set process.terminal to true".to_owned(),
        )),
        _ => Ok(()),
    }
}

pub(super) fn prepare<'a>(
    bundle: &'a Bundle,
    plan: &'a InitPlan,
    dir: ContainerDir,
    detached: bool,
) -> Parent<'a> {
    let annotations: HashMap<String, String> =
        bundle.spec.annotations().clone().unwrap_or_default();
    let record = Record {
        oci_version: OCI_VERSION.to_owned(),
        id: dir.id().to_owned(),
        bundle: bundle.dir.clone(),
        rootfs: bundle.rootfs.clone(),
        created: jiff::Timestamp::now().to_string(),
        owner: dhow_sys::process::user_at_start(),
        pid: 0,
        start_time: 0,
        cgroup: None,
        resctrl: Vec::new(),
        no_new_keyring: !plan
            .of(Carrier::Init)
            .any(|step| matches!(step, Step::NewKeyring { .. })),
        annotations,
    };
    let hooks = bundle.spec.hooks().as_ref();
    let process = bundle.process();
    let mut env = process
        .and_then(|process| process.env().clone())
        .unwrap_or_default();
    passed::announce(&mut env);
    let resources = Resources {
        create_container: hooks::of(hooks, HookKind::CreateContainer).to_vec(),
        start_container: hooks::of(hooks, HookKind::StartContainer).to_vec(),
        hook_state: Some(record.clone()),
        args: process
            .and_then(|process| process.args().clone())
            .unwrap_or_default(),
        env,
        ..Resources::default()
    };
    Parent {
        plan,
        dir: Some(dir),
        record,
        limits: bundle.linux().and_then(|linux| linux.resources().as_ref()),
        rootless: None,
        seccomp: bundle.linux().and_then(|linux| linux.seccomp().as_ref()),
        hooks,
        resources,
        detached,
        records: true,
        cgroup: None,
        sub_cgroups: SubCgroups::default(),
        made: None,
        console: None,
        channel: None,
        early: Vec::new(),
        pid_namespace: None,
        resctrl: None,
    }
}

/// The preparation that can fail, then the plan.
fn complete(
    parent: &mut Parent<'_>,
    bundle: &Bundle,
    options: &CreateOptions,
) -> Result<(), Error> {
    if let Some(profile) = bundle.linux().and_then(|linux| linux.seccomp().as_ref()) {
        parent.resources.seccomp = Some(seccomp::compile(profile)?);
        parent.resources.shown_to_taker = shown_to_taker(profile);
    }
    if let Some(path) = &options.console_socket {
        parent.resources.console_socket = Some(connect("console socket", path)?);
    }
    if let Some(process) = bundle.process() {
        crate::labels::check(process, bundle.linux())?;
    }
    parent.write_configuration(&bundle.text)?;
    parent.run()
}

/// Whether a process must let others look into it so that its listener can be taken: only root may else.
pub(super) fn shown_to_taker(profile: &LinuxSeccomp) -> bool {
    seccomp::asks(profile) && !rustix::process::geteuid().is_root()
}

/// As [`complete`], with nobody entering meanwhile: before its root is its own, that would be the host's.
fn complete_unseen(
    parent: &mut Parent<'_>,
    bundle: &Bundle,
    options: &CreateOptions,
) -> Result<(), Error> {
    if let Some(dir) = &parent.dir {
        dir.mark_coming()?;
    }
    complete(parent, bundle, options)?;
    if let Some(dir) = &parent.dir {
        dir.unmark_coming();
    }
    Ok(())
}

/// Undoes what a failed creation did.
pub(super) fn give_up(mut parent: Parent<'_>, spec: &Spec) {
    parent.kill();
    if let Some(cgroup) = parent.cgroup.take()
        && let Err(error) = end_cgroup(&cgroup)
    {
        crate::log::warn(&format!("the cgroup is left: {error}"));
    }
    if let Err(error) = crate::resctrl::remove(&parent.record.resctrl) {
        crate::log::warn(&error.to_string());
    }
    let list = hooks::of(spec.hooks().as_ref(), HookKind::Poststop);
    if parent.made.is_some() && !list.is_empty() {
        let state = parent.record.hook_state(crate::container::Status::Stopped);
        if let Err(error) = hooks::run(list, HookKind::Poststop, &state) {
            crate::log::warn(&error.to_string());
        }
    }
    if let Some(Err(error)) = parent.dir.take().map(ContainerDir::remove) {
        crate::log::warn(&error.to_string());
    }
}

fn end_cgroup(cgroup: &Cgroup) -> Result<(), crate::cgroup::CgroupError> {
    cgroup.kill_all(9)?;
    cgroup.remove()
}

/// The socket on which init waits for `start`.
fn listen(dir: &ContainerDir) -> rustix::io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(dir.short_path(COMING_START_SOCKET).as_str())?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, 1)?;
    Ok(socket)
}

/// Calls whoever is to get a descriptor; `what` says for which purpose.
pub(crate) fn connect(what: &str, path: &Path) -> Result<OwnedFd, Error> {
    let error = |errno| Error::system(format!("call the {what} {}", path.display()), errno);
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(error)?;
    let address = SocketAddrUnix::new(path).map_err(error)?;
    rustix::net::connect(&socket, &address).map_err(error)?;
    Ok(socket)
}
