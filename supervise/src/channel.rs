//! The socket between a monitor and whoever speaks with it: one JSON document a packet, with descriptors beside it.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Exit;

/// The name of the monitor's socket in the pod's directory.
const SOCKET: &str = "monitor.sock";

/// No packet is longer.
const LARGEST_PACKET: usize = 32 << 10;

/// No packet brings more descriptors.
const MOST_DESCRIPTORS: usize = 4;

/// What is asked of a monitor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Begin: the first packet, only from who started the monitor. With the pod's lock; when attached then with where the first container's
    /// standard output and error go, and, when its input is open and no terminal, what it reads.
    Begin {
        /// Whether the descriptors of the output are there.
        attached: bool,
        /// Whether the descriptor of the input is there.
        stdin: bool,
    },
    /// Send a signal to a container's first process.
    Signal {
        /// The container; the first when it is not said.
        container: Option<String>,
        /// The signal's number.
        signal: i32,
    },
    /// Tell when all has ended; answered by [`Report::Ended`].
    Wait,
    /// The starter has cleaned up; nothing is left to do.
    Cleaned,
}

/// What a monitor tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// All containers run. With the terminal's descriptor where the first has one and the starter is attached.
    Started {
        /// The process id of the first container.
        pid: i32,
    },
    /// A container could not be started; the pod is over.
    Failed {
        /// 125, 126 or 127 as in Docker.
        code: u8,
        /// Why.
        message: String,
    },
    /// A request was carried out.
    Done,
    /// A request could not be carried out.
    Refused {
        /// Why.
        message: String,
    },
    /// A container has ended; the last of its output may still be on its way.
    Exited {
        /// The container.
        container: String,
        /// How.
        exit: Exit,
    },
    /// All has ended, and the runtime keeps nothing of it.
    Ended,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

/// A packet.
#[derive(Debug)]
pub struct Received<T> {
    /// What it says.
    pub message: T,
    /// What came with it.
    pub descriptors: Vec<OwnedFd>,
}

impl Channel {
    /// Two connected ends.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn pair() -> Result<(Self, Self), Errno> {
        let (one, other) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self { socket: one }, Self { socket: other }))
    }

    /// The end behind a descriptor that was passed on.
    pub fn from_descriptor(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// The descriptor, to pass on.
    pub fn into_descriptor(self) -> OwnedFd {
        self.socket
    }

    /// Sends one packet.
    ///
    /// # Errors
    /// When the other end is gone.
    pub fn send(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Errno> {
        let bytes = serde_json::to_vec(message).map_err(|_| Errno::INVAL)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors))
        {
            return Err(Errno::INVAL);
        }
        let data = [IoSlice::new(&bytes)];
        loop {
            match rustix::net::sendmsg(&self.socket, &data, &mut ancillary, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                sent => return sent.map(|_| ()),
            }
        }
    }

    /// Waits for the next packet; none when the other end is gone.
    ///
    /// # Errors
    /// When the packet is none of these.
    pub fn receive<T: DeserializeOwned>(&self) -> Result<Option<Received<T>>, Errno> {
        let mut bytes = vec![0; LARGEST_PACKET];
        let Some((length, descriptors)) = receive(self.socket.as_fd(), &mut bytes)? else {
            return Ok(None);
        };
        let message = serde_json::from_slice(&bytes[..length]).map_err(|_| Errno::BADMSG)?;
        Ok(Some(Received {
            message,
            descriptors,
        }))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// One packet and its descriptors; none at the end.
fn receive(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> Result<Option<(usize, Vec<OwnedFd>)>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut data = [IoSliceMut::new(bytes)];
        match rustix::net::recvmsg(socket, &mut data, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(None),
            received => break received?,
        }
    };
    let descriptors = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        })
        .flatten()
        .collect();
    Ok((received.bytes > 0).then_some((received.bytes, descriptors)))
}

/// The socket's address below an open directory: a path of its own would often be longer than an address may be.
fn address(dir: BorrowedFd<'_>, name: &str) -> Result<SocketAddrUnix, Errno> {
    use std::os::fd::AsRawFd;
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
}

fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Listens as the monitor of the pod whose directory is `dir`.
///
/// # Errors
/// When the directory cannot be written.
pub fn listen(dir: &Path) -> Result<OwnedFd, Errno> {
    let dir = open_dir(dir)?;
    match rustix::fs::unlinkat(&dir, SOCKET, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    listen_at(&dir, SOCKET, SocketType::SEQPACKET)
}

fn listen_at(dir: &OwnedFd, name: &str, kind: SocketType) -> Result<OwnedFd, Errno> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &address(dir.as_fd(), name)?)?;
    rustix::net::listen(&socket, 16)?;
    Ok(socket)
}

/// Connects with the monitor of the pod whose directory is `dir`; none when it has none.
///
/// # Errors
/// When the system refuses for another reason.
pub fn connect(dir: &Path) -> Result<Option<Channel>, Errno> {
    let dir = match open_dir(dir) {
        Err(Errno::NOENT) => return Ok(None),
        dir => dir?,
    };
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    match rustix::net::connect(&socket, &address(dir.as_fd(), SOCKET)?) {
        Ok(()) => Ok(Some(Channel { socket })),
        Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Lets `start` start something with the path of a socket to which the master end of its terminal is sent (runc's `--console-socket`), and gives
/// what `start` gave and that end, if it came.
///
/// # Errors
/// When the socket cannot be made in `dir`.
pub fn receive_terminal<T>(
    dir: &Path,
    name: &str,
    start: impl FnOnce(&Path) -> T,
) -> Result<(T, Option<OwnedFd>), Errno> {
    use std::os::fd::AsRawFd;
    let dir = open_dir(dir)?;
    let socket = listen_at(&dir, name, SocketType::STREAM)?;
    // Another process goes through this one's descriptors: short enough however deep the directory lies.
    let path = format!("/proc/{}/fd/{}/{name}", std::process::id(), dir.as_raw_fd());
    let started = start(Path::new(&path));
    let _ = rustix::fs::unlinkat(&dir, name, rustix::fs::AtFlags::empty());
    rustix::io::ioctl_fionbio(&socket, true)?;
    let sent = match rustix::net::accept_with(&socket, SocketFlags::CLOEXEC) {
        Ok(connection) => {
            let mut bytes = [0; 4096];
            receive(connection.as_fd(), &mut bytes)?
        }
        Err(Errno::WOULDBLOCK) => None,
        Err(errno) => return Err(errno),
    };
    Ok((
        started,
        sent.and_then(|(_, descriptors)| descriptors.into_iter().next()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_come_with_their_message_however_deep_the_directory() {
        let deep = std::env::temp_dir()
            .join(format!("dhow-channel-{}", std::process::id()))
            .join("x".repeat(120));
        std::fs::create_dir_all(&deep).unwrap();
        assert!(connect(&deep).unwrap().is_none());
        let listener = listen(&deep).unwrap();
        let client = connect(&deep).unwrap().unwrap();
        let server = Channel::from_descriptor(rustix::net::accept(&listener).unwrap());
        let request = Request::Begin {
            attached: true,
            stdin: false,
        };
        client
            .send(&request, &[client.as_fd(), listener.as_fd()])
            .unwrap();
        drop(client);
        let received = server.receive::<Request>().unwrap().unwrap();
        assert_eq!(received.message, request);
        assert_eq!(received.descriptors.len(), 2);
        drop(received);
        assert!(server.receive::<Request>().unwrap().is_none());
        drop(listener);
        assert!(connect(&deep).unwrap().is_none());
        std::fs::remove_dir_all(deep.parent().unwrap()).unwrap();
    }
}
