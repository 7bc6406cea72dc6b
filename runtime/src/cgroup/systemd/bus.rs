//! A connection to a bus, or to systemd itself: one call at a time, without a second thread.
//!
//! Our own and not the crate rustbus, which would bring a second and older nix, thiserror 1 and two procedural macros for the six
//! calls that are made here.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::message::{Call, FIXED, Kind, Message, Writer, rest_length};

/// How long systemd may take for an answer, and for a job, as in runc.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum BusError {
    /// Nobody is there, or went away.
    Connection { address: String, source: io::Error },
    /// The answer is no.
    Refused { name: String, text: String },
}

/// A connection.
#[derive(Debug)]
pub(super) struct Bus {
    socket: OwnedFd,
    address: String,
    serial: u32,
    /// Signals that came while an answer was waited for.
    signals: Vec<Message>,
}

impl Bus {
    /// Connects to the system's bus, or to the user's.
    pub(super) fn open(user: bool) -> Result<Self, BusError> {
        let mut first = None;
        for (address, direct) in addresses(user) {
            match Self::connect(&address, direct) {
                Ok(bus) => return Ok(bus),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| BusError::Connection {
            address: "the user's bus (neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set)"
                .to_owned(),
            source: io::ErrorKind::NotFound.into(),
        }))
    }

    /// `direct`: systemd itself is there and no bus, so that nobody gives out names.
    fn connect(address: &str, direct: bool) -> Result<Self, BusError> {
        let failed = |source: io::Error| BusError::Connection {
            address: address.to_owned(),
            source,
        };
        let name = match address.strip_prefix('@') {
            Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
            None => SocketAddrUnix::new(address),
        };
        let name = name.map_err(|errno| failed(errno.into()))?;
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|errno| failed(errno.into()))?;
        rustix::net::connect(&socket, &name).map_err(|errno| failed(errno.into()))?;
        let mut bus = Self {
            socket,
            address: address.to_owned(),
            serial: 0,
            signals: Vec::new(),
        };
        bus.authenticate().map_err(failed)?;
        if !direct {
            bus.call(bus_call("Hello", "", Writer::default()))?;
            let mut rule = Writer::default();
            rule.text("type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'");
            bus.call(bus_call("AddMatch", "s", rule))?;
        }
        Ok(bus)
    }

    /// The other side knows from the socket who this is, also through a user namespace, where the own number says nothing there.
    fn authenticate(&mut self) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        self.send(b"\0AUTH EXTERNAL\r\n")?;
        self.expect_line("DATA", end)?;
        self.send(b"DATA\r\n")?;
        self.expect_line("OK", end)?;
        self.send(b"BEGIN\r\n")
    }

    fn expect_line(&mut self, begins: &str, end: Instant) -> io::Result<()> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < 1024 {
            let mut byte = [0];
            self.receive_exact(&mut byte, end)?;
            line.push(byte[0]);
        }
        let line = String::from_utf8_lossy(&line);
        if line.starts_with(begins) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("it does not let this user in: {}", line.trim()),
        ))
    }

    /// Calls, and waits for the answer.
    pub(super) fn call(&mut self, call: Call<'_>) -> Result<Message, BusError> {
        self.serial += 1;
        let bytes = call.encode(self.serial);
        self.send(&bytes).map_err(|source| self.lost(source))?;
        let end = Instant::now() + PATIENCE;
        loop {
            let message = self.receive(end).map_err(|source| self.lost(source))?;
            match message.kind {
                Kind::Reply if message.answers == self.serial => return Ok(message),
                Kind::Error if message.answers == self.serial => {
                    return Err(BusError::Refused {
                        text: message.body().text().unwrap_or_default(),
                        name: message.error,
                    });
                }
                Kind::Signal => self.signals.push(message),
                _ => {}
            }
        }
    }

    /// The next signal, also one that came before; none when it does not come in time.
    pub(super) fn signal(&mut self, end: Instant) -> Result<Option<Message>, BusError> {
        if !self.signals.is_empty() {
            return Ok(Some(self.signals.remove(0)));
        }
        loop {
            match self.receive(end) {
                Ok(message) if message.kind == Kind::Signal => return Ok(Some(message)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(None),
                Err(source) => return Err(self.lost(source)),
            }
        }
    }

    fn receive(&mut self, end: Instant) -> io::Result<Message> {
        let nonsense = || io::Error::from(io::ErrorKind::InvalidData);
        let mut fixed = [0; FIXED];
        self.receive_exact(&mut fixed, end)?;
        let mut rest = vec![0; rest_length(&fixed).ok_or_else(nonsense)?];
        self.receive_exact(&mut rest, end)?;
        Message::decode(&fixed, &rest).ok_or_else(nonsense)
    }

    fn receive_exact(&mut self, mut buffer: &mut [u8], end: Instant) -> io::Result<()> {
        while !buffer.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let timeout = Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut waited = [PollFd::new(&self.socket, PollFlags::IN)];
            match rustix::event::poll(&mut waited, Some(&timeout)) {
                Ok(0) | Err(Errno::INTR) => continue,
                other => other?,
            };
            match rustix::io::read(&self.socket, &mut *buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => buffer = &mut buffer[count..],
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn lost(&self, source: io::Error) -> BusError {
        BusError::Connection {
            address: self.address.clone(),
            source,
        }
    }
}

fn bus_call<'a>(member: &'a str, signature: &'a str, body: Writer) -> Call<'a> {
    Call {
        destination: "org.freedesktop.DBus",
        path: "/org/freedesktop/DBus",
        interface: "org.freedesktop.DBus",
        member,
        signature,
        body,
    }
}

/// Where to look, with whether systemd itself is there: its own sockets are for hosts without a bus.
fn addresses(user: bool) -> Vec<(String, bool)> {
    if !user {
        return vec![
            ("/run/dbus/system_bus_socket".to_owned(), false),
            ("/run/systemd/private".to_owned(), true),
        ];
    }
    let mut found = Vec::new();
    if let Ok(list) = std::env::var("DBUS_SESSION_BUS_ADDRESS") {
        found.extend(
            list.split(';')
                .filter_map(socket_of)
                .map(|path| (path, false)),
        );
    }
    if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR") {
        for (name, direct) in [("bus", false), ("systemd/private", true)] {
            if let Some(path) = Path::new(&dir).join(name).to_str() {
                found.push((path.to_owned(), direct));
            }
        }
    }
    found
}

/// The socket of an address such as `unix:path=/run/user/1000/bus,guid=...`; `@` stands before an abstract one.
fn socket_of(address: &str) -> Option<String> {
    address
        .strip_prefix("unix:")?
        .split(',')
        .find_map(|pair| match pair.split_once('=')? {
            ("path", path) => unescape(path),
            ("abstract", name) => Some(format!("@{}", unescape(name)?)),
            _ => None,
        })
}

/// `%20` and the like.
fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_to_sockets() {
        for (address, socket) in [
            (
                "unix:path=/run/user/1000/bus,guid=12",
                Some("/run/user/1000/bus"),
            ),
            ("unix:abstract=/tmp/a%20b", Some("@/tmp/a b")),
            ("tcp:host=localhost", None),
            ("unix:path=%zz", None),
        ] {
            assert_eq!(socket_of(address).as_deref(), socket);
        }
    }
}
