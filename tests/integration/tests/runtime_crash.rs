//! What a crash leaves can be told and deleted.

use std::process::{Command, Stdio};
use std::time::Duration;

use dhow_integration_tests::{Bundle, Sandbox, program};
use serde_json::json;

/// `create` in a session of its own, to be killed.
fn begin_create(bundle: &Bundle) -> std::process::Child {
    bundle.write_config();
    Command::new(program("dhow-runtime"))
        .arg("--root")
        .arg(bundle.root())
        .args(["create", bundle.id()])
        .current_dir(bundle.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start dhow-runtime")
}

#[test]
fn a_creator_killed_at_any_moment_leaves_nothing_that_delete_cannot_clean() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("sleep 100");
    for step in 0..40 {
        let mut child = begin_create(&bundle);
        std::thread::sleep(Duration::from_micros(150 * step));
        child.kill().unwrap();
        child.wait().unwrap();
        bundle.runtime(["delete", "--force", bundle.id()]).ok();
        bundle.assert_nothing_left();
    }
}

#[test]
fn a_creator_killed_in_its_hook() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("sleep 100");
    bundle.config["hooks"] =
        json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "20"]}]});
    let mut child = begin_create(&bundle);
    bundle.await_status("creating");
    child.kill().unwrap();
    child.wait().unwrap();
    bundle.runtime(["delete", "--force", bundle.id()]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn a_half_written_record_is_told_and_deleted() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("true");
    for content in ["", "{", "{\"id\": 1}"] {
        let dir = bundle.root().join(bundle.id());
        fs_err::create_dir_all(&dir).unwrap();
        fs_err::write(dir.join("state.json"), content).unwrap();
        let message = bundle.runtime(["state", bundle.id()]).fails(1);
        assert!(message.contains("delete --force"), "{message}");
        bundle.runtime(["start", bundle.id()]).fails(1);
        bundle.runtime(["list"]).ok();
        bundle.runtime(["delete", "--force", bundle.id()]).ok();
        bundle.assert_nothing_left();
    }
}

/// A disk that loses the end of a file, or a stranger who writes into it, must not make a container that cannot be removed.
#[test]
fn a_record_that_is_cut_off_anywhere_is_deleted() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("sleep 100");
    bundle.create().ok();
    let dir = bundle.root().join(bundle.id());
    let record = fs_err::read(dir.join("state.json")).unwrap();
    bundle.runtime(["delete", "--force", bundle.id()]).ok();
    for length in 0..record.len() {
        fs_err::create_dir_all(&dir).unwrap();
        fs_err::write(dir.join("state.json"), &record[..length]).unwrap();
        bundle.runtime(["list"]).ok();
        bundle.runtime(["delete", "--force", bundle.id()]).ok();
        assert!(!dir.exists(), "{length} bytes");
    }
    bundle.assert_nothing_left();
}

#[test]
fn a_killed_run_leaves_a_container_that_can_be_deleted() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("echo on; sleep 100");
    bundle.write_config();
    let mut child = Command::new(program("dhow-runtime"))
        .arg("--root")
        .arg(bundle.root())
        .args(["run", bundle.id()])
        .current_dir(bundle.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    bundle.await_status("running");
    child.kill().unwrap();
    child.wait().unwrap();
    bundle.runtime(["delete", "--force", bundle.id()]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn two_starts_and_two_deletes_at_once_are_one() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("sleep 100");
    bundle.create().ok();
    let bundle = &bundle;
    let succeeded = |verb: &str| {
        let mut children: Vec<_> = (0..2)
            .map(|_| {
                bundle
                    .command([verb, bundle.id()])
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        children
            .iter_mut()
            .filter_map(|child| child.wait().ok())
            .filter(std::process::ExitStatus::success)
            .count()
    };
    assert_eq!(succeeded("start"), 1);
    bundle.runtime(["kill", bundle.id(), "KILL"]).ok();
    bundle.await_status("stopped");
    assert_eq!(succeeded("delete"), 1);
    bundle.assert_nothing_left();
}

/// A `start` that is killed after it has let init go leaves the socket on which init waited.
#[test]
fn a_start_killed_too_late_has_started() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("sleep 100");
    bundle.start();
    let socket = bundle.root().join(bundle.id()).join("start.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert_eq!(bundle.state()["status"], "running");
    bundle.runtime(["kill", bundle.id(), "KILL"]).ok();
    bundle.await_status("stopped");
    bundle.runtime(["delete", bundle.id()]).ok();
    bundle.assert_nothing_left();
}

/// Hooks that do not read what they are told, in a run that holds signals back.
#[test]
fn hooks_begin_with_signals_as_other_programs() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("true");
    let script =
        // The 32nd is the C library's own, and is inherited as it is.
        "grep -E 'Sig(Blk|Ign)' /proc/self/status | grep -vE 'Blk:.0{16}|Ign:.0{8}[08]0{7}' >&2 && exit 1; exit 0";
    let look = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}, {"path": "/bin/true"}]);
    let inside = json!([{"path": "/bin/true"}, {"path": "/bin/true"}]);
    bundle.config["hooks"] = json!({
        "createRuntime": look, "createContainer": look, "startContainer": inside, "poststart": look
    });
    bundle.run().ok();
    bundle.assert_nothing_left();
}
