//! What stands before a registry and lets only so much through.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::{PATIENCE, Ran};

/// Passes connections on to a registry, and only so many bytes, there and back together.
pub struct Gate {
    flow: Mutex<Flow>,
    changed: Condvar,
    /// Whether it breaks the connection that is one too many, and lets all others through.
    breaks: bool,
}

struct Flow {
    left: u64,
    /// How many connections are held up.
    waiting: u32,
}

impl Gate {
    /// One that holds up what is too much until it is opened; where it is asked.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn before(registry: SocketAddr, bytes: u64) -> (SocketAddr, Arc<Self>) {
        Self::start(registry, bytes, false)
    }

    /// One that breaks a connection once, after so many bytes; where it is asked.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn breaking(registry: SocketAddr, bytes: u64) -> SocketAddr {
        Self::start(registry, bytes, true).0
    }

    fn start(registry: SocketAddr, bytes: u64, breaks: bool) -> (SocketAddr, Arc<Self>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let gate = Arc::new(Self {
            flow: Mutex::new(Flow {
                left: bytes,
                waiting: 0,
            }),
            changed: Condvar::new(),
            breaks,
        });
        let opened = Arc::clone(&gate);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(mut client), Ok(mut server)) = (client, TcpStream::connect(registry))
                else {
                    return;
                };
                let (up, down) = (client.try_clone(), server.try_clone());
                let (mut up, mut down) = (up.expect("clone"), down.expect("clone"));
                let gates = (Arc::clone(&opened), Arc::clone(&opened));
                std::thread::spawn(move || gates.0.pass_on(&mut up, &mut down));
                std::thread::spawn(move || gates.1.pass_on(&mut server, &mut client));
            }
        });
        (address, gate)
    }

    fn pass_on(&self, from: &mut TcpStream, to: &mut TcpStream) {
        let mut buffer = [0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if !self.take(count as u64) || to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }

    /// Waits until so many bytes may go; whether they may.
    fn take(&self, count: u64) -> bool {
        let mut flow = self.flow.lock().expect("lock");
        if self.breaks && flow.left < count {
            flow.left = u64::MAX;
            return false;
        }
        flow.waiting += 1;
        while flow.left < count {
            flow = self.changed.wait(flow).expect("lock");
        }
        flow.waiting -= 1;
        flow.left -= count;
        true
    }

    fn is_stalled(&self) -> bool {
        self.flow.lock().expect("lock").waiting > 0
    }

    /// Lets everything through from now on.
    ///
    /// # Panics
    /// When one of its threads did.
    pub fn open(&self) {
        self.flow.lock().expect("lock").left = u64::MAX;
        self.changed.notify_all();
    }

    /// Runs a program until nothing more comes through and `is_settled`, and kills it then.
    ///
    /// # Panics
    /// When it ends by itself, or is never held up.
    #[track_caller]
    pub fn kill_when_stalled(&self, mut program: Command, is_settled: impl Fn() -> bool) {
        let mut child = program.stdout(Stdio::null()).spawn().expect("start");
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && !(self.is_stalled() && is_settled()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().expect("kill");
        let status = child.wait().expect("wait");
        assert!(Instant::now() < end, "it was never held up");
        assert_eq!(Ran::status_of(status), -9, "it ended by itself");
    }
}
