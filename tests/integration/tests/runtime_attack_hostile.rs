//! Hostile neighbours: a first process that waits for who comes in with a false /proc and false files, callers that leave
//! descriptors open, configurations, ids and state directories that are meant to lead elsewhere.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dhow_integration_tests::attack::Attacker;
use dhow_integration_tests::{PATIENCE, Sandbox, program, until};
use serde_json::json;

/// CVE-2024-21626: the caller of the runtime leaves directories of the host open; none reaches the container, and none is
/// taken for its working directory.
#[test]
fn descriptors_of_a_careless_caller_stay_outside() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("sleep 100");
    bundle.start();
    let run = |args: &str| {
        // 3 and 4 stay open, on the host's root and on a file.
        let script = format!(
            "exec 3</ 4</etc/hostname; exec {} --root {} {args}",
            program("dhow-runtime").display(),
            bundle.root().display()
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let id = bundle.id();
    let (_, listed) = run(&format!("exec {id} ls /proc/self/fd"));
    assert_eq!(
        listed.split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3"]
    );
    for cwd in [
        "/proc/self/fd/3",
        "/proc/1/fd/3",
        "/proc/self/fd/3/..",
        "/proc/thread-self/fd/3",
    ] {
        let (status, out) = run(&format!("exec --cwd {cwd} {id} ls /proc/self/cwd/"));
        assert_ne!(status, Some(0), "{cwd}: {out}");
    }
    // The negative control: asked for, they do pass.
    let (_, listed) = run(&format!("exec --preserve-fds 2 {id} ls /proc/self/fd"));
    assert!(listed.contains('4') && listed.contains('5'), "{listed}");
}

/// The same where the container may look into who enters it, from the first moment on.
#[test]
fn descriptors_of_a_careless_caller_are_closed_before_the_container_sees_them() {
    let sandbox = Sandbox::new();
    let attacker = Attacker::start(&sandbox);
    let bundle = &attacker.bundle;
    let script = format!(
        "exec 3</ 9</; for n in $(seq 150); do {} --root {} exec {} true || exit 1; done",
        bundle.program().display(),
        bundle.root().display(),
        bundle.id()
    );
    let done = Command::new("sh").args(["-c", &script]).status().unwrap();
    assert!(done.success());
    // Else it has not even tried.
    assert!(attacker.comes_to("caught"), "{}", attacker.log());
    assert!(!attacker.has_come_to("host"), "{}", attacker.log());
}

/// What a container's user is given to read stays its owner's; a pipe is handed over, and so is what it may write to.
#[test]
fn a_file_to_read_keeps_its_owner() {
    use std::os::unix::fs::MetadataExt;
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("cat; cat <&0 > /dev/null; echo more > /dev/stdout");
    bundle.config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    bundle.write_config();
    let (secret, out) = (sandbox.write("secret", "words\n"), sandbox.path("out"));
    let status = bundle
        .command(["run", bundle.id()])
        .stdin(fs_err::File::open(&secret).unwrap().into_parts().0)
        .stdout(fs_err::File::create(&out).unwrap().into_parts().0)
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(fs_err::metadata(&secret).unwrap().uid(), 0);
    assert_eq!(fs_err::metadata(&out).unwrap().uid(), 1000);
    assert!(fs_err::read_to_string(&out).unwrap().contains("more"));
}

/// CVE-2016-9962 and after: the first process is malicious, and makes /proc and /etc what it wants before somebody enters.
#[test]
fn exec_trusts_nothing_that_the_first_process_made() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle(
        "mount -t tmpfs none /proc; mkdir -p /proc/self/attr /proc/self/fd /proc/1/ns; \
         echo false > /proc/self/attr/exec; echo 0 > /proc/self/oom_score_adj; \
         rm /etc/passwd; mkfifo /etc/passwd; echo ready > /tmp/ready; sleep 100",
    );
    symlink("busybox", bundle.path("rootfs/bin/mkfifo")).unwrap();
    bundle.config["root"]["readonly"] = json!(false);
    let sets = json!(["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_MKNOD"]);
    bundle.config["process"]["capabilities"] =
        json!({ "bounding": sets, "effective": sets, "permitted": sets });
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    bundle.start();
    until("the first process is ready", || {
        bundle.path("rootfs/tmp/ready").exists()
    });
    let id = bundle.id();
    let begin = Instant::now();
    // It enters, drops its powers and finds the user's home without waiting at the pipe.
    let out = bundle.runtime(["exec", "--user", "1000", id, "sh", "-c", "echo $HOME"]);
    assert_eq!(out.ok(), "/");
    assert!(begin.elapsed() < PATIENCE, "it waited");
    // A file without an end, and one that is a way out.
    for (target, home) in [("/dev/zero", "/"), ("../../../../../../etc/shadow", "/")] {
        let passwd = bundle.path("rootfs/etc/passwd");
        fs_err::remove_file(&passwd).unwrap();
        symlink(target, &passwd).unwrap();
        let out = bundle.runtime(["exec", id, "sh", "-c", "echo $HOME"]);
        assert_eq!(out.ok(), home, "{target}");
    }
}

/// CVE-2021-43784: lengths that overflow somewhere; each is done or refused, and leaves nothing.
#[test]
fn lengths_that_overflow_elsewhere() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("true");
    let good = bundle.config.clone();
    let long = "x".repeat(70_000);
    let map: Vec<_> = (0..5000)
        .map(|at| json!({"containerID": at * 2, "hostID": 100_000 + at * 2, "size": 1}))
        .collect();
    let cases = [
        ("/linux/uidMappings", json!(map)),
        ("/linux/cgroupsPath", json!(format!("/{long}"))),
        ("/linux/cgroupsPath", json!("/a".repeat(3000))),
        ("/hostname", json!(long)),
        ("/process/cwd", json!(format!("/{long}"))),
        ("/process/args", json!([long])),
        ("/process/args", json!(vec!["x"; 200_000])),
        ("/linux/maskedPaths", json!([format!("/{long}")])),
        (
            "/mounts/0/destination",
            json!(format!("/{}", "d/".repeat(5000))),
        ),
        (
            "/root/path",
            json!(format!("rootfs/{}", "../rootfs/".repeat(1000))),
        ),
    ];
    for (pointer, value) in cases {
        bundle.config = good.clone();
        bundle.config["linux"]["uidMappings"] = json!([]);
        if pointer == "/linux/uidMappings" {
            let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.push(json!({"type": "user"}));
            bundle.config["linux"]["gidMappings"] = value.clone();
        }
        match bundle.config.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => bundle.config["linux"]["maskedPaths"] = value,
        }
        let ran = bundle.run();
        assert_ne!(ran.status, 101, "{pointer}: {}", ran.stderr);
        assert!(
            !ran.stderr.contains("panicked"),
            "{pointer}: {}",
            ran.stderr
        );
        assert!(
            ran.status >= 0 && ran.status != 124,
            "{pointer}: {}",
            ran.status
        );
        bundle.config = good.clone();
        bundle.assert_nothing_left();
    }
}

/// Paths that are not what they seem, in hooks and elsewhere.
#[test]
fn paths_that_lead_elsewhere_are_refused() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("true");
    let good = bundle.config.clone();
    let hook = |path: &str| json!({"createRuntime": [{"path": path}]});
    let mut cases = vec![
        ("hooks", hook("relative/hook")),
        ("hooks", hook("")),
        ("hooks", hook("/bin/true\0/evil")),
        ("hooks", hook("/no\nsuch\nhook")),
        ("hooks", hook(&format!("/{}", "h".repeat(10_000)))),
    ];
    for path in ["/../../../../evil", "../evil", "/a/../../../../evil"] {
        cases.push(("cgroupsPath", json!(path)));
    }
    for (what, value) in cases {
        bundle.config = good.clone();
        match what {
            "hooks" => bundle.config["hooks"] = value.clone(),
            _ => bundle.config["linux"]["cgroupsPath"] = value.clone(),
        }
        let ran = bundle.run();
        if what == "hooks" {
            assert_eq!(ran.status, 1, "{value}: {}", ran.stderr);
            assert_eq!(ran.stderr.trim_end().lines().count(), 1, "{}", ran.stderr);
        }
        for evil in ["/sys/fs/cgroup/evil", "/sys/fs/evil", "/evil"] {
            assert!(!std::path::Path::new(evil).exists(), "{value} made {evil}");
        }
        bundle.config = good.clone();
        bundle.assert_nothing_left();
    }
}

/// An id is a name of one directory, and a link in the state directory is no container.
#[test]
fn ids_and_links_in_the_state_directory() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("true");
    bundle.write_config();
    let outside = sandbox.path("outside");
    fs_err::create_dir_all(outside.join("kept")).unwrap();
    fs_err::create_dir_all(bundle.root()).unwrap();
    symlink(&outside, bundle.root().join("planted")).unwrap();
    let long = "i".repeat(2000);
    let ids = [
        "..", ".", "a/b", "../../x", "-rf", "a\nb", "", "planted", &long,
    ];
    for id in ids {
        for args in [
            vec!["run", "--", id],
            vec!["delete", "--force", "--", id],
            vec!["state", "--", id],
            vec!["kill", "--", id, "KILL"],
        ] {
            let ran = bundle.runtime(&args);
            assert!(
                ran.status != 101 && ran.status != 124,
                "{args:?}: {}",
                ran.stderr
            );
            assert!(
                ran.status != 0 || args[0] == "delete",
                "{args:?} did something"
            );
        }
    }
    bundle.runtime(["list"]).ok();
    assert!(
        outside.join("kept").exists(),
        "a link in the state directory was followed"
    );
    assert_eq!(fs_err::read_dir(&outside).unwrap().count(), 1);
}

/// CVE-2020-15257: the runtime has no abstract socket by which a container in the host's network namespace could reach it.
#[test]
fn no_abstract_socket_is_there() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("cat /proc/net/unix; sleep 100");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "network");
    bundle.create().ok();
    let sockets = fs_err::read_to_string("/proc/net/unix").unwrap();
    let ours = sockets
        .lines()
        .filter(|line| line.contains(bundle.id()) || line.contains("start.sock"));
    // The start socket is one of the file system, below a directory that only the owner enters.
    for line in ours {
        assert!(!line.contains('@'), "{line}");
    }
}

/// A daemon that a hook leaves behind with its standard error, and a hook that does not read, keep nobody waiting.
#[test]
fn hooks_keep_nobody_waiting() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("true");
    let annotation = "a".repeat(500_000);
    bundle.config["annotations"] = json!({ "large": annotation });
    let script = "sleep 60 & exit 0";
    bundle.config["hooks"] =
        json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    let begin = Instant::now();
    bundle.run().ok();
    assert!(
        begin.elapsed() < Duration::from_secs(50),
        "a daemon kept it waiting"
    );
    bundle.config["hooks"] =
        json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "240"], "timeout": 1}]});
    let begin = Instant::now();
    let message = bundle.run().fails(1);
    assert!(message.contains("did not end within 1 s"), "{message}");
    assert!(begin.elapsed() < PATIENCE, "it wrote without end");
    bundle.assert_nothing_left();
}

/// Who holds a container's lock for ever does not keep it from being deleted by force.
#[test]
fn a_stuck_command_does_not_keep_a_container() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("sleep 100");
    bundle.config["hooks"] =
        json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "60"]}]});
    bundle.write_config();
    let mut stuck = Command::new(program("dhow-runtime"))
        .arg("--root")
        .arg(bundle.root())
        .args(["create", bundle.id()])
        .current_dir(bundle.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    bundle.await_status("creating");
    bundle.runtime(["delete", "--force", bundle.id()]).ok();
    bundle.assert_nothing_left();
    assert!(!stuck.wait().unwrap().success());
}
