//! `start`.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::process::{Pid, PidfdFlags};

use super::Runtime;
use crate::channel::{Channel, Message};
use crate::container::{ContainerDir, ContainerError, Record, Status, is_alive};
use crate::error::Error;
use crate::hooks;
use crate::listener::Asking;
use crate::notify::Notify;
use crate::plan::HookKind;
use crate::spec::Spec;

const SIGKILL: i32 = 9;

/// Lets a created container's init become its program, and waits until it has.
///
/// # Errors
/// When the container is not created, or the program could not be executed or a hook failed after that (the container has stopped then).
pub fn start(runtime: &Runtime, id: &str) -> Result<(), Error> {
    let dir = ContainerDir::open(&runtime.root, id)?;
    dir.lock_within(super::PATIENCE)?;
    let (record, _) = dir.require("start")?;
    let error = |errno| Error::system("call the container's init", errno);
    let socket = match dir.call_init(SocketFlags::empty()) {
        // Another `start` had let it go before it was killed; init has noticed since it was looked at above.
        Err(Errno::CONNREFUSED) => {
            return Err(Error::Container(ContainerError::Status {
                verb: "start",
                id: id.to_owned(),
                status: Status::Running,
            }));
        }
        answer => answer.map_err(error)?,
    };
    let channel = Channel::from_fd(socket);
    let spec = dir.spec()?;
    let notify = Notify::open(&dir)?;
    let ready = notify.map(|notify| Ok::<_, Error>((notify, open_init(&record)?)));
    let ready = ready.transpose()?;
    channel.send(&Message::Go).map_err(error)?;
    let mut answer = channel.receive();
    if let Ok(Some(Message::Listener(number))) = answer {
        hand_listener_over(&spec, &record, number)?;
        channel.send(&Message::Go).map_err(error)?;
        answer = channel.receive();
    }
    // Nothing more comes when init has become the program: the channel closes.
    dir.remove_start_socket();
    match answer {
        Ok(None) => {}
        Ok(Some(Message::Failed(failed))) => return Err(failed.into()),
        Ok(Some(_)) => return Err(Error::Asked("init said something unexpected".to_owned())),
        Err(errno) => return Err(error(errno)),
    }
    let list = hooks::of(spec.hooks().as_ref(), HookKind::Poststart);
    let state = record.hook_state(Status::Running);
    if let Err(error) = hooks::run(list, HookKind::Poststart, &state) {
        stop(runtime, &record);
        return Err(error.into());
    }
    if let Some((notify, pidfd)) = ready {
        // Others may do with the container what they will meanwhile.
        dir.unlock();
        notify.until_ready(record.pid, pidfd.as_fd())?;
    }
    Ok(())
}

/// Ends a container whose start has failed, and waits a moment for its end. The error of the start is the one to tell.
fn stop(runtime: &Runtime, record: &Record) {
    let Ok(pidfd) = open_init(record) else {
        return;
    };
    if let Err(error) = super::signal::kill(runtime, &record.id, SIGKILL, false) {
        crate::log::warn(&error.to_string());
    }
    let timeout = Timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let _ = rustix::event::poll(&mut fds, Some(&timeout));
}

/// A descriptor of a container's init.
fn open_init(record: &Record) -> Result<OwnedFd, Error> {
    let error = |errno| Error::system("open the container's init", errno);
    let pid = Pid::from_raw(record.pid).ok_or_else(|| error(Errno::SRCH))?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(error)?;
    // The id was looked up by number; it is init's if init is still there.
    match is_alive(record.pid, record.start_time) {
        true => Ok(pidfd),
        false => Err(error(Errno::SRCH)),
    }
}

/// Gives the listener of init's filter to who is to be asked. When that fails, init ends with the channel.
fn hand_listener_over(spec: &Spec, record: &Record, number: i32) -> Result<(), Error> {
    let profile = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().as_ref())
        .ok_or_else(|| Error::Asked("there is no seccomp profile".to_owned()))?;
    let pidfd = open_init(record)?;
    let asking = Asking {
        pid: record.pid,
        pidfd: pidfd.as_fd(),
        number,
    };
    crate::listener::hand_over(profile, record, Status::Created, asking)
}
