//! `start`.

use rustix::net::SocketFlags;

use super::Runtime;
use crate::channel::{Channel, Message};
use crate::container::{ContainerDir, Status};
use crate::error::Error;
use crate::hooks;
use crate::plan::HookKind;

/// Lets a created container's init become its program, and waits until it has.
///
/// # Errors
/// When the container is not created, or the program could not be executed (the container has stopped then).
pub fn start(runtime: &Runtime, id: &str) -> Result<(), Error> {
    let dir = ContainerDir::open(&runtime.root, id)?;
    dir.lock()?;
    let (record, _) = dir.require("start")?;
    let error = |errno| Error::system("call the container's init", errno);
    let socket = dir.call_init(SocketFlags::empty()).map_err(error)?;
    let channel = Channel::from_fd(socket);
    channel.send(&Message::Go).map_err(error)?;
    // Nothing more comes when init has become the program: the channel closes.
    let answer = channel.receive();
    dir.remove_start_socket();
    match answer {
        Ok(None) => {}
        Ok(Some(Message::Failed(failed))) => return Err(failed.into()),
        Ok(Some(_)) => return Err(Error::Asked("init said something unexpected".to_owned())),
        Err(errno) => return Err(error(errno)),
    }
    let spec = dir.spec()?;
    let list = hooks::of(spec.hooks().as_ref(), HookKind::Poststart);
    if let Err(error) = hooks::run(
        list,
        HookKind::Poststart,
        &record.hook_state(Status::Running),
    ) {
        crate::log::warn(&error.to_string());
    }
    Ok(())
}
