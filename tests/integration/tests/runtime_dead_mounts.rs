//! Mounts whose server does not answer (FUSE; a network file system's is the same to the kernel): no command waits for ever, and each
//! says what is wrong.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::time::{Duration, Instant};

use dhow_integration_tests::{DeadMount, PATIENCE, Ran, Sandbox};
use serde_json::json;

/// No command takes as long as this by its own choice; a machine that has other work may double it.
const LONG: Duration = Duration::from_secs(50);

#[track_caller]
fn in_time(act: impl FnOnce() -> Ran) -> Ran {
    let begin = Instant::now();
    let ran = act();
    assert!(begin.elapsed() < LONG, "{:?}: {ran:?}", begin.elapsed());
    // What timeout(1) answers when it had to end the program.
    assert!(![124, 137, -9].contains(&ran.status), "it hung: {ran:?}");
    ran
}

#[test]
fn a_dead_state_directory_is_told() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("true");
    bundle.write_config();
    let mut mount = DeadMount::new(sandbox.path("dead"));
    let command = |words: &[&str]| {
        let mut command = bundle.command(Vec::<&str>::new());
        // A later --root is the one that counts.
        command.arg("--root").arg(mount.path()).args(words);
        Ran::from(command.output().unwrap())
    };
    // While it answers there are no containers.
    let out = command(&["list", "--quiet"]).ok();
    assert_eq!(out, "");
    mount.die();
    let id = bundle.id();
    std::thread::scope(|scope| {
        let commands = [
            vec!["list"],
            vec!["state", id],
            vec!["kill", id, "KILL"],
            vec!["delete", id],
            vec!["delete", "--force", id],
            vec!["start", id],
            vec!["create", id],
            vec!["run", id],
        ];
        let path = mount.path().display().to_string();
        for words in commands {
            // Made here, since only this thread and what it starts sees the mount.
            let mut command = bundle.command(Vec::<&str>::new());
            command.arg("--root").arg(mount.path()).args(&words);
            command.stdout(std::process::Stdio::piped());
            command.stderr(std::process::Stdio::piped());
            let child = command.spawn().unwrap();
            let path = path.clone();
            scope.spawn(move || {
                let said = in_time(|| child.wait_with_output().unwrap().into()).fails(1);
                let wanted = format!("the state directory {path} does not answer within 10 s");
                assert!(said.contains(&wanted), "{words:?}: {said}");
            });
        }
    });
    mount.end();
}

#[test]
fn a_process_that_waits_on_a_dead_mount_is_told() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("while ! test -e /tmp/go; do sleep 0.05; done; exec ls /dead");
    let mut mount = DeadMount::new(sandbox.path("dead"));
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["mounts"].as_array_mut().unwrap().push(json!({
        "destination": "/dead", "source": mount.path(), "options": ["bind"]
    }));
    bundle.start();
    let pid = bundle.state()["pid"].to_string();
    mount.die();
    fs_err::write(bundle.path("rootfs/tmp/go"), "").unwrap();
    let end = Instant::now() + PATIENCE;
    // Until it waits, and for nothing that a signal would end.
    while !fs_err::read_to_string(format!("/proc/{pid}/comm"))
        .unwrap()
        .starts_with("ls")
    {
        assert!(Instant::now() < end, "it does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(200));
    let id = bundle.id();
    let out = in_time(|| bundle.runtime(["list", "--quiet"])).ok();
    assert_eq!(out, id);
    let out = in_time(|| bundle.runtime(["state", id])).ok();
    assert!(out.contains("running"), "{out}");
    in_time(|| bundle.runtime(["kill", id, "KILL"])).ok();
    let said = in_time(|| bundle.runtime(["delete", "--force", id])).fails(1);
    // The log has the id's quotes in its own.
    let wanted = [
        format!("process {pid} of container"),
        "was killed and does not end".to_owned(),
    ];
    assert!(wanted.iter().all(|words| said.contains(words)), "{said}");
    // Nothing of it is forgotten.
    assert_eq!(in_time(|| bundle.runtime(["list", "--quiet"])).ok(), id);
    mount.end();
    in_time(|| bundle.runtime(["delete", "--force", id])).ok();
    bundle.assert_nothing_left();
}
