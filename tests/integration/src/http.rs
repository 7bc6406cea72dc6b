//! Asking a service on loopback, with an end to the waiting.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, SocketType};

use crate::PATIENCE;

/// What a service answered.
#[derive(Debug)]
pub struct Answer {
    /// The status of the response, such as 200.
    pub status: u16,
    /// Its body as text.
    pub body: String,
}

/// An address of loopback at which nobody listens as long as this lives: it is taken, and refuses connections.
pub struct ClosedPort {
    _socket: OwnedFd,
    address: SocketAddr,
}

impl ClosedPort {
    /// A new one.
    ///
    /// # Panics
    /// When there is none.
    #[allow(clippy::new_without_default, reason = "each is another address")]
    pub fn new() -> Self {
        let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let address = net::getsockname(&socket).expect("its address");
        Self {
            _socket: socket,
            address: address.try_into().expect("an address of IP"),
        }
    }
}

impl fmt::Display for ClosedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// A port of this machine for a service that another program begins and that cannot be asked for the port it got. Nobody is given
/// it for a port of any number, and no other test takes it as long as this lives.
pub struct ServicePort {
    number: u16,
    _claim: UnixListener,
}

impl ServicePort {
    /// A new one.
    ///
    /// # Panics
    /// When there is none.
    #[allow(clippy::new_without_default, reason = "each is another port")]
    pub fn new() -> Self {
        let given = fs_err::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("read");
        let lowest = given.split_whitespace().next();
        let lowest: u16 = lowest.and_then(|word| word.parse().ok()).expect("a port");
        (lowest.saturating_sub(2000)..lowest)
            .find_map(|number| {
                // An abstract name goes with whoever has it.
                let name = format!("dhow-test-port-{number}");
                let name = unix::net::SocketAddr::from_abstract_name(name).expect("a name");
                let claim = UnixListener::bind_addr(&name).ok()?;
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).ok()?;
                Some(Self {
                    number,
                    _claim: claim,
                })
            })
            .expect("a free port below those that are given to anybody")
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Asks a service on loopback for a page until it answers, as long as patience lasts.
///
/// # Panics
/// When no answer came.
#[track_caller]
pub fn await_page(port: u16, path: &str) -> Answer {
    let end = Instant::now() + PATIENCE;
    loop {
        match get(port, path) {
            Ok(answer) => return answer,
            Err(error) => assert!(
                Instant::now() < end,
                "no answer from port {port} for {path}: {error}"
            ),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One request with one connection; the end of the response is the end of the connection.
fn get(port: u16, path: &str) -> io::Result<Answer> {
    let wait = Duration::from_secs(20);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut connection = TcpStream::connect_timeout(&address, wait)?;
    connection.set_read_timeout(Some(wait))?;
    connection
        .write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n").as_bytes())?;
    let mut response = Vec::new();
    connection.read_to_end(&mut response)?;
    let response = String::from_utf8_lossy(&response);
    let broken = || io::Error::new(io::ErrorKind::InvalidData, format!("{response:?}"));
    let (head, body) = response.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok(Answer {
        status: status.ok_or_else(broken)?,
        body: body.to_owned(),
    })
}
