//! `events`: what a container uses in runc's shape, and when it is out of memory.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dhow_integration_tests::Sandbox;
use serde_json::{Value, json};

/// The names in a document, with those above them; lists count by their first member.
fn paths(of: &Value, above: &str, into: &mut BTreeSet<String>) {
    if let Value::Object(members) = of {
        for (name, value) in members {
            let path = format!("{above}/{name}");
            into.insert(path.clone());
            // The kernel's own names, of which each version has others.
            if name != "raw" && name != "hugetlb" {
                paths(value, &path, into);
            }
        }
    }
}

#[test]
fn what_is_used_has_runcs_shape() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("sleep 100");
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 67_108_864});
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 33});
    bundle.start();
    let line: Value =
        serde_json::from_str(&bundle.runtime(["events", "--stats", bundle.id()]).ok()).unwrap();
    assert_eq!(line["type"], "stats");
    assert_eq!(line["id"], bundle.id());
    let data = &line["data"];
    assert_eq!(data["memory"]["usage"]["limit"], 67_108_864);
    assert!(
        data["memory"]["usage"]["usage"].as_u64().unwrap() > 0,
        "{data}"
    );
    assert_eq!(data["pids"]["limit"], 33);
    assert_eq!(data["pids"]["current"], 1);
    assert!(
        data["cpu"]["usage"]["total"].as_u64().unwrap() > 0,
        "{data}"
    );

    // The same of runc's, on the same bundle.
    let id = format!("{}-runc", bundle.id());
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/{id}"));
    bundle.write_config();
    let root = bundle.path("root-runc");
    let runc = |args: &[&str]| {
        let mut command = Command::new("runc");
        command
            .arg("--root")
            .arg(&root)
            .args(args)
            .current_dir(bundle.path(""))
            .stdin(Stdio::null());
        command
    };
    let quiet = runc(&["run", "-d", &id])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(quiet.success());
    let theirs = runc(&["events", "--stats", &id]).output().unwrap();
    runc(&["delete", "--force", &id]).status().unwrap();
    let theirs: Value = serde_json::from_slice(&theirs.stdout).unwrap();
    let mut wanted = BTreeSet::new();
    paths(&theirs["data"], "", &mut wanted);
    let mut had = BTreeSet::new();
    paths(data, "", &mut had);
    // Newer runcs have dropped nothing of it; what is 0 may be absent.
    let missing: Vec<_> = wanted
        .difference(&had)
        .filter(|path| !path.starts_with("/cpu/throttling"))
        .collect();
    assert!(
        missing.is_empty(),
        "{missing:?} of {theirs} are not in {data}"
    );
}

#[test]
fn statistics_come_in_their_interval_until_the_container_ends() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("sleep 100");
    bundle.start();
    for (interval, words) in [
        ("0", "greater than 0"),
        ("often", "a time as"),
        ("-1s", "a time as"),
    ] {
        let message = bundle
            .runtime(["events", "--interval", interval, bundle.id()])
            .fails(1);
        assert!(message.contains(words), "{message}");
    }
    let begun = Instant::now();
    let mut child = bundle
        .command(["events", "--interval=100ms", bundle.id()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(line["type"], "stats");
    }
    assert!(begun.elapsed() >= Duration::from_millis(300));
    bundle.runtime(["kill", bundle.id(), "KILL"]).ok();
    assert!(lines.by_ref().take(100).count() < 100, "it goes on");
    assert!(child.wait().unwrap().success());
}

#[test]
fn being_out_of_memory_is_told() {
    let sandbox = Sandbox::new();
    // The killed process is not the first one, so the container goes on; again and again, for who begins to listen late.
    let mut bundle = sandbox.bundle("while :; do tail /dev/zero; sleep 0.2; done");
    bundle.config["linux"]["resources"]["memory"] =
        json!({"limit": 16_777_216, "swap": 16_777_216});
    bundle.config["root"]["readonly"] = json!(false);
    std::os::unix::fs::symlink("busybox", bundle.path("rootfs/bin/tail")).unwrap();
    bundle.start();
    let mut child = bundle
        .command(["events", "--interval", "600s", bundle.id()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line: Value = serde_json::from_str(&lines.next().expect("a line").unwrap()).unwrap();
    assert_eq!(line, json!({"type": "oom", "id": bundle.id()}));
    assert_eq!(bundle.state()["status"], "running");
    bundle.runtime(["delete", "--force", bundle.id()]).ok();
    assert!(child.wait().unwrap().success());
    bundle.assert_nothing_left();
}
