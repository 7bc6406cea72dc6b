//! `checkpoint` and `restore` where criu cannot do its work: a clear answer, and the container as it was. What it does where it
//! can is checked in a virtual machine (tests/vm/criu.sh).

#![allow(clippy::unwrap_used)]

use std::process::Command;

use dhow_integration_tests::Sandbox;
use serde_json::Value;

#[test]
fn a_checkpoint_that_fails_says_why_and_harms_nobody() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("sleep 100");
    bundle.start();
    let id = bundle.id();
    let images = bundle.path("images");
    let images = images.to_str().unwrap();
    let works = Command::new("criu")
        .arg("check")
        .output()
        .is_ok_and(|output| output.status.success());
    let ran = bundle.runtime(["checkpoint", "--image-path", images, "--leave-running", id]);
    if works {
        ran.ok();
    } else {
        let message = ran.fails(1);
        assert!(
            message.contains("criu failed: type DUMP") && message.contains("dump.log"),
            "{message}"
        );
    }
    assert_eq!(bundle.state()["status"], "running");
    for (args, words) in [
        (
            &["--criu", "/no/criu", "checkpoint", id][..],
            "cannot find the program /no/criu; install it (package criu)",
        ),
        (
            &["checkpoint", "--parent-path", "/abs", id],
            "--parent-path must be relative",
        ),
        (
            &[
                "checkpoint",
                "--image-path",
                images,
                "--parent-path",
                "../none",
                id,
            ],
            "invalid --parent-path",
        ),
        (
            &["checkpoint", "--manage-cgroups-mode", "odd", id],
            "invalid manage-cgroups-mode value",
        ),
        (
            &["checkpoint", "--page-server", "nowhere", id],
            "Use --page-server ADDRESS:PORT",
        ),
        (
            &["checkpoint", "--page-server", "h:x", id],
            "Invalid port number",
        ),
        (&["checkpoint", "--empty-ns", "pid", id], "is not supported"),
        (
            &["checkpoint", "--lazy-pages", "--status-fd", "77", id],
            "use --status-fd 77",
        ),
    ] {
        let message = bundle.runtime(args).fails(1);
        assert!(message.contains(words), "{args:?}: {message}");
        assert!(!message.contains("os error"), "{message}");
    }
    assert_eq!(bundle.state()["status"], "running");
    bundle.runtime(["delete", "--force", id]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn a_restore_that_fails_leaves_nothing() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("sleep 100");
    bundle.write_config();
    let id = bundle.id();
    let message = bundle
        .runtime(["restore", "--image-path", "/nonexistent", id])
        .fails(1);
    assert!(message.contains("/nonexistent"), "{message}");
    assert_eq!(bundle.state(), Value::Null);
    // Images that are none.
    let images = bundle.path("images");
    fs_err::create_dir(&images).unwrap();
    fs_err::write(images.join("descriptors.json"), "[\"\",\"\",\"\"]").unwrap();
    let message = bundle
        .runtime([
            "restore",
            "--detach",
            "--image-path",
            images.to_str().unwrap(),
            id,
        ])
        .fails(1);
    assert!(message.contains("criu failed: type RESTORE"), "{message}");
    assert_eq!(bundle.state(), Value::Null);
    bundle.assert_nothing_left();
}
