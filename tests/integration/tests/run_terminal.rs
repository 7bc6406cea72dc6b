//! `-t`: a real terminal, its size, and its keys.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use dhow_integration_tests::{PATIENCE, Sandbox};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

/// A person's terminal with a program in it.
struct Person {
    master: std::fs::File,
    child: Child,
    seen: String,
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

impl Person {
    fn new(mut command: Command) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, size(33, 77)).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags =
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let inside: OwnedFd = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
        let end = || Stdio::from(inside.try_clone().unwrap());
        let child = command
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        Self {
            master: master.into(),
            child,
            seen: String::new(),
        }
    }

    fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until a text is seen.
    fn sees(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.seen.contains(text) {
            assert!(Instant::now() < until, "{text:?} is not in {:?}", self.seen);
            let mut poll = [rustix::event::PollFd::new(
                &self.master,
                rustix::event::PollFlags::IN,
            )];
            let second = rustix::time::Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            };
            rustix::event::poll(&mut poll, Some(&second)).unwrap();
            if poll[0].revents().contains(rustix::event::PollFlags::IN) {
                let mut buffer = [0; 4096];
                let count = self.master.read(&mut buffer).unwrap_or(0);
                self.seen
                    .push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        }
        // What comes later must come again.
        let end = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..end);
    }
}

#[test]
fn a_shell_in_a_terminal_knows_its_size_and_its_keys() {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    let mut person = Person::new(sandbox.command(["run", "--rm", "-it", "busybox", "sh"]));
    let before = tcgetattr(&person.master).unwrap();
    person.sees("# ");
    person.type_in("tty; stty size; echo TERM=$TERM\r");
    person.sees("/dev/pts/0");
    person.sees("33 77");
    person.sees("TERM=xterm");
    tcsetwinsize(&person.master, size(40, 120)).unwrap();
    // The terminal belongs to no session here, so nobody but this test tells of the change.
    let pid = rustix::process::Pid::from_child(&person.child);
    rustix::process::kill_process(pid, rustix::process::Signal::WINCH).unwrap();
    // The signal takes its way; ask until the new size is there.
    person.type_in(
        "until [ \"$(stty size)\" = '40 120' ]; do sleep 0.05; done; echo grown $((40+2))\r",
    );
    person.sees("grown 42");
    person.type_in("sh -c 'echo asleep $((20+3)); exec sleep 1000'\r");
    person.sees("asleep 23");
    // Control-C reaches the sleeper through the container's terminal, not dhow.
    person.type_in("\x03");
    person.sees("# ");
    person.type_in("exit 6\r");
    assert_eq!(person.child.wait().unwrap().code(), Some(6));
    let after = tcgetattr(&person.master).unwrap();
    assert_eq!(before.local_modes, after.local_modes);
    sandbox.nothing_is_left(&[]);
}

#[test]
fn a_terminal_needs_one() {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    let said = sandbox
        .dhow(["run", "--rm", "-it", "busybox", "sh"])
        .fails(125);
    assert!(said.contains("not a terminal"), "{said}");
    let said = sandbox
        .dhow([
            "run",
            "--rm",
            "-t",
            "busybox",
            "sh",
            "-c",
            "tty; echo err >&2",
        ])
        .ok();
    assert_eq!(said, "/dev/pts/0\r\nerr");
}

#[test]
fn exec_in_a_terminal() {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    let _end = sandbox.removed_at_end("box");
    sandbox
        .dhow(["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
        .ok();
    let mut person = Person::new(sandbox.command(["exec", "-it", "box", "sh"]));
    person.sees("# ");
    person.type_in("stty size\r");
    person.sees("33 77");
    person.type_in("exit 4\r");
    assert_eq!(person.child.wait().unwrap().code(), Some(4));
}
