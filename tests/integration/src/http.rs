//! Asking a service on loopback, with an end to the waiting.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// What a service answered.
#[derive(Debug)]
pub struct Answer {
    /// The status of the response, such as 200.
    pub status: u16,
    /// Its body as text.
    pub body: String,
}

/// A port of loopback that nobody listens on now.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
}

/// Asks a service on loopback for a page until it answers, twenty seconds at most.
///
/// # Panics
/// When no answer came.
#[track_caller]
pub fn await_page(port: u16, path: &str) -> Answer {
    let end = Instant::now() + Duration::from_secs(20);
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
    let wait = Duration::from_secs(5);
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
