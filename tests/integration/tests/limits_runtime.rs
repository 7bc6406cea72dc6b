//! Limits of a bundle's configuration are the kernel's, and hold. Bounds are wide: the machine may be busy with other tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dhow_integration_tests::{Bundle, Sandbox, ran, until};
use serde_json::{Value, json};

fn limited(sandbox: &Sandbox, script: &str, resources: Value) -> Bundle {
    let mut bundle = sandbox.bundle(script);
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["linux"]["resources"] = resources;
    bundle
}

/// A file of the container's cgroup, by its names in v1 and v2.
fn cgroup_file(bundle: &Bundle, v1: &str, v2: &str) -> PathBuf {
    let places = bundle.cgroups();
    let mut files = places
        .iter()
        .flat_map(|place| [place.join(v1), place.join(v2)]);
    files
        .find(|file| file.exists())
        .unwrap_or_else(|| panic!("neither {v1} nor {v2} in {places:?}"))
}

/// The number behind a name in a file of lines `name number`; the first number without a name.
fn number(file: &Path, name: &str) -> u64 {
    let text = fs_err::read_to_string(file).expect("a cgroup file");
    let line = text.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line[name.len()..].trim().parse().ok());
    number.unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// A block device of its own.
struct Loop {
    path: String,
    number: (u32, u32),
}

impl Loop {
    fn new(sandbox: &Sandbox, bytes: u64) -> Self {
        let file = sandbox.path("disk");
        fs_err::File::create(&file)
            .and_then(|file| file.set_len(bytes))
            .expect("a file");
        let mut command = Command::new("losetup");
        command.args(["--find", "--show"]).arg(&file);
        let path = ran(command, b"").ok();
        let mut command = Command::new("stat");
        command.args(["--format", "%t %T", &path]);
        let numbers = ran(command, b"").ok();
        let (major, minor) = numbers.split_once(' ').expect("two numbers");
        let hexadecimal = |text| u32::from_str_radix(text, 16).expect("a number");
        Self {
            path,
            number: (hexadecimal(major), hexadecimal(minor)),
        }
    }

    /// Lets a container have it as /dev/disk.
    fn give(&self, bundle: &mut Bundle) {
        let (major, minor) = self.number;
        bundle.config["linux"]["devices"] =
            json!([{"path": "/dev/disk", "type": "b", "major": major, "minor": minor}]);
        bundle.config["linux"]["resources"]["devices"] = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "b", "major": major, "minor": minor, "access": "rw"},
        ]);
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .args(["--detach", &self.path])
            .status();
    }
}

#[test]
fn memory_over_the_limit_is_killed_and_counted() {
    let sandbox = Sandbox::new();
    let limit = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    let bundle = limited(&sandbox, "busybox tail /dev/zero; sleep 100", limit);
    bundle.start();
    let events = cgroup_file(&bundle, "memory.oom_control", "memory.events");
    until("nothing was killed", || number(&events, "oom_kill ") == 1);
    let limit = cgroup_file(&bundle, "memory.limit_in_bytes", "memory.max");
    assert_eq!(number(&limit, ""), 16 << 20);
    bundle.runtime(["delete", "--force", bundle.id()]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn a_container_starts_in_four_mebibytes() {
    let sandbox = Sandbox::new();
    let limit = json!({"memory": {"limit": 4 << 20, "swap": 4 << 20}});
    let bundle = limited(&sandbox, "echo it runs", limit);
    assert_eq!(bundle.run().ok(), "it runs");
    bundle.assert_nothing_left();
}

#[test]
fn a_processor_hog_gets_its_share() {
    let sandbox = Sandbox::new();
    let share = json!({"cpu": {"quota": 20_000, "period": 100_000}});
    let bundle = limited(&sandbox, "while :; do :; done", share);
    bundle.start();
    let (file, unit) = match cgroup_file(&bundle, "cpuacct.usage", "cpu.stat") {
        file if file.ends_with("cpuacct.usage") => ((file, ""), 1_000),
        file => ((file, "usage_usec "), 1),
    };
    let used = || number(&file.0, file.1) / unit;
    // The time around what is measured, so that whoever is held up in between does not make the share larger. On a busy machine
    // the container may get less than its share: then it takes longer.
    let (begun, before) = (Instant::now(), used());
    std::thread::sleep(Duration::from_secs(3));
    until("it uses the processor", || used() - before > 200_000);
    let (used, elapsed) = (used() - before, begun.elapsed().as_micros() as u64);
    let percent = used * 100 / elapsed;
    assert!(percent <= 27, "{percent} of 20 percent");
}

#[test]
fn no_more_processes_than_allowed() {
    let sandbox = Sandbox::new();
    let script = "for i in 1 2 3 4 5 6; do sleep 100 & done; wait";
    let bundle = limited(&sandbox, script, json!({"pids": {"limit": 4}}));
    let ended = bundle.run();
    assert_ne!(ended.status, 0);
    assert!(ended.stderr.contains("can't fork"), "{}", ended.stderr);
    bundle.assert_nothing_left();
}

#[test]
fn writes_to_a_device_keep_to_their_rate() {
    let sandbox = Sandbox::new();
    let disk = Loop::new(&sandbox, 64 << 20);
    let time = |rate: Option<u64>| {
        let script = "dd if=/dev/zero of=/dev/disk bs=1M count=6 conv=fsync 2>/dev/null";
        let mut bundle = limited(&sandbox, script, json!({}));
        disk.give(&mut bundle);
        if let Some(rate) = rate {
            let (major, minor) = disk.number;
            bundle.config["linux"]["resources"]["blockIO"] = json!({
                "throttleWriteBpsDevice": [{"major": major, "minor": minor, "rate": rate}],
            });
        }
        let begun = Instant::now();
        bundle.run().ok();
        begun.elapsed()
    };
    let throttled = time(Some(2 << 20));
    assert!(
        throttled > Duration::from_secs(2),
        "6 MiB at 2 MiB a second took {throttled:?}"
    );
    // A disk that others use may be as slow without a limit, though not always.
    until("it is faster without a limit", || {
        time(None) < Duration::from_secs(2)
    });
}

#[test]
fn a_device_that_is_not_allowed_cannot_be_opened() {
    let sandbox = Sandbox::new();
    // No driver has this number: who may open it hears so.
    let script =
        "mknod /tmp/device c 240 77; cat /tmp/device; cat /dev/null; head -c 2 /dev/zero | wc -c";
    let rule = |allow: bool| json!({"allow": allow, "type": "c", "major": 240, "minor": 77, "access": "r"});
    let none = json!({"allow": false, "access": "rwm"});
    for (rules, expected) in [
        (json!([none]), "Operation not permitted"),
        (json!([none, rule(true)]), "No such device"),
        (
            json!([none, rule(true), rule(false)]),
            "Operation not permitted",
        ),
        (json!([{"allow": true, "access": "rwm"}]), "No such device"),
        (
            json!([{"allow": true, "access": "rwm"}, rule(false)]),
            "Operation not permitted",
        ),
    ] {
        let mut bundle = limited(&sandbox, script, json!({"devices": rules}));
        for set in ["bounding", "effective", "permitted"] {
            let list = bundle.config["process"]["capabilities"][set].as_array_mut();
            list.expect("a list").push(json!("CAP_MKNOD"));
        }
        let ended = bundle.run();
        assert!(ended.stderr.contains(expected), "{rules} {}", ended.stderr);
        assert_eq!(ended.stdout.trim(), "2");
    }
}

#[test]
fn a_limit_without_its_controller_is_refused_by_name() {
    let sandbox = Sandbox::new();
    for (resources, named) in [
        (json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}}), "rdma"),
        (json!({"unified": {"nonsense.max": "1"}}), "nonsense"),
        (json!({"unified": {"../../memory.max": "1"}}), "'/'"),
        (
            json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}),
            "huge pages",
        ),
    ] {
        let bundle = limited(&sandbox, "true", resources);
        let ended = bundle.run();
        assert_eq!(ended.status, 1);
        assert!(ended.stderr.contains(named), "{}", ended.stderr);
        bundle.assert_nothing_left();
    }
}

#[test]
fn someone_elses_cgroup_is_not_taken() {
    let sandbox = Sandbox::new();
    let first = limited(&sandbox, "sleep 100", json!({}));
    first.start();
    let mut second = limited(&sandbox, "true", json!({}));
    second.config["linux"]["cgroupsPath"] = first.config["linux"]["cgroupsPath"].clone();
    let said = second.run().fails(1);
    assert!(said.contains("already there"), "{said}");
    assert_eq!(first.state()["status"], "running");
    assert!(!first.cgroups().is_empty());

    // Nor is one above it, in which nobody is: a failed creation would end all that is below.
    let path = first.config["linux"]["cgroupsPath"].as_str();
    let above = path
        .and_then(|path| path.rsplit_once('/'))
        .map(|(above, _)| above);
    let mut second = limited(&sandbox, "true", json!({}));
    let path = format!("{}/above-{}", above.unwrap_or(""), first.id());
    let mut below = limited(&sandbox, "sleep 100", json!({}));
    below.config["linux"]["cgroupsPath"] = json!(format!("{path}/below"));
    below.start();
    second.config["linux"]["cgroupsPath"] = json!(path);
    second.write_config();
    let pid_file = "/nonexistent/pid";
    let said = second
        .runtime(["run", "--pid-file", pid_file, second.id()])
        .fails(1);
    assert!(said.contains("already there"), "{said}");
    assert_eq!(below.state()["status"], "running");
    below.runtime(["delete", "--force", below.id()]).ok();
    for hierarchy in fs_err::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        // On v2 it is at the top itself.
        let _ = fs_err::remove_dir(hierarchy.path().join(path.trim_start_matches('/')));
    }
    let _ = fs_err::remove_dir(format!("/sys/fs/cgroup{path}"));
}

#[test]
fn a_limit_changes_while_it_runs() {
    let sandbox = Sandbox::new();
    let before = json!({"memory": {"limit": 64 << 20, "swap": 64 << 20}, "pids": {"limit": 50}});
    let bundle = limited(&sandbox, "sleep 100", before);
    bundle.start();
    // Up, so that the limit on both has to go first, and down again.
    for limit in [128 << 20, 32 << 20] {
        let limit: u64 = limit;
        let text = limit.to_string();
        bundle
            .runtime([
                "update",
                "--memory",
                &text,
                "--memory-swap",
                &text,
                bundle.id(),
            ])
            .ok();
        let file = cgroup_file(&bundle, "memory.limit_in_bytes", "memory.max");
        assert_eq!(number(&file, ""), limit);
    }
    let pids = cgroup_file(&bundle, "pids.max", "pids.max");
    assert_eq!(number(&pids, ""), 50, "what is not named stays");
}

/// Below a v2 cgroup that is divided among threads the kernel takes processes only in threaded mode; the container goes there.
#[test]
fn below_a_threaded_cgroup_a_container_is_threaded_too() {
    let sandbox = Sandbox::new();
    let mounts = fs_err::read_to_string("/proc/self/mountinfo").unwrap();
    let v2 = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let v2 = v2
        .and_then(|line| line.split(' ').nth(4))
        .expect("a v2 tree");
    let mut bundle = sandbox.bundle("sleep 100 & sleep 100; true");
    let top = format!("{}-threads", bundle.id());
    let divided = std::path::Path::new(v2).join(&top);
    fs_err::create_dir_all(divided.join("thread")).unwrap();
    fs_err::write(divided.join("thread/cgroup.type"), "threaded").unwrap();
    let kind = |of: &str| fs_err::read_to_string(divided.join(of).join("cgroup.type")).unwrap();
    assert_eq!(kind("").trim(), "domain threaded");
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/{top}/between/inner"));
    bundle.start();
    assert_eq!(kind("between/inner").trim(), "threaded");
    let id = bundle.id();
    let own = bundle
        .exec("cat /proc/1/cgroup; echo; cat /proc/self/cgroup")
        .ok();
    // In a cgroup namespace it is the root; elsewhere its path.
    assert!(own.contains("0::/"), "{own}");
    let pids = bundle.runtime(["ps", "--format", "json", id]).ok();
    let pids: Vec<i64> = serde_json::from_str(&pids).unwrap();
    assert_eq!(pids.len(), 3, "{pids:?}");
    bundle.runtime(["pause", id]).ok();
    assert_eq!(bundle.state()["status"], "paused");
    bundle.runtime(["resume", id]).ok();
    bundle.runtime(["kill", "--all", id, "KILL"]).ok();
    bundle.await_status("stopped");
    bundle.runtime(["delete", id]).ok();
    for hierarchy in fs_err::read_dir("/sys/fs/cgroup").unwrap() {
        let below = hierarchy.unwrap().path().join(&top);
        for name in ["between/inner", "between", "thread", ""] {
            let left = below.join(name);
            // The container's own must be gone; the others are this test's.
            assert!(
                name != "between/inner" || !left.exists(),
                "{left:?} is left"
            );
            let _ = std::fs::remove_dir(left);
        }
    }
    assert!(!divided.exists());
}
