//! Handing a seccomp listener over to who is to be asked about calls (OCI runtime specification, "The Container Process
//! State").

use std::os::fd::{AsFd, BorrowedFd};

use oci_spec::runtime::LinuxSeccomp;
use rustix::process::PidfdGetfdFlags;
use serde::Serialize;

use crate::channel::send_descriptor;
use crate::commands::connect;
use crate::container::{OCI_VERSION, Record, StateDocument, Status};
use crate::error::Error;

/// What is sent besides the descriptor.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a str>,
    state: StateDocument<'a>,
}

/// The process whose filter asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking<'a> {
    /// Its id on the host.
    pub(crate) pid: i32,
    /// The process.
    pub(crate) pidfd: BorrowedFd<'a>,
    /// The number of its descriptor.
    pub(crate) number: i32,
}

/// Takes the listener out of the process and sends it, with the container's state, to the profile's listenerPath.
///
/// # Errors
/// When it cannot be taken, or nobody takes it.
pub(crate) fn hand_over(
    profile: &LinuxSeccomp,
    record: &Record,
    status: Status,
    asking: Asking<'_>,
) -> Result<(), Error> {
    let path = profile
        .listener_path()
        .as_ref()
        .ok_or_else(|| Error::Asked("the seccomp profile has no listenerPath".to_owned()))?;
    let error = |errno| {
        Error::system(
            format!("hand the seccomp listener over to {}", path.display()),
            errno,
        )
    };
    let listener =
        rustix::process::pidfd_getfd(asking.pidfd, asking.number, PidfdGetfdFlags::empty())
            .map_err(|errno| {
                Error::system("take the seccomp listener out of the process", errno)
            })?;
    let state = ProcessState {
        oci_version: OCI_VERSION,
        fds: ["seccompFd"],
        pid: asking.pid,
        metadata: profile.listener_metadata().as_deref(),
        state: record.document(status, ""),
    };
    let text = serde_json::to_vec(&state)
        .map_err(|error| Error::Asked(format!("write the process state: {error}")))?;
    let socket = connect("seccomp agent", path)?;
    send_descriptor(&socket, &text, listener.as_fd()).map_err(error)
}
