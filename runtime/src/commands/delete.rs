//! `delete`.

use std::time::Instant;

use oci_spec::runtime::LinuxNamespaceType;
use rustix::process::{Pid, PidfdFlags};

use super::{PATIENCE, Runtime};
use crate::cgroup::{Cgroup, Driver, Request};
use crate::container::{ContainerDir, ContainerError, Record, Status, is_alive};
use crate::error::Error;
use crate::hooks;
use crate::plan::HookKind;
use crate::spec::Spec;

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
        dir.lock_within(PATIENCE)?;
        if let Err(ContainerError::NotFound(_) | ContainerError::Broken { .. }) = dir.record() {
            return remove_remains(dir);
        }
        let (record, status) = dir.require("delete")?;
        let spec = dir.spec().ok();
        if status == Status::Created {
            kill_init(&record)?;
        }
        return remove_all(dir, Some(&record), spec.as_ref());
    }
    match lock_by_force(&dir) {
        Err(ContainerError::NotFound(_)) => return Ok(()),
        answer => answer?,
    }
    let record = dir.record().ok();
    let spec = dir.spec().ok();
    if let Some(record) = &record {
        kill_init(record)?;
    } else if let Some(cgroup) = cgroup_without_record(&dir, spec.as_ref()) {
        cgroup.remove_unused();
    }
    remove_all(dir, record.as_ref(), spec.as_ref())
}

/// Takes the lock from who does not let it go: a command whose hook does not end, or which waits for an init that is stuck.
fn lock_by_force(dir: &ContainerDir) -> Result<(), ContainerError> {
    if dir.try_lock() {
        return dir.lock();
    }
    // Whoever holds it may be waiting for what is killed here.
    if let Ok(record) = dir.record() {
        // If it does not end, this will be tried again and told.
        let _ = kill_init(&record);
    }
    match dir.lock_within(PATIENCE) {
        Err(ContainerError::Held(_)) => {}
        answer => return answer,
    }
    if let Some(pid) = dir.lock_holder()
        && let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty())
        // The descriptor was opened before this look, so it is of the process that has the lock.
        && dir.lock_holder() == Some(pid)
    {
        // It may just have ended.
        let _ = dhow_sys::signal::send(std::os::fd::AsFd::as_fd(&pidfd), 9);
    }
    dir.lock_within(PATIENCE)
}

/// Removes what a creation left that was ended before its record was whole, or what a crash of the machine made of the
/// record. What may still be somebody's is not touched.
fn remove_remains(dir: ContainerDir) -> Result<(), Error> {
    if let Some(cgroup) = cgroup_without_record(&dir, dir.spec().ok().as_ref()) {
        let processes = cgroup.processes().unwrap_or_default();
        if !processes.is_empty() {
            return Err(Error::Asked(format!(
                "the record of container {:?} is incomplete, and processes are in its cgroup: {processes:?}; end them, then delete it",
                dir.id()
            )));
        }
        cgroup.remove_unused();
    }
    Ok(dir.remove()?)
}

/// Where the container's cgroup would be.
fn cgroup_without_record(dir: &ContainerDir, spec: Option<&Spec>) -> Option<Cgroup> {
    let request = Request {
        // A scope ends with its processes, so nothing is left of one.
        driver: Driver::Cgroupfs,
        path: spec?.linux().as_ref()?.cgroups_path().as_deref(),
        id: dir.id(),
        annotations: None,
        rootless: None,
    };
    Cgroup::open(&Cgroup::locate(&request).ok()?).ok()
}

/// Kills a container's init if it is still the one that was made, and waits for its end.
///
/// # Errors
/// When it does not end: all that it holds would be left, and nobody would know of it any more.
fn kill_init(record: &Record) -> Result<(), ContainerError> {
    let Some(pid) = Pid::from_raw(record.pid) else {
        return Ok(());
    };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
        return Ok(());
    };
    // The descriptor was opened before this look, so it is of the process that is looked at.
    if !is_alive(record.pid, record.start_time) {
        return Ok(());
    }
    let _ = dhow_sys::signal::send(std::os::fd::AsFd::as_fd(&pidfd), 9);
    let cgroup = record.cgroup();
    await_pidfd(record, &pidfd, || {
        // A frozen process dies only when it is thawed, and somebody may be pausing it just now.
        if let Some(cgroup) = &cgroup {
            let _ = cgroup.thaw();
        }
    });
    if is_alive(record.pid, record.start_time) {
        return Err(ContainerError::Stuck {
            id: record.id.clone(),
            pid: record.pid,
        });
    }
    Ok(())
}

/// Waits for the end of a container's init that is coming.
pub(super) fn await_end(record: &Record) {
    let pidfd = Pid::from_raw(record.pid)
        .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
    if let Some(pidfd) = pidfd {
        await_pidfd(record, &pidfd, || {});
    }
}

/// Waits for the end of a process, and does this now and then meanwhile.
fn await_pidfd(record: &Record, pidfd: &std::os::fd::OwnedFd, meanwhile: impl Fn()) {
    let end = Instant::now() + PATIENCE;
    while is_alive(record.pid, record.start_time) && Instant::now() < end {
        meanwhile();
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
