//! Namespaces: of every kind one's own, and another's by its path.

use std::process::{Child, Command, Stdio};

use dhow_integration_tests::{Bundle, Sandbox};
use serde_json::{Value, json};

/// The name of a kind in config.json, and below /proc/PID/ns.
const KINDS: [(&str, &str); 8] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
    ("user", "user"),
    ("time", "time"),
];

fn link(pid: impl std::fmt::Display, name: &str) -> String {
    fs_err::read_link(format!("/proc/{pid}/ns/{name}"))
        .expect("a namespace")
        .display()
        .to_string()
}

/// Sets the namespaces of a kind, by path if there is one.
fn set(bundle: &mut Bundle, kind: &str, path: Option<String>) {
    let list = bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .expect("namespaces");
    list.retain(|namespace| namespace["type"] != kind);
    list.push(match path {
        Some(path) => json!({"type": kind, "path": path}),
        None => json!({"type": kind}),
    });
}

/// Prints all namespaces of the process.
const ALL: &str =
    "for n in pid net ipc uts mnt cgroup user time; do readlink /proc/self/ns/$n; done";

#[test]
fn every_kind_is_made() {
    let sandbox = Sandbox::new();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs_err::set_permissions(sandbox.path(""), open).unwrap();
    let mut bundle = sandbox.bundle(ALL);
    for (kind, _) in KINDS {
        set(&mut bundle, kind, None);
    }
    for maps in ["uidMappings", "gidMappings"] {
        bundle.config["linux"][maps] =
            json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    }
    let out = bundle.run().ok();
    for (line, (_, name)) in out.lines().zip(KINDS) {
        assert_ne!(line, link("self", name));
    }
    assert_eq!(out.lines().count(), KINDS.len());
    bundle.assert_nothing_left();
}

#[test]
fn every_kind_is_joined_by_its_path() {
    let sandbox = Sandbox::new();
    let mut first = sandbox.bundle("sleep 100");
    set(&mut first, "time", None);
    first.config["linux"]["timeOffsets"] =
        json!({"boottime": {"secs": 31_536_000}, "monotonic": {"secs": 31_536_000, "nanosecs": 7}});
    first.start();
    let pid = first.state()["pid"].clone();
    for (kind, name) in KINDS {
        if matches!(kind, "user" | "mount") {
            // These two have tests of their own.
            continue;
        }
        let mut second = sandbox.bundle(&format!(
            "readlink /proc/self/ns/{name}; cut -d . -f 1 /proc/uptime"
        ));
        std::os::unix::fs::symlink("busybox", second.path("rootfs/bin/cut")).unwrap();
        set(&mut second, kind, Some(format!("/proc/{pid}/ns/{name}")));
        if kind == "uts" {
            second.config["hostname"] = json!("renamed");
        }
        let out = second.run().ok();
        let (found, uptime) = out.split_once('\n').unwrap();
        assert_eq!(found, link(&pid, name), "{kind}");
        let uptime: u64 = uptime.parse().unwrap();
        assert_eq!(uptime > 31_536_000, kind == "time", "{kind}");
        second.assert_nothing_left();
    }
    assert_eq!(first.exec("hostname").ok(), "renamed");
}

/// A process in a mount namespace of its own; it goes with the value.
struct Holder(Child);

impl Holder {
    fn new() -> Self {
        let child = Command::new("unshare")
            .args(["--mount", "sleep", "100"])
            .stdout(Stdio::null())
            .spawn()
            .expect("package util-linux");
        while link(child.id(), "mnt") == link("self", "mnt") {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_mount_namespace_is_joined() {
    let sandbox = Sandbox::new();
    let holder = Holder::new();
    let mut bundle = sandbox.bundle("readlink /proc/self/ns/mnt; ls /");
    let path = format!("/proc/{}/ns/mnt", holder.0.id());
    set(&mut bundle, "mount", Some(path));
    let out = bundle.run().ok();
    assert!(out.starts_with(&link(holder.0.id(), "mnt")), "{out}");
    // It sees its root and not the host's.
    assert!(!out.contains("boot"), "{out}");
    drop(holder);
    bundle.assert_nothing_left();
}

#[test]
fn a_path_of_another_kind_or_of_none_is_refused() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("file");
    fs_err::write(&file, "").unwrap();
    for (kind, _) in KINDS {
        let wrong = if kind == "ipc" { "uts" } else { "ipc" };
        for path in [
            format!("/proc/self/ns/{wrong}"),
            file.display().to_string(),
            "/nowhere/ns".to_owned(),
        ] {
            let mut bundle = sandbox.bundle("echo begun");
            set(&mut bundle, kind, Some(path.clone()));
            let ran = bundle.run();
            assert_eq!(ran.stdout, "", "{kind} {path}");
            let message = ran.fails(1);
            assert!(message.contains("namespace"), "{kind} {path}: {message}");
            bundle.assert_nothing_left();
        }
    }
    let mut bundle = sandbox.bundle("true");
    let twice: Value = json!({"type": "uts"});
    bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(twice);
    let message = bundle.run().fails(1);
    assert!(message.contains("uts stands twice"), "{message}");
    set(&mut bundle, "uts", Some("relative/path".to_owned()));
    let message = bundle.run().fails(1);
    assert!(message.contains("not an absolute path"), "{message}");
}

#[test]
fn what_is_not_named_is_the_callers() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle(ALL);
    bundle.config["linux"]["namespaces"] = json!([{"type": "mount"}]);
    bundle.config.as_object_mut().unwrap().remove("hostname");
    // Without a network namespace of its own nobody may mount a view of one.
    let out = bundle.run().ok();
    for (line, (kind, name)) in out.lines().zip(KINDS) {
        assert_eq!(line == link("self", name), kind != "mount", "{kind}");
    }
    bundle.assert_nothing_left();
}
