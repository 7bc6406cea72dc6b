//! systemd's word for a service that is ready (sd_notify(3)), passed on: the container cannot reach the host's socket, and systemd
//! does not believe whoever is not the service's own. As in runc, the container gets a socket of its own at /run/notify, and what
//! it says there of being ready is told to the host's with the process that systemd is to watch.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, MountBuilder};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use crate::container::ContainerDir;
use crate::error::Error;

/// The directory of the socket, in the container's own.
const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify/notify.sock";
/// Where the container finds it.
const IN_CONTAINER: &str = "/run/notify";
const VARIABLE: &str = "NOTIFY_SOCKET";

/// What a container gets so that it can say that it is ready.
#[derive(Debug)]
pub(crate) struct ForContainer {
    /// The directory of the socket.
    pub(crate) mount: Mount,
    /// The variable that leads there.
    pub(crate) variable: String,
}

/// The address that systemd gave this process.
fn given() -> Option<OsString> {
    std::env::var_os(VARIABLE).filter(|address| !address.is_empty())
}

/// What the container of a directory gets, if somebody wants to know that it is ready.
///
/// # Errors
/// When the path is none of a mount.
pub(crate) fn for_container(root: &Path, id: &str) -> Result<Option<ForContainer>, Error> {
    if given().is_none() {
        return Ok(None);
    }
    let error = |what: String| Error::Asked(format!("prepare for {VARIABLE}: {what}"));
    let source = std::path::absolute(root).map_err(|cause| error(cause.to_string()))?;
    let options = ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned);
    let mount = MountBuilder::default()
        .destination(IN_CONTAINER)
        .source(source.join(id).join(DIRECTORY))
        .options(options)
        .build()
        .map_err(|cause| error(cause.to_string()))?;
    Ok(Some(ForContainer {
        mount,
        variable: format!("{VARIABLE}={IN_CONTAINER}/notify.sock"),
    }))
}

/// Makes the directory of the socket. The socket follows when the container starts.
///
/// # Errors
/// The system's.
pub(crate) fn make_directory(dir: &ContainerDir) -> Result<(), Error> {
    rustix::fs::mkdirat(dir.fd(), DIRECTORY, Mode::from_raw_mode(0o755))
        .map_err(|errno| Error::system(format!("make the directory of {VARIABLE}"), errno))
}

/// The container's socket, and the way to the host's.
#[derive(Debug)]
pub(crate) struct Notify {
    socket: OwnedFd,
    host: SocketAddrUnix,
}

impl Notify {
    /// Opens the socket of a container that is about to start; none where nobody wants to know, or the container was made
    /// without the directory.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open(dir: &ContainerDir) -> Result<Option<Self>, Error> {
        let Some(address) = given() else {
            return Ok(None);
        };
        if rustix::fs::statat(dir.fd(), DIRECTORY, AtFlags::SYMLINK_NOFOLLOW).is_err() {
            return Ok(None);
        }
        let what = format!("use {VARIABLE}={}", address.display());
        let error = |errno| Error::system(what.clone(), errno);
        let host = match address.as_bytes().split_first() {
            Some((b'@', name)) => SocketAddrUnix::new_abstract_name(name),
            _ => SocketAddrUnix::new(PathBuf::from(&address)),
        };
        let host = host.map_err(error)?;
        // What a `start` left that was killed.
        let _ = rustix::fs::unlinkat(dir.fd(), SOCKET, AtFlags::empty());
        let socket = socket().map_err(error)?;
        let own = SocketAddrUnix::new(dir.short_path(SOCKET).as_str()).map_err(error)?;
        rustix::net::bind(&socket, &own).map_err(error)?;
        // Whoever is in the container may speak.
        let all = Mode::from_raw_mode(0o777);
        rustix::fs::chmodat(dir.fd(), SOCKET, all, AtFlags::empty()).map_err(error)?;
        Ok(Some(Self { socket, host }))
    }

    /// Passes on what the container has said, with the process to watch; whether it was that it is ready.
    ///
    /// # Errors
    /// When the host's socket cannot be reached.
    pub(crate) fn pass_on(&self, pid: i32) -> Result<bool, Error> {
        let mut said = [0; 4096];
        loop {
            let length = match rustix::net::recv(&self.socket, &mut said[..], RecvFlags::empty()) {
                Ok((_, length)) => length.min(said.len()),
                Err(Errno::INTR) => continue,
                // Nothing more.
                Err(_) => return Ok(false),
            };
            if let Some(ready) = ready_line(&said[..length]) {
                self.tell(ready)?;
                self.tell(format!("MAINPID={pid}").as_bytes())?;
                return Ok(true);
            }
        }
    }

    fn tell(&self, line: &[u8]) -> Result<(), Error> {
        let told = socket().and_then(|socket| {
            let text = [line, b"\n"].concat();
            rustix::net::sendto(&socket, &text, SendFlags::NOSIGNAL, &self.host)
        });
        told.map(drop)
            .map_err(|errno| Error::system(format!("tell the host's {VARIABLE}"), errno))
    }

    /// Waits until the container is ready or has ended, and, where it is ready, until systemd has taken note of it: it would
    /// not believe a process that has ended.
    ///
    /// # Errors
    /// When the host's socket cannot be reached.
    pub(crate) fn until_ready(&self, pid: i32, pidfd: BorrowedFd<'_>) -> Result<(), Error> {
        loop {
            let mut fds = [
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
            ];
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::system("wait for the container", errno)),
            }
            let ended = !fds[1].revents().is_empty();
            if self.pass_on(pid)? {
                return self.barrier();
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// Waits until the other side has read all that was said: it closes the descriptor that comes last (sd_notify_barrier(3)).
    fn barrier(&self) -> Result<(), Error> {
        /// As runc waits; not everybody who listens knows barriers.
        const PATIENCE: Timespec = Timespec {
            tv_sec: 30,
            tv_nsec: 0,
        };
        let error = |errno| Error::system(format!("wait for the host's {VARIABLE}"), errno);
        let flags = rustix::pipe::PipeFlags::CLOEXEC;
        let (read, write) = rustix::pipe::pipe_with(flags).map_err(error)?;
        let socket = socket().map_err(error)?;
        rustix::net::connect(&socket, &self.host).map_err(error)?;
        crate::channel::send_descriptor(&socket, b"BARRIER=1", write.as_fd()).map_err(error)?;
        drop(write);
        let mut fds = [PollFd::new(&read, PollFlags::IN)];
        if rustix::event::poll(&mut fds, Some(&PATIENCE)) == Ok(0) {
            crate::log::warn("nobody answered the barrier at NOTIFY_SOCKET within 30 s");
        }
        Ok(())
    }
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
}

/// The line by which a service says that it is ready. Others are not passed on: which process systemd watches, or that the service
/// is to be restarted, is not the container's to say.
fn ready_line(said: &[u8]) -> Option<&[u8]> {
    let mut lines = said.split(|byte| *byte == b'\n');
    lines.find(|line| line.starts_with(b"READY="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_that_it_is_ready_is_passed_on() {
        let said = b"STATUS=READY=0\nMAINPID=1\nREADY=1\nX=2";
        assert_eq!(ready_line(said), Some(&b"READY=1"[..]));
        assert_eq!(ready_line(b"STOPPING=1"), None);
    }
}
