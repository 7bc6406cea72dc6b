//! Filters of system calls: every action, and the listener that is asked about calls.

use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;

use dhow_integration_tests::{Bundle, Sandbox};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::{Value, json};

/// What came over one connection: the process's state, and its listener.
struct Handed {
    state: Value,
    listener: OwnedFd,
}

/// Takes one listener in a thread of its own.
fn take(socket: &UnixListener) -> JoinHandle<Handed> {
    let socket = socket.try_clone().expect("a socket");
    std::thread::spawn(move || {
        let (mut connection, _) = socket.accept().expect("a connection");
        let mut bytes = [0u8; 16384];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let read = {
            let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            rustix::net::recvmsg(&connection, &mut parts, &mut control, flags)
                .expect("a message")
                .bytes
        };
        let mut listeners = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                listeners.extend(fds);
            }
        }
        let mut text = bytes[..read].to_vec();
        // One state, and then the connection is closed.
        connection.read_to_end(&mut text).expect("the rest");
        assert_eq!(listeners.len(), 1);
        Handed {
            state: serde_json::from_slice(&text).expect("one JSON document"),
            listener: listeners.remove(0),
        }
    })
}

impl Handed {
    /// Waits until a call is asked about. When its listener goes, the call fails with ENOSYS.
    fn await_question(&self) {
        let timeout = Timespec {
            tv_sec: 20,
            tv_nsec: 0,
        };
        let mut fds = [PollFd::new(&self.listener, PollFlags::IN)];
        let ready = rustix::event::poll(&mut fds, Some(&timeout)).expect("poll");
        assert_eq!(ready, 1, "no call was asked about");
    }
}

/// Asks about making directories; about calls too by which a process could give its listener away itself.
fn asking(bundle: &mut Bundle, path: &Path) {
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": path,
        "listenerMetadata": "some \"words\"",
        "flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls": [{"names": ["mkdir", "mkdirat", "sendmsg", "connect", "socket"], "action": "SCMP_ACT_NOTIFY"}]
    });
}

#[test]
fn a_listener_is_handed_over_before_the_program_begins() {
    let sandbox = Sandbox::new();
    for no_new_privileges in [true, false] {
        let path = sandbox.path(format!("agent{no_new_privileges}"));
        let socket = UnixListener::bind(&path).unwrap();
        let mut bundle = sandbox.bundle("mkdir /tmp/asked; echo status $?");
        asking(&mut bundle, &path);
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.config["annotations"] = json!({"a.key": "a value"});
        let agent = take(&socket);
        let run = std::thread::scope(|scope| {
            let run = scope.spawn(|| bundle.run());
            let handed = agent.join().unwrap();
            let state = &handed.state;
            assert_eq!(state["fds"], json!(["seccompFd"]));
            assert_eq!(state["metadata"], "some \"words\"");
            assert_eq!(state["ociVersion"], "1.3.0");
            assert_eq!(state["state"]["id"], bundle.id());
            assert_eq!(state["state"]["pid"], state["pid"]);
            assert_eq!(state["state"]["annotations"]["a.key"], "a value");
            assert_eq!(
                state["state"]["bundle"],
                json!(bundle.path("").to_str().unwrap().trim_end_matches('/'))
            );
            handed.await_question();
            drop(handed);
            run.join().unwrap()
        });
        assert_eq!(run.stdout, "status 1\n", "{}", run.stderr);
        assert!(
            run.stderr.contains("Function not implemented"),
            "{}",
            run.stderr
        );
        bundle.assert_nothing_left();
    }
}

#[test]
fn start_and_exec_hand_their_listeners_over() {
    let sandbox = Sandbox::new();
    let path = sandbox.path("agent");
    let socket = UnixListener::bind(&path).unwrap();
    let mut bundle = sandbox.bundle("mkdir /tmp/asked; sleep 100");
    asking(&mut bundle, &path);
    bundle.create().ok();
    let agent = take(&socket);
    bundle.runtime(["start", bundle.id()]).ok();
    let first = agent.join().unwrap();
    first.await_question();
    let pid = bundle.state()["pid"].clone();
    assert_eq!(first.state["pid"], pid);

    let agent = take(&socket);
    let ran = std::thread::scope(|scope| {
        let exec = scope.spawn(|| bundle.exec("mkdir /tmp/more; echo status $?"));
        let handed = agent.join().unwrap();
        assert_eq!(handed.state["state"]["status"], "running");
        assert_eq!(handed.state["state"]["pid"], pid);
        assert_ne!(handed.state["pid"], pid);
        handed.await_question();
        drop(handed);
        exec.join().unwrap()
    });
    assert_eq!(ran.stdout, "status 1\n", "{}", ran.stderr);
}

#[test]
fn without_anybody_who_listens_nothing_begins() {
    let sandbox = Sandbox::new();
    let path = sandbox.path("nobody");
    let mut bundle = sandbox.bundle("echo begun");
    asking(&mut bundle, &path);
    let ran = bundle.run();
    assert_eq!(ran.stdout, "");
    let message = ran.fails(1);
    assert!(message.contains("call the seccomp agent"), "{message}");
    bundle.assert_nothing_left();

    // The same of one that was created before.
    bundle.create().ok();
    let message = bundle.runtime(["start", bundle.id()]).fails(1);
    assert!(message.contains("call the seccomp agent"), "{message}");
    bundle.await_status("stopped");
    bundle.runtime(["delete", bundle.id()]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn profiles_that_cannot_be_are_refused() {
    let sandbox = Sandbox::new();
    let path = sandbox.path("agent");
    for (pointer, value, word) in [
        ("/syscalls/0/names", json!(["write"]), "write"),
        ("/defaultAction", json!("SCMP_ACT_NOTIFY"), "every call"),
        ("/listenerPath", json!(""), "listener"),
        ("/syscalls/0/errnoRet", json!(1), "errnoRet"),
    ] {
        let mut bundle = sandbox.bundle("true");
        asking(&mut bundle, &path);
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let profile = &mut bundle.config["linux"]["seccomp"];
        profile.pointer_mut(parent).unwrap()[name] = value;
        let message = bundle.run().fails(1);
        assert!(message.contains(word), "{pointer}: {message}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn every_action_does_what_it_says() {
    let sandbox = Sandbox::new();
    for (action, errno, expected) in [
        ("SCMP_ACT_ALLOW", None, "status 0"),
        ("SCMP_ACT_LOG", None, "status 0"),
        ("SCMP_ACT_ERRNO", None, "Operation not permitted"),
        ("SCMP_ACT_ERRNO", Some(28), "No space left on device"),
        // Without a tracer.
        ("SCMP_ACT_TRACE", Some(5), "Function not implemented"),
        ("SCMP_ACT_TRAP", None, "status 159"),
        ("SCMP_ACT_KILL", None, "status 159"),
        ("SCMP_ACT_KILL_THREAD", None, "status 159"),
        ("SCMP_ACT_KILL_PROCESS", None, "status 159"),
    ] {
        let mut bundle = sandbox.bundle("mkdir /tmp/x; echo status $?");
        bundle.config["root"]["readonly"] = json!(false);
        let mut rule = json!({"names": ["mkdir", "mkdirat"], "action": action});
        if let Some(errno) = errno {
            rule["errnoRet"] = json!(errno);
        }
        // Another default than the one that the rule could be taken for.
        bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule],
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_S390X"]});
        let ran = bundle.run();
        let all = format!("{}{}", ran.stdout, ran.stderr);
        assert!(all.contains(expected), "{action} {errno:?}: {all}");
    }
}
