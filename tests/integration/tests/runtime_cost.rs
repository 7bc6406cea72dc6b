//! What a container costs: bounds that the runtime is held to (docs/PERFORMANCE.md). Times are for the benches.

use std::process::{Command, Stdio};

use dhow_integration_tests::{Sandbox, program, until};
use serde_json::json;

#[test]
fn a_run_takes_less_than_three_mebibytes() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("sleep 100");
    bundle.write_config();
    let mut command = bundle.command(["run", bundle.id()]);
    command.stdout(Stdio::null());
    let mut runtime = command.spawn().expect("start dhow-runtime");
    bundle.await_status("running");
    let status_of = |process: &str, name: &str| {
        let text = fs_err::read_to_string(format!("/proc/{process}/status")).expect("status");
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let word = line.and_then(|line| line.split_whitespace().next());
        word.expect("a word").to_owned()
    };
    // In the foreground it is the parent of the container's process.
    let own = status_of(&bundle.state()["pid"].to_string(), "PPid:");
    assert_eq!(status_of(&own, "Name:"), "dhow-runtime");
    let peak: u64 = status_of(&own, "VmHWM:").parse().expect("KiB");
    bundle.runtime(["kill", bundle.id(), "KILL"]).ok();
    until("the runtime ends", || {
        runtime.try_wait().expect("wait").is_some()
    });
    bundle.assert_nothing_left();
    assert!(peak < 3 << 10, "{peak} KiB");
}

#[test]
fn a_run_makes_few_system_calls() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("true");
    bundle.config["process"]["args"] = json!(["/bin/true"]);
    // In a cgroup namespace each hierarchy is mounted anew, option by option, instead of being bound.
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut();
    namespaces
        .expect("namespaces")
        .retain(|namespace| namespace["type"] != "cgroup");
    bundle.write_config();
    let calls = sandbox.path("calls");
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-o"]).arg(&calls);
    command
        .arg(program("dhow-runtime"))
        .arg("--root")
        .arg(bundle.root());
    command
        .args(["run", "--bundle"])
        .arg(bundle.path(""))
        .arg(bundle.id());
    let ended = command.stdin(Stdio::null()).status();
    assert!(ended.expect("package strace").success());
    let text = fs_err::read_to_string(&calls).expect("strace's table");
    let total = text.lines().last().expect("a total");
    let total: usize = total
        .split_whitespace()
        .nth(3)
        .and_then(|count| count.parse().ok())
        .unwrap_or_else(|| panic!("no total in {text}"));
    // Each hierarchy costs its directory, a join, a mount and its removal: seven calls, and cpuset and devices their filling. With
    // ten of them that is under 400.
    assert!(total < 330 + 7 * hierarchies(), "{text}");
    bundle.assert_nothing_left();
}

/// How many hierarchies of cgroups this host has.
fn hierarchies() -> usize {
    let mounts = fs_err::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    mounts
        .lines()
        .filter(|line| line.contains(" - cgroup"))
        .count()
}
