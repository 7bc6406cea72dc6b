//! systemd's readiness protocol (sd_notify(3)): what a container says of being ready reaches the host's socket, with the process that
//! systemd is to watch.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, Instant};

use dhow_integration_tests::{Bundle, PATIENCE, Ran, Sandbox, copy_program, program};
use rustix::net::{RecvAncillaryBuffer, RecvFlags};
use serde_json::json;

/// systemd's end.
struct Host {
    socket: UnixDatagram,
    path: std::path::PathBuf,
}

impl Host {
    fn new(sandbox: &Sandbox) -> Self {
        let path = sandbox.path("host.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path }
    }

    /// The next message. Descriptors that come with it are closed, which is how systemd answers a barrier.
    fn hear(&self) -> String {
        let mut text = [0; 4096];
        let mut space = [std::mem::MaybeUninit::uninit(); 64];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [std::io::IoSliceMut::new(&mut text)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let heard = rustix::net::recvmsg(&self.socket, &mut parts, &mut control, flags).unwrap();
        control.drain().for_each(drop);
        String::from_utf8_lossy(&text[..heard.bytes])
            .trim_end()
            .to_owned()
    }

    /// Asserts that nothing was said.
    fn is_quiet(&self) {
        self.socket.set_nonblocking(true).unwrap();
        let heard = self.socket.recv(&mut [0; 16]);
        assert_eq!(heard.unwrap_err().kind(), ErrorKind::WouldBlock);
        self.socket.set_nonblocking(false).unwrap();
    }
}

fn bundle(sandbox: &Sandbox) -> Bundle {
    let mut bundle = sandbox.bundle("");
    copy_program(
        program("dhow-test-notifier"),
        bundle.path("rootfs/bin/notifier"),
    );
    // Neither what it says besides nor whom systemd is to watch is its business.
    bundle.config["process"]["args"] =
        json!(["notifier", "STATUS=on its way", "MAINPID=1\nREADY=1\nX=2"]);
    bundle.config["root"]["readonly"] = json!(false);
    bundle.write_config();
    bundle
}

fn allow(bundle: &Bundle, what: &str) {
    fs_err::write(bundle.path("rootfs/tmp").join(what), "").unwrap();
}

fn command(bundle: &Bundle, host: &Host, words: &[&str]) -> std::process::Command {
    let mut command = bundle.command(words);
    command
        .arg(bundle.id())
        .env("NOTIFY_SOCKET", &host.path)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn ended(child: &mut std::process::Child) -> Option<i32> {
    child
        .try_wait()
        .unwrap()
        .map(|status| status.code().unwrap())
}

#[track_caller]
fn ends_well(mut child: std::process::Child) {
    let end = Instant::now() + PATIENCE;
    while ended(&mut child).is_none() {
        assert!(Instant::now() < end, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(ended(&mut child), Some(0));
}

#[test]
fn start_returns_when_the_container_is_ready() {
    let sandbox = Sandbox::new();
    let (host, bundle) = (Host::new(&sandbox), bundle(&sandbox));
    assert!(
        command(&bundle, &host, &["create"])
            .status()
            .unwrap()
            .success()
    );
    let mut start = command(&bundle, &host, &["start"]).spawn().unwrap();
    bundle.await_status("running");
    assert_eq!(ended(&mut start), None, "it is not ready yet");
    host.is_quiet();
    // Meanwhile others can do with it what they want.
    let none: Ran = bundle.runtime(["exec", bundle.id(), "/bin/sh", "-c", "echo $NOTIFY_SOCKET"]);
    assert_eq!(none.ok(), "");
    allow(&bundle, "go");
    assert_eq!(host.hear(), "READY=1");
    let pid = bundle.state()["pid"].to_string();
    assert_eq!(host.hear(), format!("MAINPID={pid}"));
    assert_eq!(host.hear(), "BARRIER=1");
    ends_well(start);
    assert_eq!(bundle.state()["status"], "running");
    allow(&bundle, "end");
    bundle.await_status("stopped");
    bundle.runtime(["delete", bundle.id()]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn a_detached_run_returns_when_the_container_is_ready() {
    let sandbox = Sandbox::new();
    let (host, bundle) = (Host::new(&sandbox), bundle(&sandbox));
    let run = command(&bundle, &host, &["run", "--detach"])
        .spawn()
        .unwrap();
    bundle.await_status("running");
    allow(&bundle, "go");
    assert_eq!(host.hear(), "READY=1");
    let pid = bundle.state()["pid"].to_string();
    assert_eq!(host.hear(), format!("MAINPID={pid}"));
    assert_eq!(host.hear(), "BARRIER=1");
    ends_well(run);
}

#[test]
fn a_run_in_the_foreground_is_the_service_itself() {
    let sandbox = Sandbox::new();
    let (host, bundle) = (Host::new(&sandbox), bundle(&sandbox));
    let run = command(&bundle, &host, &["run"]).spawn().unwrap();
    bundle.await_status("running");
    allow(&bundle, "go");
    assert_eq!(host.hear(), "READY=1");
    // The container's parent; what was started here is timeout(1).
    let pid = bundle.state()["pid"].to_string();
    let status = fs_err::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))
        .unwrap();
    assert_eq!(host.hear(), format!("MAINPID={}", parent.trim()));
    allow(&bundle, "end");
    ends_well(run);
    host.is_quiet();
    bundle.assert_nothing_left();
}

#[test]
fn a_container_that_ends_before_it_is_ready_is_not_waited_for() {
    let sandbox = Sandbox::new();
    let (host, mut bundle) = (Host::new(&sandbox), bundle(&sandbox));
    bundle.config["process"]["args"] =
        json!(["sh", "-c", "test -S $NOTIFY_SOCKET && sleep 0.3; exit 3"]);
    bundle.write_config();
    let run = command(&bundle, &host, &["run", "--detach"])
        .spawn()
        .unwrap();
    ends_well(run);
    host.is_quiet();
}
