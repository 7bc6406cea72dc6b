//! A service that says that it is ready, for the tests: static, so that it runs in any container. It is no part of dhow.
//!
//! `notifier TEXT...` sends each text to $NOTIFY_SOCKET, as sd_notify(3) does, when the file /tmp/go is there, and ends when /tmp/end is.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

fn main() {
    let until = |path: &str| {
        while !Path::new(path).exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let address = std::env::var_os("NOTIFY_SOCKET").expect("NOTIFY_SOCKET");
    until("/tmp/go");
    let socket = UnixDatagram::unbound().expect("a socket");
    for text in std::env::args().skip(1) {
        let sent = socket.send_to(text.as_bytes(), &address);
        sent.expect("somebody to listen");
    }
    until("/tmp/end");
}
