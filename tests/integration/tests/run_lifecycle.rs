//! Containers in the background, from creation to removal.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dhow_integration_tests::{Sandbox, ran, until};

fn with_busybox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    sandbox
}

/// A container that runs until it is told to end.
fn start(sandbox: &Sandbox, name: &str) -> String {
    sandbox
        .dhow([
            "run",
            "-d",
            "--name",
            name,
            "busybox",
            "sh",
            "-c",
            "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done",
        ])
        .ok()
}

fn inspect_state(sandbox: &Sandbox, name: &str) -> serde_json::Value {
    let said = sandbox.dhow(["inspect", name]).ok();
    let all: serde_json::Value = serde_json::from_str(&said).unwrap();
    all[0]["State"].clone()
}

/// Waits until the log of a container holds a word.
fn await_log(sandbox: &Sandbox, name: &str, word: &str) {
    until(&format!("{word} is in the log"), || {
        sandbox.dhow(["logs", name]).stdout.contains(word)
    });
}

#[test]
fn a_container_in_the_background_has_one_monitor_and_nothing_else() {
    let sandbox = with_busybox();
    let _end = sandbox.removed_at_end("web");
    let id = start(&sandbox, "web");
    assert_eq!(id.len(), 64);
    let processes = sandbox.processes();
    assert_eq!(processes.len(), 1, "{processes:?}");
    assert!(processes[0].contains("dhow-monitor"), "{processes:?}");
    let listed = sandbox.dhow(["ps"]).ok();
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[0].starts_with("CONTAINER ID   IMAGE"), "{listed}");
    assert!(
        lines[1].starts_with(&id[..12]) && lines[1].ends_with("web"),
        "{listed}"
    );
    assert!(lines[1].contains("Up "), "{listed}");
    await_log(&sandbox, "web", "ready");
    assert_eq!(sandbox.dhow(["stop", "web"]).ok(), "web");
    assert_eq!(sandbox.dhow(["ps", "-q"]).ok(), "");
    assert!(sandbox.dhow(["ps", "-a"]).ok().contains("Exited (0)"));
    assert_eq!(sandbox.dhow(["logs", "web"]).ok(), "ready\nbye");
    assert_eq!(sandbox.dhow(["rm", &id[..5]]).ok(), &id[..5]);
    sandbox.nothing_is_left(&[&id]);
}

#[test]
fn a_name_is_one_containers() {
    let sandbox = with_busybox();
    sandbox
        .dhow(["create", "--name", "web", "busybox", "true"])
        .ok();
    let said = sandbox
        .dhow(["run", "--rm", "--name", "web", "busybox", "true"])
        .fails(125);
    assert!(
        said.contains("\"web\" is in use") && said.contains("dhow rm web"),
        "{said}"
    );
    let said = sandbox
        .dhow(["run", "--name", "we b", "busybox", "true"])
        .fails(125);
    assert!(said.contains("we b"), "{said}");
    assert!(sandbox.dhow(["ps", "-a"]).ok().contains("Created"));
    sandbox.dhow(["rm", "web"]).ok();
    sandbox
        .dhow(["run", "--rm", "--name", "web", "busybox", "true"])
        .ok();
    sandbox.nothing_is_left(&[]);
}

#[test]
fn many_at_once_get_a_name_once() {
    let sandbox = with_busybox();
    let tries: Vec<_> = (0..12)
        .map(|_| {
            sandbox
                .command(["create", "--name", "one", "busybox", "true"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let won = tries
        .into_iter()
        .map(|mut child| child.wait().unwrap().success())
        .filter(|won| *won)
        .count();
    assert_eq!(won, 1);
    assert_eq!(sandbox.dhow(["ps", "-aq"]).ok().lines().count(), 1);
    sandbox.dhow(["rm", "one"]).ok();
    sandbox.nothing_is_left(&[]);
}

#[test]
fn stop_is_patient_and_kill_is_not() {
    let sandbox = with_busybox();
    let _end = sandbox.removed_at_end("deaf");
    sandbox
        .dhow(["create", "--name", "deaf", "busybox", "sleep", "1000"])
        .ok();
    // On a busy machine it may take longer, but not every time the ten seconds of who asks for none.
    until("it stops after its one second", || {
        sandbox.dhow(["start", "deaf"]).ok();
        let began = Instant::now();
        sandbox.dhow(["stop", "-t", "1", "deaf"]).ok();
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(1), "{took:?}");
        took < Duration::from_secs(8)
    });
    assert_eq!(inspect_state(&sandbox, "deaf")["ExitCode"], 137);
    // Stopping what does not run is no mistake; killing it is.
    sandbox.dhow(["stop", "deaf"]).ok();
    let said = sandbox.dhow(["kill", "deaf"]).fails(125);
    assert!(said.contains("not running"), "{said}");
    sandbox.dhow(["start", "deaf"]).ok();
    sandbox.dhow(["kill", "deaf"]).ok();
    assert_eq!(sandbox.dhow(["wait", "deaf"]).ok(), "137");
    sandbox.dhow(["rm", "deaf"]).ok();
    let said = sandbox.dhow(["kill", "-s", "NOPE", "deaf"]).fails(125);
    assert!(said.contains("no such container"), "{said}");
}

#[test]
fn signals_by_name_arrive() {
    let sandbox = with_busybox();
    let _end = sandbox.removed_at_end("ears");
    let script = "trap 'echo heard; exit 3' USR1; echo ready; while :; do sleep 0.1; done";
    sandbox
        .dhow(["run", "-d", "--name", "ears", "busybox", "sh", "-c", script])
        .ok();
    await_log(&sandbox, "ears", "ready");
    let mut waiting = sandbox
        .command(["wait", "ears"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    sandbox.dhow(["kill", "-s", "usr1", "ears"]).ok();
    assert_eq!(sandbox.dhow(["wait", "ears"]).ok(), "3");
    assert!(waiting.wait().unwrap().success());
    assert!(sandbox.dhow(["logs", "ears"]).ok().contains("heard"));
}

#[test]
fn the_foreground_passes_signals_on() {
    let sandbox = with_busybox();
    let script = "trap 'echo heard; exit 5' INT; echo ready; while :; do sleep 0.1; done";
    let mut child = sandbox
        .command(["run", "--rm", "busybox", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "heard");
    assert_eq!(child.wait().unwrap().code(), Some(5));
    sandbox.nothing_is_left(&[]);
}

#[test]
fn logs_are_followed_to_the_end() {
    let sandbox = with_busybox();
    let _end = sandbox.removed_at_end("talker");
    let script =
        "for i in 1 2 3 4 5; do echo line $i; echo problem $i >&2; sleep 0.1; done; printf last";
    sandbox
        .dhow([
            "run", "-d", "--name", "talker", "busybox", "sh", "-c", script,
        ])
        .ok();
    let followed = ran(sandbox.command(["logs", "-f", "talker"]), b"");
    assert_eq!(
        followed.stdout,
        "line 1\nline 2\nline 3\nline 4\nline 5\nlast"
    );
    assert_eq!(followed.stderr.lines().count(), 5);
    let tail = sandbox.dhow(["logs", "--tail", "2", "talker"]);
    assert_eq!(
        (tail.stdout.as_str(), tail.stderr.as_str()),
        ("last", "problem 5\n")
    );
    let stamped = sandbox.dhow(["logs", "-t", "talker"]).stdout;
    assert!(
        stamped
            .lines()
            .all(|line| line.contains('T') && line.contains("Z ")),
        "{stamped}"
    );
    let first = sandbox.dhow(["logs", "--since", "1h", "talker"]).stdout;
    assert!(first.starts_with("line 1"), "{first}");
    assert_eq!(
        sandbox
            .dhow(["logs", "--since", "2100-01-01T00:00:00Z", "talker"])
            .stdout,
        ""
    );
}

#[test]
fn exec_is_inside_and_its_status_its_own() {
    let sandbox = with_busybox();
    let _end = sandbox.removed_at_end("web");
    start(&sandbox, "web");
    let exec = |words: &[&str]| sandbox.dhow([&["exec"], words].concat());
    exec(&["web", "sh", "-c", "exit 9"]).fails(9);
    exec(&["web", "nosuchprogram"]).fails(127);
    exec(&["web", "/etc/passwd"]).fails(126);
    assert_eq!(
        exec(&[
            "-e",
            "A=1",
            "-w",
            "/tmp",
            "-u",
            "nobody",
            "web",
            "sh",
            "-c",
            "echo $A $(pwd) $(id -u)"
        ])
        .ok(),
        "1 /tmp 65534"
    );
    let seen = exec(&["web", "ps"]).ok();
    assert!(seen.contains("trap"), "{seen}");
    let counted = ran(
        sandbox.command(["exec", "-i", "web", "wc", "-c"]),
        &vec![b'x'; 1 << 20],
    )
    .ok();
    assert_eq!(counted, (1 << 20).to_string());
    exec(&["-d", "web", "sh", "-c", "echo made >/made"]).ok();
    until("the file is made", || {
        exec(&["web", "cat", "/made"]).stdout == "made\n"
    });
    sandbox.dhow(["stop", "web"]).ok();
    let said = exec(&["web", "true"]).fails(125);
    assert!(
        said.contains("not running") && said.contains("dhow start web"),
        "{said}"
    );
}

#[test]
fn a_container_keeps_what_it_wrote_and_starts_again() {
    let sandbox = with_busybox();
    let _end = sandbox.removed_at_end("diary");
    let id = sandbox
        .dhow([
            "create",
            "--name",
            "diary",
            "busybox",
            "sh",
            "-c",
            "echo again >>/diary; cat /diary",
        ])
        .ok();
    assert_eq!(inspect_state(&sandbox, "diary")["Status"], "created");
    assert_eq!(sandbox.dhow(["start", "-a", "diary"]).ok(), "again");
    assert_eq!(sandbox.dhow(["start", "-a", "diary"]).ok(), "again\nagain");
    assert_eq!(sandbox.dhow(["logs", "diary"]).ok(), "again\nagain\nagain");
    let said = sandbox.dhow(["rmi", "busybox"]).fails(125);
    assert!(said.contains(&id[..12]), "{said}");
    sandbox.dhow(["rm", "diary"]).ok();
    sandbox.nothing_is_left(&[&id]);
}

#[test]
fn a_running_container_is_only_removed_by_force() {
    let sandbox = with_busybox();
    let _end = sandbox.removed_at_end("web");
    let id = start(&sandbox, "web");
    let said = sandbox.dhow(["rm", "web"]).fails(125);
    assert!(
        said.contains("running") && said.contains("dhow stop web"),
        "{said}"
    );
    let said = sandbox.dhow(["start", "web"]).fails(125);
    assert!(said.contains("running already"), "{said}");
    sandbox.dhow(["rm", "-f", "web"]).ok();
    sandbox.nothing_is_left(&[&id]);
}

#[test]
fn a_background_container_is_removed_at_its_end() {
    let sandbox = with_busybox();
    let id = sandbox.dhow(["run", "-d", "--rm", "busybox", "true"]).ok();
    until("the monitor ends", || sandbox.processes().is_empty());
    sandbox.nothing_is_left(&[&id]);
}

#[test]
fn a_background_container_that_cannot_start_says_why_and_is_gone() {
    let sandbox = with_busybox();
    let said = sandbox
        .dhow(["run", "-d", "--rm", "busybox", "nosuchprogram"])
        .fails(127);
    assert!(said.contains("nosuchprogram"), "{said}");
    sandbox.nothing_is_left(&[]);
    // One that was created before tells the same later.
    sandbox
        .dhow(["create", "--name", "kept", "busybox", "nosuchprogram"])
        .ok();
    sandbox.dhow(["start", "kept"]).fails(125);
    assert!(sandbox.dhow(["ps", "-a"]).ok().contains("Exited (127)"));
    let said = sandbox
        .dhow(["inspect", "-f", "{{.State.Error}}", "kept"])
        .ok();
    assert!(said.contains("nosuchprogram"), "{said}");
    sandbox.dhow(["rm", "kept"]).ok();
    sandbox.nothing_is_left(&[]);
}

#[test]
fn lists_are_filtered_and_formatted() {
    let sandbox = with_busybox();
    sandbox
        .dhow([
            "create",
            "--name",
            "alpha",
            "--label",
            "tier=front",
            "busybox",
            "echo",
            "a long command that is cut",
        ])
        .ok();
    sandbox
        .dhow(["run", "--name", "beta", "busybox", "true"])
        .ok();
    let names = |filter: &str| {
        let said = sandbox
            .dhow(["ps", "-a", "--format", "json", "-f", filter])
            .ok();
        said.lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["Names"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(names("name=alp"), ["alpha"]);
    assert_eq!(names("label=tier=front"), ["alpha"]);
    assert_eq!(names("status=exited"), ["beta"]);
    assert_eq!(names("ancestor=busybox"), ["beta", "alpha"]);
    let said = sandbox.dhow(["ps", "-f", "colour=blue"]).fails(125);
    assert!(said.contains("name=TEXT"), "{said}");
    let cut = sandbox.dhow(["ps", "-a"]).ok();
    assert!(cut.contains('…') && !cut.contains("that is cut"), "{cut}");
    assert!(
        sandbox
            .dhow(["ps", "-a", "--no-trunc"])
            .ok()
            .contains("that is cut")
    );
    sandbox.dhow(["rm", "alpha", "beta"]).ok();
    sandbox.nothing_is_left(&[]);
}

#[test]
fn a_reader_that_leaves_is_no_fault() {
    let sandbox = with_busybox();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "$DHOW run --rm busybox sh -c 'i=0; while [ $i -lt 20000 ]; do echo y; i=$((i+1)); done' | head -n 1"]);
    command
        .env("DHOW", dhow_integration_tests::program("dhow"))
        .env("DHOW_ROOT", sandbox.path("root"))
        .env("DHOW_STATE", sandbox.path("state"));
    assert_eq!(ran(command, b"").ok(), "y");
}
