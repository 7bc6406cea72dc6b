//! Steps on namespaces, and what belongs to one.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use dhow_sys::namespace;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::{Doing, Init, StepError};
use crate::plan::NamespaceKind;
use crate::root_dir::write_procfs;

impl Init {
    /// Moves this process into the cgroup, through descriptors opened before.
    pub(super) fn join_cgroup(&mut self) -> Result<(), StepError> {
        match self.resources.joiner.take() {
            Some(joiner) => joiner
                .join_self()
                .map_err(|error| StepError::other(format!("join the cgroup: {error}"))),
            None => Ok(()),
        }
    }

    /// Enters the namespaces of the container's init.
    pub(super) fn join_container(&mut self, namespaces: u64) -> Result<(), StepError> {
        let target = self.resources.target.take();
        let target = target.ok_or_else(|| StepError::other("no container to join"))?;
        // Its pid namespace is for the next process.
        namespace::enter(std::os::fd::AsFd::as_fd(&target), namespaces)
            .doing(|| "enter the container's namespaces".to_owned())?;
        drop(target);
        self.close_foreign().map(drop)
    }
}

/// Enters a namespace by path.
pub(crate) fn join(kind: NamespaceKind, path: &Path) -> Result<(), StepError> {
    let what = || format!("enter the {} namespace {}", kind.name(), path.display());
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).doing(what)?;
    match namespace::enter(std::os::fd::AsFd::as_fd(&fd), kind.0) {
        // Nobody can enter the user namespace that he is in; there he is already.
        Err(Errno::INVAL) if kind.0 == namespace::USER && is_own_user_namespace(&fd) => Ok(()),
        Err(Errno::INVAL) => Err(StepError::system(
            format!("{} (it must be of that type)", what()),
            Errno::INVAL,
        )),
        answer => answer.doing(what),
    }
}

fn is_own_user_namespace(fd: &OwnedFd) -> bool {
    let own = rustix::fs::stat("/proc/self/ns/user");
    let same = |own: rustix::fs::Stat| {
        rustix::fs::fstat(fd)
            .is_ok_and(|other| (own.st_dev, own.st_ino) == (other.st_dev, other.st_ino))
    };
    own.is_ok_and(same)
}

pub(super) fn unshare_cgroup() -> Result<(), StepError> {
    namespace::unshare(namespace::CGROUP).doing(|| "make a cgroup namespace".to_owned())
}

pub(super) fn unshare_ipc() -> Result<(), StepError> {
    namespace::unshare(namespace::IPC).doing(|| "make an ipc namespace".to_owned())
}

/// Makes a time namespace, moves its clocks and enters it, in this order: nobody may be in it when they are moved.
pub(super) fn unshare_time(offsets: &[(String, i64, u32)]) -> Result<(), StepError> {
    namespace::unshare(namespace::TIME).doing(|| "make a time namespace".to_owned())?;
    for (clock, seconds, nanoseconds) in offsets {
        let line = format!("{clock} {seconds} {nanoseconds}\n");
        write_procfs(Path::new("/proc/self/timens_offsets"), line.as_bytes())
            .doing(|| format!("move the clock {clock} by {seconds} s"))?;
    }
    join(
        NamespaceKind(namespace::TIME),
        Path::new("/proc/self/ns/time_for_children"),
    )
}

pub(super) fn raise_loopback() -> Result<(), StepError> {
    let what = || "bring the loopback interface up".to_owned();
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .doing(what)?;
    dhow_sys::net::loopback_up(std::os::fd::AsFd::as_fd(&socket)).doing(what)
}

/// Sets a kernel parameter of this process's namespaces through the host's /proc: the kernel looks up whose it is by who
/// writes, and nothing of the container's lies in between.
pub(super) fn set_sysctl(key: &str, value: &str) -> Result<(), StepError> {
    let mut path = PathBuf::from("/proc/sys");
    // As sysctl(8): the first separator that stands tells which one it is, the other is part of a name.
    if key.find('/').unwrap_or(usize::MAX) < key.find('.').unwrap_or(usize::MAX) {
        path.extend(key.split('/'));
    } else {
        path.extend(key.split('.').map(|part| part.replace('/', ".")));
    }
    let escapes = path
        .components()
        .any(|part| part == std::path::Component::ParentDir);
    if escapes {
        return Err(StepError::other(format!("sysctl {key:?} is no parameter")));
    }
    write_procfs(&path, value.as_bytes()).doing(|| format!("set sysctl {key} to {value:?}"))
}
