//! Limits are the kernel's, and hold.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::time::{Duration, Instant};

use dhow_integration_tests::{Disk, Sandbox, until};

fn with_busybox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    sandbox
}

#[test]
fn memory_over_the_limit_is_killed_and_told() {
    let sandbox = with_busybox();
    let _end = sandbox.removed_at_end("hog");
    let ended = sandbox.dhow([
        "run",
        "--name",
        "hog",
        "-m",
        "32m",
        "--memory-swap",
        "32m",
        "busybox",
        "tail",
        "/dev/zero",
    ]);
    let said = ended.fails(137);
    assert!(
        said.contains("out of memory") && said.contains("--memory"),
        "{said}"
    );
    let inspected: serde_json::Value =
        serde_json::from_str(&sandbox.dhow(["inspect", "hog"]).ok()).unwrap();
    assert_eq!(inspected[0]["State"]["OOMKilled"], true);
    assert!(
        sandbox
            .dhow(["ps", "-a"])
            .ok()
            .contains("Exited (137, OOM)")
    );
    // What was killed by somebody else is not told so.
    sandbox
        .dhow([
            "run",
            "--name",
            "killed",
            "-m",
            "32m",
            "busybox",
            "sh",
            "-c",
            "sh -c 'kill -9 $$'; exit $?",
        ])
        .fails(137);
    let inspected: serde_json::Value =
        serde_json::from_str(&sandbox.dhow(["inspect", "killed"]).ok()).unwrap();
    assert_eq!(inspected[0]["State"]["OOMKilled"], false);
    sandbox.dhow(["rm", "hog", "killed"]).ok();
    sandbox.nothing_is_left(&[]);
}

#[test]
fn a_hog_gets_its_share_of_a_processor() {
    let sandbox = with_busybox();
    // What the container's own cgroup says it used, over a time in which it wanted all: true however busy the machine is.
    let _end = sandbox.removed_at_end("hog");
    sandbox
        .dhow([
            "run",
            "-d",
            "--name",
            "hog",
            "--cpus",
            "0.05",
            "busybox",
            "sh",
            "-c",
            "while :; do :; done",
        ])
        .ok();
    let used = || -> u64 {
        let script = "cat /sys/fs/cgroup/cpuacct/cpuacct.usage 2>/dev/null || sed -n 's/usage_usec \\(.*\\)/\\1000/p' /sys/fs/cgroup/cpu.stat";
        sandbox
            .dhow(["exec", "hog", "sh", "-c", script])
            .ok()
            .trim()
            .parse()
            .unwrap()
    };
    let (began, before) = (Instant::now(), used());
    std::thread::sleep(Duration::from_secs(3));
    // On a busy machine it may get less than its share: then it takes longer.
    until("it uses the processor", || used() - before > 100_000_000);
    let share = (used() - before) as f64 / began.elapsed().as_nanos() as f64;
    assert!(share < 0.12, "{share} of a processor");
    let throttled = sandbox
        .dhow([
            "exec",
            "hog",
            "sh",
            "-c",
            "cat /sys/fs/cgroup/cpu/cpu.stat /sys/fs/cgroup/cpu.stat 2>/dev/null; exit 0",
        ])
        .ok();
    let count = throttled
        .lines()
        .find_map(|line| line.strip_prefix("nr_throttled "))
        .unwrap();
    assert!(count.parse::<u64>().unwrap() > 5, "{throttled}");
}

#[test]
fn there_are_no_more_processes_than_allowed() {
    let sandbox = with_busybox();
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1 & done; wait";
    let said = sandbox.dhow([
        "run",
        "--rm",
        "--pids-limit",
        "5",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert!(said.stderr.contains("can't fork"), "{said:?}");
    let said = sandbox.dhow([
        "run",
        "--rm",
        "--pids-limit",
        "20",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(said.stderr, "");
}

#[test]
fn writes_to_a_device_keep_to_their_rate() {
    let sandbox = with_busybox();
    let disk = Disk::make(
        "ext4",
        128,
        &sandbox.path("disk.img"),
        &sandbox.path("disk"),
    );
    let volume = format!("{}:/disk", disk.path().display());
    let took = |limit: &[&str]| {
        let began = Instant::now();
        let command = [
            "-v",
            &volume,
            "busybox",
            "dd",
            "if=/dev/zero",
            "of=/disk/file",
            "bs=256k",
            "count=24",
            "oflag=direct",
            "conv=fsync",
        ];
        sandbox
            .dhow([&["run", "--rm"], limit, &command].concat())
            .ok();
        began.elapsed()
    };
    let rate = format!("{}:2m", disk.device());
    let limited = took(&["--device-write-bps", &rate]);
    // 6 MiB at 2 MiB a second.
    let least = Duration::from_millis(2200);
    assert!(limited > least, "{limited:?}");
    // A disk that others use may be as slow without a limit, though not always.
    until("it is faster without a limit", || took(&[]) < least);
    let said = sandbox
        .dhow([
            "run",
            "--rm",
            "--device-write-bps",
            "/dev/null:1m",
            "busybox",
            "true",
        ])
        .fails(125);
    assert!(said.contains("/dev/null is not a block device"), "{said}");
}
