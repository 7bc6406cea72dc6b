//! The device nodes that a container gets.

use dhow_integration_tests::Sandbox;
use serde_json::json;

#[test]
fn nodes_of_every_kind_anywhere() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle(
        "stat -c '%F %a %u:%g %t,%T' /dev/null /dev/pipe /dev/disk /deep/place/zero /dev/unbuffered; \
         echo through > /dev/pipe & cat /dev/pipe; head -c 2 /deep/place/zero | wc -c; echo x > /dev/disk; \
         ls /dev | sort",
    );
    bundle.config["root"]["readonly"] = json!(false);
    std::os::unix::fs::symlink("busybox", bundle.path("rootfs/bin/sort")).unwrap();
    bundle.config["linux"]["devices"] = json!([
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o644},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o606, "uid": 7, "gid": 8},
        {"path": "/dev/disk", "type": "b", "major": 7, "minor": 250},
        {"path": "/deep/place/zero", "type": "c", "major": 1, "minor": 5},
        {"path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 7, "fileMode": 0o600}
    ]);
    let ran = bundle.run();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(
        lines[..7],
        [
            "character special file 644 0:0 1,3",
            "fifo 606 7:8 0,0",
            "block special file 660 0:0 7,fa",
            "character special file 666 0:0 1,5",
            "character special file 600 0:0 1,7",
            "through",
            "2",
        ],
        "{}",
        ran.stderr
    );
    // A node is there; the cgroup says who may open it.
    assert!(
        ran.stderr
            .contains("can't create /dev/disk: Operation not permitted"),
        "{}",
        ran.stderr
    );
    for name in [
        "fd", "full", "ptmx", "random", "stdin", "tty", "urandom", "zero",
    ] {
        assert!(lines[7..].contains(&name), "{name} is not in {lines:?}");
    }
    bundle.assert_nothing_left();
}

#[test]
fn something_else_at_its_place_is_an_error() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("echo begun");
    fs_err::create_dir(bundle.path("rootfs/place")).unwrap();
    fs_err::write(bundle.path("rootfs/place/file"), "of the image").unwrap();
    bundle.config["linux"]["devices"] =
        json!([{"path": "/place/file", "type": "c", "major": 1, "minor": 3}]);
    let ran = bundle.run();
    assert_eq!(ran.stdout, "");
    let message = ran.fails(1);
    assert!(message.contains("something else at its place"), "{message}");
    assert_eq!(
        fs_err::read_to_string(bundle.path("rootfs/place/file")).unwrap(),
        "of the image"
    );
    for (device, word) in [
        (
            json!({"path": "dev/x", "type": "c", "major": 1, "minor": 3}),
            "absolute",
        ),
        (
            json!({"path": "/dev/x", "type": "a", "major": 1, "minor": 3}),
            "no device",
        ),
        (
            json!({"path": "/dev/x", "type": "c", "major": -1, "minor": 3}),
            "bad number",
        ),
        (json!({"path": "/dev/x", "type": "q"}), "unknown variant"),
    ] {
        bundle.config["linux"]["devices"] = json!([device]);
        let message = bundle.run().fails(1);
        assert!(message.contains(word), "{message}");
    }
    bundle.assert_nothing_left();
}
