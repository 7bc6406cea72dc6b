//! The one channel between a command and the process that it makes: a pair of sockets that keep messages apart. Its end
//! is news too: init's end of it is close-on-exec, so it closes when the program has begun.

use std::ffi::OsStr;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::io::{Errno, Result};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::init::StepError;

/// One end.
#[derive(Debug)]
pub(crate) struct Channel {
    fd: OwnedFd,
}

/// What passes.
#[derive(Debug)]
pub(crate) enum Message {
    /// To init: go on.
    Go,
    /// From the intermediate: init's id and pidfd.
    Init(i32, OwnedFd),
    /// From init: the mounts are made.
    Mounted,
    /// From init: the terminal's master end.
    Console(OwnedFd),
    /// From init: all is ready.
    Ready,
    /// From init: its filter of calls is in force, and its descriptor of this number is the listener.
    Listener(i32),
    /// From init: it may not reach a path of the host's that the configuration names.
    OpenSource(PathBuf),
    /// To init: what is at that path.
    Source(OwnedFd),
    /// From init: a step failed. To init: that path cannot be opened.
    Failed(StepError),
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sends a descriptor with a text to whoever is at the other end of a socket. It goes with the first bytes; of a long text a
/// stream may take a part at a time.
pub(crate) fn send_descriptor(
    socket: impl AsFd,
    text: &[u8],
    descriptor: BorrowedFd<'_>,
) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let passed = [descriptor];
    control.push(SendAncillaryMessage::ScmRights(&passed));
    let (first, flags) = ([IoSlice::new(text)], SendFlags::NOSIGNAL);
    let mut sent = rustix::net::sendmsg(&socket, &first, &mut control, flags)?;
    while sent < text.len() {
        sent += rustix::net::send(&socket, &text[sent..], flags)?;
    }
    Ok(())
}

impl Channel {
    /// Both ends.
    pub(crate) fn pair() -> Result<(Self, Self)> {
        let (one, other) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self { fd: one }, Self { fd: other }))
    }

    /// Its descriptor.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// To wait at.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn send(&self, message: &Message) -> Result<()> {
        let mut bytes = Vec::with_capacity(64);
        let mut passed = None;
        match message {
            Message::Go => bytes.push(b'G'),
            Message::Init(pid, pidfd) => {
                bytes.push(b'I');
                bytes.extend_from_slice(&pid.to_ne_bytes());
                passed = Some(pidfd.as_fd());
            }
            Message::Mounted => bytes.push(b'M'),
            Message::Console(master) => {
                bytes.push(b'C');
                passed = Some(master.as_fd());
            }
            Message::Ready => bytes.push(b'R'),
            Message::OpenSource(path) => {
                bytes.push(b'O');
                bytes.extend_from_slice(path.as_os_str().as_bytes());
            }
            Message::Source(fd) => {
                bytes.push(b'S');
                passed = Some(fd.as_fd());
            }
            Message::Listener(number) => return self.send_listener(*number),
            Message::Failed(error) => {
                bytes.push(b'E');
                error.encode(&mut bytes);
            }
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let passed: Vec<_> = passed.into_iter().collect();
        if !passed.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&passed));
        }
        rustix::net::sendmsg(
            &self.fd,
            &[IoSlice::new(&bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
        .map(drop)
    }

    /// Tells the number of a listener by write(2) alone: any other call may be one that the listener is to be asked about,
    /// and nobody has it yet.
    fn send_listener(&self, number: i32) -> Result<()> {
        let mut bytes = [b'L'; 5];
        bytes[1..].copy_from_slice(&number.to_ne_bytes());
        rustix::io::write(&self.fd, &bytes).map(drop)
    }

    /// The next message; `None` when the other end is closed.
    pub(crate) fn receive(&self) -> Result<Option<Message>> {
        let mut bytes = [0u8; 8192];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            match rustix::net::recvmsg(&self.fd, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
            {
                Err(Errno::INTR) => continue,
                // The other end died with something unread.
                Err(Errno::CONNRESET) => return Ok(None),
                answer => break answer?.bytes,
            }
        };
        let mut passed = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                passed = fds.last();
            }
        }
        let Some((tag, rest)) = bytes[..received].split_first() else {
            return Ok(None);
        };
        Ok(Some(match (tag, passed) {
            (b'G', _) => Message::Go,
            (b'I', Some(pidfd)) => {
                let pid = rest.try_into().map_err(|_| Errno::PROTO)?;
                Message::Init(i32::from_ne_bytes(pid), pidfd)
            }
            (b'M', _) => Message::Mounted,
            (b'C', Some(master)) => Message::Console(master),
            (b'R', _) => Message::Ready,
            (b'O', _) => Message::OpenSource(PathBuf::from(OsStr::from_bytes(rest))),
            (b'S', Some(fd)) => Message::Source(fd),
            (b'L', _) => {
                let number = rest.try_into().map_err(|_| Errno::PROTO)?;
                Message::Listener(i32::from_ne_bytes(number))
            }
            (b'E', _) => Message::Failed(StepError::decode(rest)),
            _ => return Err(Errno::PROTO),
        }))
    }
}
