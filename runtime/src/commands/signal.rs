//! `kill`.

use std::os::fd::AsFd;

use rustix::process::{Pid, PidfdFlags};

use super::Runtime;
use super::delete::has_own_pid_namespace;
use super::members::{has_places, members};
use crate::container::{ContainerDir, ContainerError, Status, is_alive};
use crate::error::Error;

const SIGKILL: i32 = 9;

/// Sends a signal to a container's init, or with `all` to every process of its cgroup.
///
/// # Errors
/// When it has ended (with `all` that is none: what is left is signalled).
pub fn kill(runtime: &Runtime, id: &str, signal: i32, all: bool) -> Result<(), Error> {
    let dir = ContainerDir::open(&runtime.root, id)?;
    if all {
        let record = dir.record()?;
        let has_one = record.cgroup.as_ref().is_some_and(has_places);
        if let Some(cgroup) = record.cgroup().filter(|_| has_one) {
            cgroup.kill_all(signal)?;
            return Ok(());
        }
        // Without a cgroup: one that comes into being just now may be missed, but not by the signal that ends init.
        for pid in members(&record)? {
            match dhow_sys::signal::kill(pid, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(errno) => {
                    return Err(Error::system(
                        format!("send signal {signal} to process {pid}"),
                        errno,
                    ));
                }
            }
        }
        return Ok(());
    }
    let (record, _) = dir.require("kill")?;
    let ended = || {
        Error::Container(ContainerError::Status {
            verb: "kill",
            id: id.to_owned(),
            status: Status::Stopped,
        })
    };
    let pid = Pid::from_raw(record.pid).ok_or_else(ended)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|_| ended())?;
    // The descriptor was opened before this look, so it is of the process that is looked at.
    if !is_alive(record.pid, record.start_time) {
        return Err(ended());
    }
    dhow_sys::signal::send(pidfd.as_fd(), signal).map_err(|errno| match errno {
        rustix::io::Errno::SRCH => ended(),
        errno => Error::system(format!("send signal {signal} to container {id:?}"), errno),
    })?;
    if signal == SIGKILL
        && let Some(cgroup) = record.cgroup()
    {
        // A frozen process dies only when it is thawed; it may have been paused since it was looked at above.
        if cgroup.is_frozen().unwrap_or(false) {
            cgroup.thaw()?;
        }
        // Without a pid namespace of its own, the others would outlive init.
        let alone = dir.spec().is_ok_and(|spec| has_own_pid_namespace(&spec));
        if !alone {
            cgroup.kill_all(SIGKILL)?;
        }
    }
    Ok(())
}
