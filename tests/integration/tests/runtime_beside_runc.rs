//! Small things that who comes from runc counts on: hooks that fail after the start, variables that replace others, what a mount takes
//! from the place that it covers.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use dhow_integration_tests::Sandbox;
use serde_json::json;

/// The specification (runtime.md, "Lifecycle"): the container is stopped then, and `start` says why.
#[test]
fn a_poststart_hook_that_fails_ends_the_container() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("exec sleep 100");
    let gone = bundle.path("poststop");
    bundle.config["hooks"] = json!({
        "poststart": [{"path": "/bin/false"}],
        "poststop": [{"path": "/bin/touch", "args": ["touch", gone.to_str().unwrap()]}]
    });
    let said = bundle.run().fails(1);
    assert!(said.contains("poststart hook #0 (/bin/false)"), "{said}");
    assert!(gone.exists());
    bundle.assert_nothing_left();

    fs_err::remove_file(&gone).unwrap();
    bundle.create().ok();
    let said = bundle.runtime(["start", bundle.id()]).fails(1);
    assert!(said.contains("poststart hook #0 (/bin/false)"), "{said}");
    assert_eq!(bundle.state()["status"], "stopped");
    bundle.runtime(["delete", bundle.id()]).ok();
    assert!(gone.exists());
    bundle.assert_nothing_left();
}

/// Who is frozen does not answer: a start would wait for ever.
#[test]
fn what_is_paused_before_its_start_is_resumed_first() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("exec sleep 100");
    bundle.create().ok();
    let id = bundle.id();
    bundle.runtime(["pause", id]).ok();
    assert_eq!(bundle.state()["status"], "paused");
    let said = bundle.runtime(["start", id]).fails(1);
    assert!(
        said.contains("cannot start a container in the paused state"),
        "{said}"
    );
    bundle.runtime(["resume", id]).ok();
    assert_eq!(bundle.state()["status"], "created");
    bundle.runtime(["pause", id]).ok();
    bundle.runtime(["resume", id]).ok();
    bundle.runtime(["start", id]).ok();
    assert_eq!(bundle.state()["status"], "running");
    bundle.runtime(["pause", id]).ok();
    bundle.runtime(["delete", "--force", id]).ok();
    bundle.assert_nothing_left();
}

/// Programs take the first variable of a name that they find.
#[test]
fn a_later_variable_replaces_an_earlier_one() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("exec sleep 100");
    bundle.config["process"]["env"] = json!(["PATH=/bin", "A=1", "B=1", "A=2"]);
    bundle.start();
    let env = |args: &[&str]| {
        let words = [&["exec"], args, &[bundle.id(), "env"]].concat();
        let said = bundle.runtime(words).ok();
        let of_ours = |line: &&str| line.starts_with("A=") || line.starts_with("B=");
        said.lines().filter(of_ours).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(env(&[]), "B=1 A=2");
    assert_eq!(env(&["-e", "A=3", "--env", "B="]), "A=3 B=");
    let said = bundle
        .runtime(["exec", "-e", "NONE", bundle.id(), "env"])
        .fails(255);
    assert!(
        said.contains("NONE") && said.contains("is not NAME=VALUE"),
        "{said}"
    );
}

#[test]
fn a_tmpfs_takes_the_permissions_of_its_place() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("stat -c %a /root /tmp /srv /etc");
    let rootfs = bundle.path("rootfs");
    let permit = |name: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(mode);
        fs_err::set_permissions(rootfs.join(name), mode).unwrap();
    };
    permit("root", 0o700);
    permit("tmp", 0o1733);
    permit("etc", 0o750);
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    let mut mount = |path: &str, options: &[&str]| {
        mounts.push(json!({
            "destination": path, "type": "tmpfs", "source": "tmpfs", "options": options
        }));
    };
    mount("/root", &["nosuid"]);
    mount("/tmp", &["mode=711"]);
    // Where nothing is, it is as the kernel makes it.
    mount("/srv", &[]);
    mount("/etc", &["tmpcopyup"]);
    assert_eq!(bundle.run().ok(), "700\n711\n1777\n750");
}

#[test]
fn a_directory_and_a_file_do_not_cover_each_other() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("true");
    fs_err::write(bundle.path("file"), "").unwrap();
    let mounts = bundle.config["mounts"].as_array().unwrap().clone();
    for (source, destination, words) in [
        (".", "/etc/passwd", "which is a file"),
        ("file", "/etc", "which is a directory"),
        ("tmpfs", "/etc/passwd", "which is a file"),
    ] {
        let mut mounts = mounts.clone();
        mounts.push(match source {
            "tmpfs" => json!({"destination": destination, "type": "tmpfs", "source": source}),
            _ => json!({"destination": destination, "source": source, "options": ["bind"]}),
        });
        bundle.config["mounts"] = json!(mounts);
        let said = bundle.run().fails(1);
        assert!(said.contains(destination) && said.contains(words), "{said}");
    }
}

#[test]
fn the_root_can_be_a_readonly_path() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("touch /tmp/x");
    bundle.config["root"]["readonly"] = json!(false);
    bundle.run().ok();
    bundle.config["linux"]["readonlyPaths"] = json!(["/"]);
    let said = bundle.run().fails(1);
    assert!(said.contains("Read-only file system"), "{said}");
}

#[test]
fn memory_policies_without_nodes_are_set() {
    if !Path::new("/proc/self/numa_maps").exists() {
        // This kernel knows no nodes.
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("head -n 1 /proc/self/numa_maps");
    for (mode, word) in [
        ("MPOL_DEFAULT", "default"),
        ("MPOL_LOCAL", "local"),
        ("MPOL_PREFERRED", "local"),
    ] {
        bundle.config["linux"]["memoryPolicy"] = json!({"mode": mode});
        let said = bundle.run().ok();
        assert_eq!(said.split(' ').nth(1), Some(word), "{mode}: {said}");
    }
}

/// Also where the host has v1 beside it, or above all.
#[test]
fn cgroup2_is_the_tree_of_v2() {
    let on_host = [
        "/sys/fs/cgroup/cgroup.controllers",
        "/sys/fs/cgroup/unified/cgroup.controllers",
    ];
    let there = on_host.iter().any(|path| Path::new(path).exists());
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("ls /sys/fs/cgroup");
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    let cgroup = mounts.iter_mut().find(|mount| mount["type"] == "cgroup");
    cgroup.unwrap()["type"] = json!("cgroup2");
    let ran = bundle.run();
    if there {
        let said = ran.ok();
        assert!(said.lines().any(|line| line == "cgroup.procs"), "{said}");
        assert!(!said.lines().any(|line| line == "memory"), "{said}");
    } else {
        let said = ran.fails(1);
        assert!(said.contains("mount the type cgroup"), "{said}");
    }
}
