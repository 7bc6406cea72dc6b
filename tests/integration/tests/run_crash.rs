//! Programs killed in the middle leave nothing that cannot be cleaned up, and no lie.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use dhow_integration_tests::{Sandbox, until};
use rustix::process::{Pid, Signal, kill_process};

fn with_busybox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    sandbox
}

/// A foreground container that has said that it runs.
fn foreground(sandbox: &Sandbox, args: &[&str]) -> Child {
    let words = [
        &["run"],
        args,
        &[
            "busybox",
            "sh",
            "-c",
            "echo ready; while :; do sleep 0.1; done",
        ],
    ]
    .concat();
    let mut child = sandbox
        .command(words)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    child
}

fn monitor(sandbox: &Sandbox) -> Pid {
    let processes = sandbox.processes();
    let monitor = processes.iter().find(|line| line.contains("dhow-monitor"));
    let pid = monitor.and_then(|line| line.split(' ').next()).unwrap();
    Pid::from_raw(pid.parse().unwrap()).unwrap()
}

#[test]
fn a_foreground_program_killed_leaves_the_container_running_and_removable() {
    let sandbox = with_busybox();
    let _end = sandbox.removed_at_end("web");
    let mut child = foreground(&sandbox, &["--name", "web"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(sandbox.dhow(["ps"]).ok().contains("Up "));
    sandbox.dhow(["exec", "web", "true"]).ok();
    sandbox.dhow(["rm", "-f", "web"]).ok();
    sandbox.nothing_is_left(&[]);
}

#[test]
fn a_foreground_program_killed_still_has_its_container_removed() {
    let sandbox = with_busybox();
    let _end = sandbox.removed_at_end("web");
    let mut child = foreground(&sandbox, &["--rm", "--name", "web"]);
    child.kill().unwrap();
    child.wait().unwrap();
    sandbox.dhow(["kill", "web"]).ok();
    until("the monitor cleans up", || sandbox.processes().is_empty());
    sandbox.nothing_is_left(&[]);
}

#[test]
fn a_killed_monitor_is_told_truthfully() {
    let sandbox = with_busybox();
    let _end = sandbox.removed_at_end("web");
    let id = sandbox
        .dhow(["run", "-d", "--name", "web", "busybox", "sleep", "1000"])
        .ok();
    let inside = sandbox.dhow(["inspect", "web"]).ok();
    let inside: serde_json::Value = serde_json::from_str(&inside).unwrap();
    let pid = inside[0]["State"]["Pid"].as_i64().unwrap();
    kill_process(monitor(&sandbox), Signal::KILL).unwrap();
    until("the lock is free", || {
        sandbox.dhow(["ps", "-a"]).ok().contains("Exited (255)")
    });
    until("the container is ended", || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    });
    sandbox.dhow(["start", "web"]).ok();
    kill_process(monitor(&sandbox), Signal::KILL).unwrap();
    until("removable", || {
        sandbox.dhow(["rm", "-f", "web"]).status == 0
    });
    sandbox.nothing_is_left(&[&id]);
}

#[test]
fn a_foreground_program_sees_its_monitor_die() {
    let sandbox = with_busybox();
    let child = foreground(&sandbox, &["--rm", "--name", "web"]);
    kill_process(monitor(&sandbox), Signal::KILL).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    sandbox.nothing_is_left(&[]);
}

#[test]
fn killed_at_any_moment_nothing_is_left_that_cannot_be_removed() {
    let sandbox = with_busybox();
    for step in 0..30 {
        let mut child = sandbox
            .command(["run", "--rm", "-m", "64m", "busybox", "true"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(step * 700));
        let _ = child.kill();
        child.wait().unwrap();
    }
    until("all monitors end", || sandbox.processes().is_empty());
    for id in sandbox.dhow(["ps", "-aq"]).ok().lines() {
        sandbox.dhow(["rm", "-f", id]).ok();
    }
    sandbox.nothing_is_left(&[]);
}
