//! What a container costs: bounds that the runtime is held to (docs/PERFORMANCE.md). Times are for the benches.

use std::process::{Command, Stdio};

use dhow_integration_tests::{Bundle, Sandbox, program, until};
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
    // Whoever else mounts something at this moment makes the kernel forget what it knows of paths, and the runtime look again; the
    // first run makes the state directory besides. The least is what a run takes.
    let (total, text) = (0..5)
        .map(|_| calls_of_a_run(&sandbox, &bundle))
        .min()
        .expect("a run");
    // Each hierarchy costs its directory, a join, a mount and its removal: seven calls, and cpuset and devices their filling. With
    // ten of them that is under 400.
    assert!(total < 330 + 7 * hierarchies(), "{text}");
    bundle.assert_nothing_left();
}

/// How many system calls a run makes with all its processes, and strace's table.
fn calls_of_a_run(sandbox: &Sandbox, bundle: &Bundle) -> (usize, String) {
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
    let total = total
        .split_whitespace()
        .nth(3)
        .and_then(|count| count.parse().ok())
        .unwrap_or_else(|| panic!("no total in {text}"));
    (total, text)
}

/// How many hierarchies of cgroups this host has.
fn hierarchies() -> usize {
    let mounts = fs_err::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    mounts
        .lines()
        .filter(|line| line.contains(" - cgroup"))
        .count()
}

/// The processor's instruction that the beginning takes away from itself is given back before anything of the runtime's own
/// happens, and the signal by which it is answered is as the caller left it.
#[test]
fn the_quick_beginning_leaves_nothing_behind() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("true");
    bundle.config["process"]["args"] = json!(["/bin/grep", "Sig", "/proc/self/status"]);
    bundle.write_config();
    let processor = fs_err::read_to_string("/proc/cpuinfo").expect("the processors");
    let faults = processor.contains(" cpuid_fault");
    for caller in ["", "--block-signal=SEGV", "--ignore-signal=SEGV"] {
        let calls = sandbox.path("calls");
        let mut command = Command::new("strace");
        command
            .args(["-f", "-e", "trace=execve,execveat,arch_prctl,poll", "-o"])
            .arg(&calls)
            .arg("env")
            .args(Some(caller).filter(|flag| !flag.is_empty()))
            .arg(program("dhow-runtime"))
            .arg("--root")
            .arg(bundle.root())
            .args(["run", "--bundle"])
            .arg(bundle.path(""))
            .arg(bundle.id())
            .stdin(Stdio::null());
        let ran = command.output().expect("package strace");
        assert!(ran.status.success(), "{caller}: {ran:?}");
        // In the container nothing of it is seen, whatever the caller does: no signal is blocked, ignored or caught.
        let text = String::from_utf8(ran.stdout).expect("text");
        for name in ["SigBlk", "SigIgn", "SigCgt"] {
            assert!(
                text.contains(&format!("{name}:\t0000000000000000")),
                "{caller}: {text}"
            );
        }
        let log = fs_err::read_to_string(&calls).expect("strace's log");
        let (mut taken, mut was_taken) = (false, false);
        for line in log.lines() {
            // Answers stand below each other.
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            if line.contains("ARCH_SET_CPUID, 0) = 0") {
                (taken, was_taken) = (true, true);
            } else if line.contains("ARCH_SET_CPUID, 0x1) = 0") {
                taken = false;
            } else if line.contains("poll(") || line.contains("exec") {
                assert!(!taken, "{caller}: still without CPUID: {log}");
            }
        }
        // Else there was nothing to be seen.
        assert!(was_taken || !faults, "{caller}: never without CPUID: {log}");
    }
    bundle.assert_nothing_left();
}

/// A signal that would end any program ends the runtime as well, though it has a use for it at its beginning.
#[test]
fn a_fault_ends_the_runtime() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("sleep 100");
    bundle.start();
    let mut command = bundle.command(["events", "--interval", "100ms", bundle.id()]);
    command.stdout(Stdio::piped());
    let mut events = command.spawn().expect("start dhow-runtime");
    // It has reported: its beginning is over.
    let mut first = [0];
    std::io::Read::read_exact(events.stdout.as_mut().expect("a pipe"), &mut first)
        .expect("a report");
    let children = format!("/proc/{0}/task/{0}/children", events.id());
    let child = fs_err::read_to_string(children).expect("timeout's child");
    let pid = rustix::process::Pid::from_raw(child.trim().parse().expect("a number"));
    rustix::process::kill_process(pid.expect("a process"), rustix::process::Signal::SEGV)
        .expect("kill");
    let status = events.wait().expect("wait");
    // As timeout(1) tells it.
    let told = std::os::unix::process::ExitStatusExt::signal(&status).or(status.code());
    assert!(matches!(told, Some(11 | 139)), "{status:?}");
    bundle.runtime(["delete", "--force", bundle.id()]).ok();
}
