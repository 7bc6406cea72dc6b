//! What passes to a container by descriptors, and who gets descriptors of it.

#![allow(clippy::unwrap_used)]

use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use dhow_integration_tests::{Bundle, Ran, Sandbox, program};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

/// A descriptor that comes through a socket, and the words with it.
fn receive(listener: &UnixListener) -> (OwnedFd, String) {
    let (stream, _) = listener.accept().expect("a caller");
    let mut bytes = [0u8; 64];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    // Other tests' children must not inherit it.
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::net::recvmsg(&stream, &mut parts, &mut control, flags).unwrap();
    let mut passed = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            passed = fds.next();
        }
    }
    let words = String::from_utf8_lossy(&bytes[..received.bytes]).into_owned();
    (passed.expect("a descriptor"), words)
}

/// The process that a pidfd stands for.
fn process_of(pidfd: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    let info = fs_err::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    line.expect("a pidfd").trim().to_owned()
}

#[test]
fn a_pidfd_of_the_process_comes_through_a_socket() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("sleep 100");
    bundle.write_config();
    let path = sandbox.path("pidfd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let socket = path.to_str().unwrap();
    let id = bundle.id();
    bundle.quiet(["create", "--pidfd-socket", socket, id]).ok();
    let (pidfd, words) = receive(&listener);
    assert_eq!(words, "standard");
    assert_eq!(process_of(&pidfd), bundle.state()["pid"].to_string());
    bundle.runtime(["start", id]).ok();

    let pid_file = bundle.path("exec.pid");
    let pid_file = pid_file.to_str().unwrap();
    let exec = [
        "exec",
        "-d",
        "--pid-file",
        pid_file,
        "--pidfd-socket",
        socket,
        id,
        "sleep",
        "100",
    ];
    bundle.quiet(exec).ok();
    let (pidfd, words) = receive(&listener);
    assert_eq!(words, "setns");
    assert_eq!(
        process_of(&pidfd),
        fs_err::read_to_string(pid_file).unwrap()
    );
    bundle.runtime(["delete", "--force", id]).ok();

    bundle
        .quiet(["run", "-d", "--pidfd-socket", socket, id])
        .ok();
    let (pidfd, _) = receive(&listener);
    assert_eq!(process_of(&pidfd), bundle.state()["pid"].to_string());
    bundle.runtime(["delete", "--force", id]).ok();

    // Nobody there: told, and nothing is left.
    let message = bundle
        .quiet(["run", "-d", "--pidfd-socket", "/nonexistent", id])
        .fails(1);
    assert!(
        message.contains("call the pidfd socket /nonexistent"),
        "{message}"
    );
    bundle.assert_nothing_left();
}

/// A call of the runtime's by a shell that opens the descriptors 3 to 5 and closes others.
fn by_shell(bundle: &Bundle, before: &str, args: &str) -> Ran {
    let runtime = program("dhow-runtime");
    let script = format!(
        "{before} {} --root {} {args}",
        runtime.display(),
        bundle.root().display()
    );
    Command::new("timeout")
        .args(["60", "sh", "-c", &script])
        .current_dir(bundle.path(""))
        .stdin(Stdio::null())
        .output()
        .unwrap()
        .into()
}

/// Only what the shell does itself: another program's descriptors are others.
const SHOW: &str = "for fd in 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$fd ] && echo $fd; done; exit 0";

#[test]
fn descriptors_pass_as_many_as_are_asked_for() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle(SHOW);
    bundle.write_config();
    let id = bundle.id();
    let open = "exec 3</dev/zero 4</dev/zero 5</dev/zero 6<&- 7<&-;";
    for (count, passed) in [("0", ""), ("1", "3"), ("3", "3\n4\n5")] {
        let said = by_shell(&bundle, open, &format!("run --preserve-fds {count} {id}"));
        assert_eq!(said.ok(), passed, "{count}");
    }
    // One that is not open would be one of the runtime's own in its place.
    let message = by_shell(&bundle, open, &format!("run --preserve-fds 4 {id}")).fails(1);
    assert!(
        message.contains("unable to stat preserved-fd 3 (of 4)"),
        "{message}"
    );
    bundle.assert_nothing_left();
    let long = sandbox.bundle("sleep 100");
    long.start();
    let said = by_shell(
        &long,
        open,
        &format!("exec --preserve-fds 2 {} sh -c '{SHOW}'", long.id()),
    );
    assert_eq!(said.ok(), "3\n4");
    let message = by_shell(
        &long,
        open,
        &format!("exec --preserve-fds=5 {} true", long.id()),
    )
    .fails(255);
    assert!(
        message.contains("unable to stat preserved-fd 3 (of 5)"),
        "{message}"
    );
}

/// sd_listen_fds(3), inside: the sockets are the first process's.
#[test]
fn sockets_of_systemds_pass_to_the_first_process() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle(&format!("echo $LISTEN_FDS $LISTEN_PID $$; {SHOW}"));
    bundle.write_config();
    let id = bundle.id();
    let open = "exec 3</dev/zero 4</dev/zero 5</dev/zero; export LISTEN_FDS=2 LISTEN_PID=$$; exec";
    assert_eq!(
        by_shell(&bundle, open, &format!("run {id}")).ok(),
        "2 1 1\n3\n4"
    );
    // With more besides.
    let said = by_shell(&bundle, open, &format!("run --preserve-fds 1 {id}"));
    assert_eq!(said.ok(), "2 1 1\n3\n4\n5");
    // They are somebody else's.
    let others = "exec 3</dev/zero 4</dev/zero; export LISTEN_FDS=2 LISTEN_PID=1; exec";
    assert_eq!(by_shell(&bundle, others, &format!("run {id}")).ok(), "1");
    bundle.assert_nothing_left();
    // exec is not the first process.
    let long = sandbox.bundle("sleep 100");
    long.start();
    let said = by_shell(
        &long,
        open,
        &format!("exec {} sh -c 'echo $LISTEN_FDS.; {SHOW}'", long.id()),
    );
    assert_eq!(said.ok(), ".");
}

/// A socket that listens on the host answers from inside.
#[test]
fn a_listening_socket_serves_from_inside() {
    let sandbox = Sandbox::new();
    // The standard input of the busybox inside is the connection that it accepts on descriptor 3, by way of nc's kin: what is
    // passed must be the very socket, which its inode tells.
    let bundle = sandbox.bundle("readlink /proc/self/fd/3");
    bundle.write_config();
    let path = sandbox.path("served.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let inode = {
        use std::os::fd::AsRawFd;
        fs_err::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap()
    };
    let fd = listener.as_fd().try_clone_to_owned().unwrap();
    let said = by_stdin(&bundle, fd);
    assert_eq!(said, inode.display().to_string());
}

/// Runs the container with a descriptor as its third, by way of a shell's standard input.
fn by_stdin(bundle: &Bundle, fd: OwnedFd) -> String {
    let runtime = program("dhow-runtime");
    let script = format!(
        "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec {} --root {} run {}",
        runtime.display(),
        bundle.root().display(),
        bundle.id()
    );
    let ran: Ran = Command::new("sh")
        .args(["-c", &script])
        .current_dir(bundle.path(""))
        .stdin(Stdio::from(fd))
        .output()
        .unwrap()
        .into();
    ran.ok()
}

/// The caller's session keyring is not the container's, unless it is to be; exec has the container's.
#[test]
fn session_keyrings_are_kept_apart() {
    let sandbox = Sandbox::new();
    // The kernel shows the keyrings that a process may view.
    const SHOW: &str = "grep keyring /proc/keys";
    for (flags, is_own) in [(&["-d"][..], true), (&["-d", "--no-new-keyring"], false)] {
        let mut bundle = sandbox.bundle("sleep 100");
        let linux = bundle.config["linux"].as_object_mut().unwrap();
        linux.remove("maskedPaths");
        bundle.write_config();
        let id = bundle.id();
        let mut args = vec!["run"];
        args.extend(flags);
        args.push(id);
        bundle.quiet(&args).ok();
        let inside = bundle.exec(SHOW).ok();
        assert_eq!(inside.contains(&format!("_ses.{id}")), is_own, "{inside}");
        bundle.runtime(["delete", "--force", id]).ok();
        bundle.assert_nothing_left();
    }
}

/// A standard stream that is the host's null device is the container's own, inside.
#[test]
fn the_null_device_is_the_containers() {
    let sandbox = Sandbox::new();
    let bundle =
        sandbox.bundle("[ /proc/self/fd/0 -ef /dev/null ] && echo own >/tmp/answer; exit 0");
    let mut bundle = bundle;
    bundle.config["root"]["readonly"] = serde_json::json!(false);
    bundle.write_config();
    let mut child = bundle
        .command(["run", bundle.id()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    assert_eq!(
        fs_err::read_to_string(bundle.path("rootfs/tmp/answer")).unwrap(),
        "own\n"
    );
    let _ = std::io::stdout().flush();
}
