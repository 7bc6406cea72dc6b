//! `delete`.

use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxNamespaceType;
use rustix::process::{Pid, PidfdFlags};

use super::Runtime;
use crate::container::{ContainerDir, ContainerError, Record, Status, is_alive};
use crate::error::Error;
use crate::hooks;
use crate::plan::HookKind;
use crate::spec::Spec;

/// How long others are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes what a stopped container holds. With `force` also of one that runs, whose record is half written, or that is
/// not there (which is no error then).
///
/// # Errors
/// When it is not stopped, or something of it cannot be removed.
pub fn delete(runtime: &Runtime, id: &str, force: bool) -> Result<(), Error> {
    let dir = match ContainerDir::open(&runtime.root, id) {
        Err(ContainerError::NotFound(_)) if force => return Ok(()),
        answer => answer?,
    };
    if !force {
        dir.lock()?;
        let (record, status) = dir.require("delete")?;
        let spec = dir.spec().ok();
        if status == Status::Created {
            kill_init(&record);
        }
        return remove_all(dir, Some(&record), spec.as_ref());
    }
    // Whoever holds the lock may be waiting for what is killed here.
    if !dir.try_lock() {
        if let Ok(record) = dir.record() {
            kill_init(&record);
        }
        await_lock(&dir, id)?;
    }
    match dir.lock() {
        Err(ContainerError::NotFound(_)) => return Ok(()),
        answer => answer?,
    }
    let record = dir.record().ok();
    let spec = dir.spec().ok();
    if let Some(record) = &record {
        kill_init(record);
    }
    remove_all(dir, record.as_ref(), spec.as_ref())
}

/// Waits for a command that is at work on a container, but not for ever: one of its hooks may never end.
fn await_lock(dir: &ContainerDir, id: &str) -> Result<(), Error> {
    let end = Instant::now() + PATIENCE;
    while !dir.try_lock() {
        if Instant::now() > end {
            return Err(Error::Asked(format!(
                "container {id:?} is held by another command, perhaps one whose hook does not end; end that and try again"
            )));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Kills a container's init if it is still the one that was made, and waits for its end.
fn kill_init(record: &Record) {
    let Some(pid) = Pid::from_raw(record.pid) else {
        return;
    };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    // The descriptor was opened before this look, so it is of the process that is looked at.
    if !is_alive(record.pid, record.start_time) {
        return;
    }
    if let Some(cgroup) = record.cgroup() {
        // A frozen process dies only when it is thawed.
        let _ = cgroup.thaw();
    }
    let _ = dhow_sys::signal::send(std::os::fd::AsFd::as_fd(&pidfd), 9);
    await_pidfd(record, &pidfd);
}

/// Waits for the end of a container's init that is coming.
pub(super) fn await_end(record: &Record) {
    let pidfd = Pid::from_raw(record.pid)
        .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
    if let Some(pidfd) = pidfd {
        await_pidfd(record, &pidfd);
    }
}

fn await_pidfd(record: &Record, pidfd: &std::os::fd::OwnedFd) {
    let end = Instant::now() + PATIENCE;
    while is_alive(record.pid, record.start_time) && Instant::now() < end {
        let mut fds = [rustix::event::PollFd::new(
            pidfd,
            rustix::event::PollFlags::IN,
        )];
        let timeout = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        let _ = rustix::event::poll(&mut fds, Some(&timeout));
    }
}

/// Removes all that a container holds, in an order that can be repeated: processes, cgroup, hooks, record.
pub(super) fn remove_all(
    dir: ContainerDir,
    record: Option<&Record>,
    spec: Option<&Spec>,
) -> Result<(), Error> {
    if let Some(record) = record
        && let Some(cgroup) = record.cgroup()
    {
        // Without a pid namespace of its own, processes outlive its init. With one, or where there was no init yet, what is
        // there is not the container's.
        if record.pid != 0 {
            if !spec.is_some_and(has_own_pid_namespace) {
                cgroup.kill_all(9)?;
            }
            cgroup.remove()?;
        } else {
            cgroup.remove_unused();
        }
    }
    if let Some(record) = record {
        crate::resctrl::remove(&record.resctrl)?;
    }
    let list = hooks::of(
        spec.and_then(|spec| spec.hooks().as_ref()),
        HookKind::Poststop,
    );
    if let Some(record) = record.filter(|_| !list.is_empty()) {
        // The specification: a poststop hook that fails is warned of, and the rest goes on.
        if let Err(error) = hooks::run(
            list,
            HookKind::Poststop,
            &record.hook_state(Status::Stopped),
        ) {
            crate::log::warn(&error.to_string());
        }
    }
    Ok(dir.remove()?)
}

/// Whether all processes of the container end with its init.
pub(super) fn has_own_pid_namespace(spec: &Spec) -> bool {
    let linux = spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
    namespaces.into_iter().flatten().any(|namespace| {
        namespace.typ() == LinuxNamespaceType::Pid
            && namespace
                .path()
                .as_ref()
                .is_none_or(|path| path.as_os_str().is_empty())
    })
}
