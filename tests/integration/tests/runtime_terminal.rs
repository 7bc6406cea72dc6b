//! Terminals: by a console socket, and in the foreground.

#![allow(clippy::unwrap_used)]

use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use dhow_integration_tests::{Bundle, Sandbox};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::json;

/// The terminal that comes through a console socket.
fn receive_terminal(listener: &UnixListener) -> (std::fs::File, String) {
    let (stream, _) = listener.accept().expect("a caller");
    let mut bytes = [0u8; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        &stream,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::empty(),
    )
    .expect("a message");
    let mut master: Option<OwnedFd> = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            master = fds.last();
        }
    }
    let name = String::from_utf8_lossy(&bytes[..received.bytes]).into_owned();
    (std::fs::File::from(master.expect("a terminal")), name)
}

/// Reads a terminal until its other end is closed.
fn read_all(mut master: &std::fs::File) -> String {
    let mut text = Vec::new();
    let mut buffer = [0u8; 4096];
    // EIO is a terminal's end of file.
    while let Ok(read) = master.read(&mut buffer) {
        if read == 0 {
            break;
        }
        text.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&text).replace('\r', "")
}

fn with_terminal(sandbox: &Sandbox, script: &str) -> Bundle {
    let mut bundle = sandbox.bundle(script);
    bundle.config["process"]["terminal"] = json!(true);
    bundle.config["process"]["consoleSize"] = json!({"height": 33, "width": 77});
    bundle
}

#[test]
fn create_and_exec_send_their_terminals() {
    let sandbox = Sandbox::new();
    let bundle = with_terminal(
        &sandbox,
        "tty; stty size; readlink /proc/self/fd/0; echo to-console > /dev/console; read line; echo got $line; sleep 0.3",
    );
    bundle.write_config();
    let socket = sandbox.path("console.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let socket = socket.to_str().unwrap();
    bundle
        .quiet(["create", "--console-socket", socket, bundle.id()])
        .ok();
    let (mut master, name) = receive_terminal(&listener);
    assert_eq!(name, "/dev/ptmx");
    bundle.runtime(["start", bundle.id()]).ok();

    let ran = bundle.quiet([
        "exec",
        "--tty",
        "--detach",
        "--console-socket",
        socket,
        bundle.id(),
        "tty",
    ]);
    ran.ok();
    let (other, _) = receive_terminal(&listener);
    assert_eq!(read_all(&other), "/dev/pts/1\n");

    master.write_all(b"hello\n").unwrap();
    let text = read_all(&master);
    assert_eq!(
        text,
        "/dev/pts/0\n33 77\n/dev/pts/0\nto-console\nhello\ngot hello\n"
    );
    bundle.await_status("stopped");
}

#[test]
fn a_foreground_terminal_is_relayed_and_resized() {
    let sandbox = Sandbox::new();
    let bundle = with_terminal(
        &sandbox,
        "trap 'stty size; exit 9' WINCH; stty size; while :; do sleep 0.1; done",
    );
    bundle.write_config();
    let master =
        rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY)
            .unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let slave = rustix::pty::ioctl_tiocgptpeer(
        &master,
        rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY,
    )
    .unwrap();
    let size = |rows, columns| rustix::termios::Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&master, size(10, 20)).unwrap();
    let before = rustix::termios::tcgetattr(&slave).unwrap();
    let mut child = std::process::Command::new(dhow_integration_tests::program("dhow-runtime"))
        .arg("--root")
        .arg(bundle.root())
        .args(["run", bundle.id()])
        .current_dir(bundle.path(""))
        .stdin(slave.try_clone().unwrap())
        .stdout(slave.try_clone().unwrap())
        .stderr(slave.try_clone().unwrap())
        .spawn()
        .unwrap();
    let mut master = std::fs::File::from(master);
    let mut text = String::new();
    let mut buffer = [0u8; 256];
    while !text.contains('\n') {
        let read = master.read(&mut buffer).unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    assert_eq!(text, "10 20\r\n");
    // The person's terminal is not the runtime's controlling one here, so the signal is sent by hand.
    rustix::termios::tcsetwinsize(&master, size(30, 40)).unwrap();
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::WINCH).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));
    while !text.contains("30 40") {
        let read = master.read(&mut buffer).unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    let after = rustix::termios::tcgetattr(&slave).unwrap();
    assert_eq!(
        before.local_modes, after.local_modes,
        "the terminal is left raw"
    );
    bundle.assert_nothing_left();
}
