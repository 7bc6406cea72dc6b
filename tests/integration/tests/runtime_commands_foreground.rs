//! A foreground `run`: every signal passes on, and the end of its child is never missed.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dhow_integration_tests::{Bundle, PATIENCE, Sandbox, program};
use rustix::process::Pid;
use serde_json::json;

/// The runtime itself, without timeout(1) between: signals are for it.
fn run(bundle: &Bundle, id: &str) -> Command {
    let mut command = Command::new(program("dhow-runtime"));
    command
        .arg("--root")
        .arg(bundle.root())
        .args(["run", id])
        .current_dir(bundle.path(""))
        .stdin(Stdio::null());
    command
}

/// Waits for a child's end, but not for ever.
#[track_caller]
fn ends_within(child: &mut Child, limit: Duration) -> i32 {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        if Instant::now() > end {
            let _ = child.kill();
            panic!("it did not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runtimes that miss the end of a child which ends at once hang here, once in some hundred runs.
#[test]
fn a_thousand_containers_that_end_at_once_are_all_seen_to_end() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("exit 7");
    let mut bundle = bundle;
    bundle.config["process"]["args"] = json!(["/bin/false"]);
    // Each with a cgroup of its own.
    bundle.cgroup_by_id();
    bundle.write_config();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let bundle = &bundle;
            scope.spawn(move || {
                for number in 0..250 {
                    let id = format!("{}-{worker}-{number}", bundle.id());
                    let mut child = run(bundle, &id).spawn().unwrap();
                    let status = ends_within(&mut child, PATIENCE);
                    assert_eq!(status, 1, "{id}");
                }
            });
        }
    });
    let left: Vec<_> = fs_err::read_dir(bundle.root()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A container that says which signals came: busybox's shell traps them all by number.
const TELLS: &str = "for n in 1 2 3 6 10 12 13 14 15 16 17 18 20 21 22 23 24 25 26 27 28 29 30 34 40 64; do trap \"echo got $n\" $n; done
    trap 'exit 5' 63; echo ready; while :; do sleep 0.05; done";

#[test]
fn every_signal_passes_on() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle(TELLS);
    bundle.write_config();
    let mut child = run(&bundle, bundle.id())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let runtime = child.id().to_string();
    for number in [
        1, 2, 3, 6, 10, 12, 13, 14, 15, 16, 17, 18, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 34,
        40, 64,
    ] {
        let sent = Command::new("kill")
            .args([format!("-{number}"), runtime.clone()])
            .status()
            .unwrap();
        assert!(sent.success());
        // A shell also notices the end of its sleep as a signal 17.
        let answer = lines
            .by_ref()
            .map(Result::unwrap)
            .find(|line| number == 17 || line != "got 17");
        assert_eq!(answer.unwrap(), format!("got {number}"));
    }
    // What the shell cannot trap ends the container's process, not the runtime. 32 and 33 are the C library's own, outside of
    // its sets of all signals.
    let sent = Command::new("kill")
        .args(["-63", &runtime])
        .status()
        .unwrap();
    assert!(sent.success());
    assert_eq!(ends_within(&mut child, PATIENCE), 5);
    bundle.assert_nothing_left();
    for number in [32, 33] {
        let mut bundle = sandbox.bundle("echo ready; sleep 100");
        // As pid 1 of its namespace it would not mind.
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
        bundle.write_config();
        let mut child = run(&bundle, bundle.id())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let pid = child.id().to_string();
        // The shell's own: kill(1) does not know these numbers.
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{number} {pid}")])
            .status()
            .unwrap();
        assert!(sent.success());
        assert_eq!(ends_within(&mut child, PATIENCE), 128 + number);
        bundle.assert_nothing_left();
    }
}

/// Signals that come while the container is being made are for it, too.
#[test]
fn a_signal_at_any_moment_ends_a_run() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("");
    bundle.config["process"]["args"] = json!(["sleep", "100"]);
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    bundle.cgroup_by_id();
    bundle.write_config();
    for number in 0..60u64 {
        let id = format!("{}-{number}", bundle.id());
        let mut child = run(&bundle, &id).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(400 * number));
        let pid = Pid::from_raw(child.id() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let end = Instant::now() + PATIENCE;
        // Before it can hold signals back one ends it; then it has made nothing that it does not remove or another could not.
        while child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "{id} does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        bundle.runtime(["delete", "--force", &id]).ok();
    }
}

/// Whoever reads the terminal's output may stop reading: signals pass on all the same, and the end is seen.
#[test]
fn a_reader_that_stops_reading_holds_no_signal_up() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("trap 'exit 6' TERM; echo ready; while :; do echo 0123456789012345678901234567890123456789; done");
    bundle.config["process"]["terminal"] = json!(true);
    bundle.write_config();
    let mut child = run(&bundle, bundle.id())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut first = [0u8; 5];
    out.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"ready");
    // The pipe and the terminal fill.
    std::thread::sleep(Duration::from_millis(500));
    let pid = Pid::from_raw(child.id() as i32).unwrap();
    // The first is for the container, whose end leaves output that nobody reads; the second for who waits with that.
    for _ in 0..2 {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        std::thread::sleep(Duration::from_millis(700));
    }
    // The container may hang in a write to its full terminal until the runtime goes, so that its trap does not run.
    let status = ends_within_with(&mut child, &mut out);
    assert_eq!(status, 6);
    bundle.assert_nothing_left();
}

/// Reads on if need be, so that the test ends either way.
fn ends_within_with(child: &mut Child, out: &mut impl Read) -> i32 {
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).unwrap();
    child.wait().unwrap().code().unwrap_or(-1)
}

/// A container kept after its end is there to be looked at and deleted.
#[test]
fn keep_leaves_the_record_and_a_detached_run_returns_at_once() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("exit 4");
    bundle.write_config();
    assert_eq!(bundle.runtime(["run", "--keep", bundle.id()]).status, 4);
    assert_eq!(bundle.state()["status"], "stopped");
    bundle.runtime(["delete", bundle.id()]).ok();
    let long = sandbox.bundle("sleep 100");
    long.write_config();
    let pid_file = long.path("pid");
    let begun = Instant::now();
    long.quiet([
        "run",
        "--detach",
        "--pid-file",
        pid_file.to_str().unwrap(),
        long.id(),
    ])
    .ok();
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!(
        fs_err::read_to_string(&pid_file).unwrap(),
        long.state()["pid"].to_string()
    );
    long.runtime(["delete", "--force", long.id()]).ok();
    long.assert_nothing_left();
}

/// Without pivot_root the container is as well closed in for who does not try to break out.
#[test]
fn no_pivot_gives_the_same_root() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("ls /; pwd; cat /etc/passwd");
    bundle.write_config();
    let with = bundle.runtime(["run", bundle.id()]).ok();
    let without = bundle.runtime(["run", "--no-pivot", bundle.id()]).ok();
    assert_eq!(with, without);
    bundle.assert_nothing_left();
}
