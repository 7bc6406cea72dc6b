//! A container's life through dhow-runtime's commands: what each does, prints and answers with.

use dhow_integration_tests::{Sandbox, program, write_program};
use serde_json::{Value, json};

#[test]
fn run_gives_the_exit_status_of_the_process() {
    let sandbox = Sandbox::new();
    for (script, status) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -TERM $$; sleep 5", 143),
        ("kill -9 $$; sleep 5", 137),
    ] {
        let mut bundle = sandbox.bundle(script);
        // A process that is pid 1 of its namespace is not killed by its own signals.
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
        assert_eq!(bundle.run().status, status, "{script}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn create_start_kill_delete() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("echo begun > /tmp/begun; sleep 100");
    let mut bundle = bundle;
    bundle.config["root"]["readonly"] = json!(false);
    let id = bundle.id().to_owned();
    let pid_file = bundle.path("pid");
    bundle.write_config();
    bundle
        .quiet(["create", "--pid-file", pid_file.to_str().unwrap(), &id])
        .ok();
    let state = bundle.state();
    assert_eq!(state["status"], "created");
    assert_eq!(state["ociVersion"], "1.3.0");
    assert_eq!(state["id"], id.as_str());
    let pid = fs_err::read_to_string(&pid_file).unwrap();
    assert_eq!(state["pid"].to_string(), pid);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(
        !bundle.path("rootfs/tmp/begun").exists(),
        "it began before start"
    );

    let message = bundle.runtime(["create", &id]).fails(1);
    assert!(
        message.contains("container with given ID already exists"),
        "{message}"
    );
    bundle.runtime(["start", &id]).ok();
    bundle.await_status("running");
    let message = bundle.runtime(["start", &id]).fails(1);
    assert!(
        message.contains("cannot start an already running container"),
        "{message}"
    );
    let message = bundle.runtime(["delete", &id]).fails(1);
    assert!(
        message.contains("that is not stopped: running"),
        "{message}"
    );

    bundle.runtime(["kill", &id, "SIGKILL"]).ok();
    bundle.await_status("stopped");
    assert_eq!(bundle.state()["pid"], 0);
    let message = bundle.runtime(["kill", &id, "TERM"]).fails(1);
    assert!(message.contains("container not running"), "{message}");
    bundle.runtime(["delete", &id]).ok();
    bundle.runtime(["state", &id]).fails(1);
    bundle.runtime(["delete", &id]).fails(1);
    bundle.runtime(["delete", "--force", &id]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn detached_run_exec_ps_and_list() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("sleep 100");
    bundle.write_config();
    let id = bundle.id().to_owned();
    bundle.quiet(["run", "--detach", &id]).ok();
    assert_eq!(bundle.state()["status"], "running");

    let ran = bundle.exec("echo out; echo err >&2; exit 5");
    assert_eq!(
        (ran.status, &*ran.stdout, &*ran.stderr),
        (5, "out\n", "err\n")
    );
    assert_eq!(bundle.exec("kill -9 $$").status, 137);
    // In the container's namespaces, as another process of it.
    let processes = bundle.exec("ps").ok();
    assert!(processes.contains("sleep 100"), "{processes}");
    assert_eq!(bundle.exec("hostname").ok(), "dhow");
    let ran = bundle.runtime([
        "exec",
        "--user",
        "1000:50",
        "--cwd",
        "/tmp",
        "--env",
        "A=b",
        &id,
        "sh",
        "-c",
        "id -u; id -g; pwd; echo $A; echo $HOME",
    ]);
    assert_eq!(ran.ok(), "1000\n50\n/tmp\nb\n/tmp");
    let bits = bundle
        .runtime([
            "exec",
            "--cap",
            "CAP_SYS_TIME",
            &id,
            "grep",
            "CapEff",
            "/proc/self/status",
        ])
        .ok();
    assert!(bits.ends_with("0000000022000420"), "{bits}");

    let message = bundle.runtime(["exec", &id, "no-such-program"]).fails(255);
    assert!(
        message.contains("executable file not found in $PATH"),
        "{message}"
    );
    bundle.runtime(["exec", &id]).fails(255);

    let process = bundle.path("process.json");
    fs_err::write(
        &process,
        json!({"args": ["sh", "-c", "echo $X; exit 3"], "cwd": "/", "user": {"uid": 0, "gid": 0},
               "env": ["PATH=/bin", "X=from-document"]})
        .to_string(),
    )
    .unwrap();
    let ran = bundle.runtime(["exec", "--process", process.to_str().unwrap(), &id]);
    assert_eq!((ran.status, &*ran.stdout), (3, "from-document\n"));

    let pid_file = bundle.path("exec-pid");
    bundle
        .quiet([
            "exec",
            "--detach",
            "--pid-file",
            pid_file.to_str().unwrap(),
            &id,
            "sleep",
            "100",
        ])
        .ok();
    let detached: i32 = fs_err::read_to_string(&pid_file).unwrap().parse().unwrap();
    let pids: Vec<i32> =
        serde_json::from_str(&bundle.runtime(["ps", "--format", "json", &id]).ok()).unwrap();
    assert_eq!(pids.len(), 2);
    assert!(pids.contains(&detached));
    let table = bundle.runtime(["ps", &id]).ok();
    assert_eq!(table.lines().count(), 3, "{table}");

    let list: Vec<Value> =
        serde_json::from_str(&bundle.runtime(["list", "--format", "json"]).ok()).unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0]["owner"], "root");
    assert_eq!(bundle.runtime(["list", "-q"]).ok(), id);
    assert!(bundle.runtime(["list"]).ok().starts_with("ID "));

    bundle.runtime(["kill", "--all", &id, "9"]).ok();
    bundle.await_status("stopped");
    bundle.runtime(["exec", &id, "true"]).fails(255);
    bundle.runtime(["delete", &id]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn a_paused_container_stands_still() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("sleep 100");
    bundle.start();
    let id = bundle.id();
    bundle.runtime(["pause", id]).ok();
    assert_eq!(bundle.state()["status"], "paused");
    bundle.runtime(["pause", id]).fails(1);
    bundle.runtime(["exec", id, "true"]).fails(255);
    bundle.runtime(["resume", id]).ok();
    assert_eq!(bundle.state()["status"], "running");
    bundle.runtime(["pause", id]).ok();
    bundle.runtime(["delete", "--force", id]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn update_changes_a_limit() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("sleep 100");
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 20});
    bundle.start();
    bundle
        .runtime(["update", "--pids-limit", "11", bundle.id()])
        .ok();
    let limits: Vec<String> = bundle
        .cgroups()
        .iter()
        .filter_map(|place| fs_err::read_to_string(place.join("pids.max")).ok())
        .collect();
    assert_eq!(limits, ["11\n"]);
}

#[test]
fn a_program_that_is_missing_or_not_executable_is_told_apart() {
    let sandbox = Sandbox::new();
    for (args, kind, words) in [
        (
            json!(["nothing"]),
            "command-not-found",
            "executable file not found in $PATH",
        ),
        (
            json!(["/nothing"]),
            "command-not-found",
            "no such file or directory",
        ),
        (
            json!(["/etc/passwd"]),
            "command-not-executable",
            "permission denied",
        ),
        (
            json!(["/etc"]),
            "command-not-executable",
            "permission denied",
        ),
    ] {
        let mut bundle = sandbox.bundle("");
        bundle.config["process"]["args"] = args;
        let log = bundle.create().fails(1);
        let line: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        assert_eq!(line["kind"], kind, "{line}");
        assert_eq!(line["level"], "error");
        assert!(line["msg"].as_str().unwrap().contains(words), "{line}");
        bundle.assert_nothing_left();
    }
    // What shows only at execve: a script whose interpreter is missing, and a file in no known format.
    for (content, kind) in [
        ("#!/no/interpreter\n", "command-not-found"),
        ("nonsense", "command-not-executable"),
    ] {
        let mut bundle = sandbox.bundle("");
        write_program(bundle.path("rootfs/bin/odd"), content);
        bundle.config["process"]["args"] = json!(["odd"]);
        bundle.create().ok();
        let log = bundle.quiet(["start", bundle.id()]).fails(1);
        assert!(log.contains(kind), "{log}");
        bundle.await_status("stopped");
        bundle.runtime(["delete", bundle.id()]).ok();
        bundle.assert_nothing_left();
    }
}

#[test]
fn kept_record_and_signals_passed_on() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("trap 'exit 33' USR1; echo ready; while :; do sleep 0.1; done");
    bundle.write_config();
    // Not through timeout(1): the signal is for the runtime itself.
    let mut child = std::process::Command::new(program("dhow-runtime"))
        .arg("--root")
        .arg(bundle.root())
        .args(["run", "--keep", bundle.id()])
        .current_dir(bundle.path(""))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert_eq!(line, "ready\n");
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::USR1).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(33));
    assert_eq!(bundle.state()["status"], "stopped");
    bundle.runtime(["delete", bundle.id()]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn a_plan_is_printed_and_nothing_done() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("true");
    bundle.write_config();
    let plan = bundle.runtime(["create", "--dry-run", bundle.id()]).ok();
    for step in [
        "parent                Clone mnt uts ipc pid net",
        "PivotRoot",
        "meets    AwaitStart",
        "if there MaskIfPresent",
        "Execute",
    ] {
        assert!(plan.contains(step), "{step} is not in:\n{plan}");
    }
    assert_eq!(bundle.state(), Value::Null);
    bundle.assert_nothing_left();
}

#[test]
fn mistakes_are_told_in_a_line() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("true");
    let good = bundle.config.clone();
    for (pointer, value, words) in [
        ("/process/cwd", json!("relative"), "process.cwd"),
        ("/process/args", json!([]), "process.args"),
        ("/root/path", json!("nowhere"), "root.path"),
        (
            "/linux/namespaces",
            json!([{"type": "pid"}]),
            "mount namespace",
        ),
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        (
            "/mounts/0",
            json!({"destination": "/x", "type": "bind"}),
            "without a source",
        ),
        (
            "/linux/sysctl",
            json!({"kernel.panic": "1"}),
            "not in a separate kernel namespace",
        ),
        ("/process/terminal", json!(true), "console socket"),
    ] {
        bundle.config = good.clone();
        match bundle.config.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => bundle.config["linux"]["sysctl"] = value,
        }
        let log = bundle.create().fails(1);
        assert!(log.contains(words), "{pointer}: {log}");
        bundle.assert_nothing_left();
    }
    let message = bundle.runtime(["create", "../escape"]).fails(1);
    assert!(message.contains("invalid container ID format"), "{message}");
    let message = bundle.runtime(["kill", "nobody", "NOSIG"]).fails(1);
    assert!(message.contains("unknown signal"), "{message}");
    fs_err::write(bundle.path("config.json"), "{").unwrap();
    let message = bundle.runtime(["run", "x"]).fails(1);
    assert!(message.contains("not a valid configuration"), "{message}");
}

#[test]
fn features_and_version_have_runcs_shape() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("true");
    let features: Value = serde_json::from_str(&bundle.runtime(["features"]).ok()).unwrap();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    let version = bundle.runtime(["--version"]).ok();
    assert!(version.starts_with("dhow-runtime version "), "{version}");
    assert!(version.contains("\nspec: 1."), "{version}");
}

/// Two containers that were told to be in one cgroup, one after the other: deleting the ended one leaves the other alone.
#[test]
fn deleting_an_ended_container_kills_nobody_elses_processes() {
    let sandbox = Sandbox::new();
    let ended = sandbox.bundle("true");
    ended.start();
    ended.await_status("stopped");
    let mut other = sandbox.bundle("sleep 100");
    other.config["linux"]["cgroupsPath"] = ended.config["linux"]["cgroupsPath"].clone();
    other.start();
    let _ = ended.runtime(["delete", ended.id()]);
    assert_eq!(other.state()["status"], "running");
    other.runtime(["delete", "--force", other.id()]).ok();
    ended.runtime(["delete", "--force", ended.id()]).ok();
    ended.assert_nothing_left();
}
