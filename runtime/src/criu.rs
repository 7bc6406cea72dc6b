//! criu(8), which saves a container's processes to files and makes them again.
//!
//! It is called as `criu swrk FD`: one process for one request in its RPC protocol, over a pair of sockets. The command
//! line would do for most of it, but not for all: only a worker makes the restored process a sibling of its own, so that
//! it is a child of this process (which waits for it) or of whoever takes it over; only it asks in the middle of the work,
//! so that hooks run between the namespaces and the processes, the record is written before the container goes on, and
//! the terminal's master end comes as a descriptor. An action script would have to find its way back to this process for
//! each. The protocol is protobuf, of which [`message`] writes and reads the little that is needed.

mod images;
mod message;
mod options;

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use dhow_sys::clone::{CloneOptions, Cloned, clone_process};
use dhow_sys::exec::StringArray;
use dhow_sys::mount::Attributes;
use rustix::fs::CWD;
use rustix::io::FdFlags;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{WaitId, WaitIdOptions};

use crate::cgroup::Joiner;
use crate::error::Error;

pub(crate) use images::{Images, open_directory};
pub(crate) use message::{Answer, Fields, Kind, request};
pub use options::CriuOptions;
pub(crate) use options::{External, field};

/// A worker of criu's.
#[derive(Debug)]
pub(crate) struct Worker {
    /// None when all was said.
    socket: Option<OwnedFd>,
    process: OwnedFd,
    /// Its id.
    pub(crate) pid: i32,
}

/// The program, by its path or along PATH.
fn find(program: &Path) -> Result<CString, Error> {
    let as_c = |path: &Path| CString::new(path.as_os_str().as_bytes()).ok();
    let is_program = |path: &PathBuf| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    let found = match program.components().count() {
        1 => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let mut candidates = std::env::split_paths(&path).map(|dir| dir.join(program));
            candidates.find(is_program)
        }
        _ => Some(program.to_owned()).filter(is_program),
    };
    found.as_deref().and_then(as_c).ok_or_else(|| {
        Error::Asked(format!(
            "cannot find the program {}; install it (package criu) or name it with --criu",
            program.display()
        ))
    })
}

impl Worker {
    /// Starts a worker, in a cgroup if there is one to join; it and what it restores get this process's first three descriptors,
    /// and `inherited` under the numbers that they have here. For a restore, `place` says where it works.
    ///
    /// # Errors
    /// When there is no criu, or the system refuses.
    pub(crate) fn start(
        program: &Path,
        joiner: Option<&Joiner>,
        inherited: &[BorrowedFd<'_>],
        place: Option<&Place<'_>>,
    ) -> Result<Self, Error> {
        let path = find(program)?;
        let error = |errno| Error::system("start criu", errno);
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(error)?;
        let arguments = ["criu", "swrk", &theirs.as_raw_fd().to_string()]
            .iter()
            .filter_map(|word| CString::new(*word).ok())
            .collect();
        let arguments = StringArray::new(arguments);
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let mut pair = name;
            pair.push("=");
            pair.push(value);
            CString::new(pair.into_vec()).ok()
        });
        let environment = StringArray::new(variables.collect());
        let options = CloneOptions {
            namespaces: 0,
            sibling: false,
            cgroup: joiner.and_then(Joiner::v2),
        };
        match clone_process(&options).map_err(error)? {
            Cloned::Child => {
                let become_criu = || -> std::io::Result<()> {
                    if let Some(joiner) = joiner {
                        joiner.join_self()?;
                    }
                    if let Some(place) = place {
                        place_root(place.rootfs, place.root)?;
                    }
                    // The parent goes on when this process is where it is to be.
                    message::send(&theirs, &message::begun(None))?;
                    dhow_sys::exec::close_on_exec_from(3)?;
                    for passed in inherited.iter().chain([&theirs.as_fd()]) {
                        rustix::io::fcntl_setfd(passed, FdFlags::empty())?;
                    }
                    dhow_sys::signal::reset_all();
                    Err(dhow_sys::exec::execve(&path, &arguments, &environment).into())
                };
                if let Err(error) = become_criu() {
                    // Whoever is not there to be told does not wait either.
                    let _ = message::send(&theirs, &message::begun(Some(&error.to_string())));
                }
                dhow_sys::exec::exit_now(127)
            }
            Cloned::Parent { pid, pidfd } => {
                drop(theirs);
                let worker = Self {
                    socket: Some(ours),
                    process: pidfd,
                    pid: pid.as_raw_nonzero().get(),
                };
                worker.await_beginning()
            }
        }
    }

    /// Waits until the worker is in its cgroup and its root is in place.
    fn await_beginning(self) -> Result<Self, Error> {
        let told = self.socket.as_ref().map(message::receive).transpose();
        match told {
            Ok(Some(Some(answer))) if answer.success => Ok(self),
            Ok(Some(Some(answer))) => {
                Err(Error::Asked(format!("cannot start criu{}", answer.words())))
            }
            Ok(_) => Err(Error::Asked("criu ended before it began".to_owned())),
            Err(errno) => Err(Error::system("start criu", errno)),
        }
    }

    /// Sends the request and hears its answer; `notice` is called for each question before it.
    ///
    /// # Errors
    /// When criu could not do it, or `notice` says no.
    pub(crate) fn ask(
        mut self,
        request: &Fields,
        kind: Kind,
        mut notice: impl FnMut(&mut Answer) -> Result<(), Error>,
    ) -> Result<Answer, Error> {
        let error = |errno| Error::system("talk to criu", errno);
        let socket = self.socket.take();
        let socket = socket.ok_or_else(|| error(rustix::io::Errno::PIPE))?;
        message::send(&socket, request).map_err(error)?;
        loop {
            let Some(mut answer) = message::receive(&socket).map_err(error)? else {
                return Err(Error::Asked(
                    "criu ended without an answer; does `criu check` work on this machine?"
                        .to_owned(),
                ));
            };
            if !answer.success {
                return Err(Error::Asked(format!(
                    "criu failed: type {} errno {}{}",
                    kind.name(),
                    answer.errno,
                    answer.words()
                )));
            }
            if answer.kind != Kind::Notify as u64 {
                return Ok(answer);
            }
            notice(&mut answer)?;
            message::send(&socket, &message::go_on()).map_err(error)?;
        }
    }
}

/// Where a restore works: a mount namespace that ends with it.
pub(crate) struct Place<'a> {
    /// The root file system.
    pub(crate) rootfs: &'a Path,
    /// The directory where it is to be a mount with nothing over it, as criu needs it.
    pub(crate) root: &'a Path,
}

/// Enters a mount namespace of its own, and puts the root file system `of` at the directory `at`.
fn place_root(of: &Path, at: &Path) -> rustix::io::Result<()> {
    dhow_sys::namespace::unshare(dhow_sys::namespace::MOUNT)?;
    let change = Attributes {
        propagation: dhow_sys::mount::SLAVE,
        ..Attributes::default()
    };
    dhow_sys::mount::set_attributes_at(CWD, c"/", &change, true)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(CWD, of, flags)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&tree, "", CWD, at, flags)
}

impl Drop for Worker {
    /// It ends when the socket is closed, so waiting for it does not last.
    fn drop(&mut self) {
        self.socket = None;
        let id = WaitId::PidFd(self.process.as_fd());
        let _ = rustix::process::waitid(id, WaitIdOptions::EXITED);
    }
}
