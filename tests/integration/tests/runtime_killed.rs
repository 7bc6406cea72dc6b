//! A command of the runtime's, or a process that it made, is killed before each system call that it makes: what is left
//! can always be told and removed. `DHOW_TEST_ALL=1` tries every point; without it a sample is tried, by a seed that is
//! printed and that `DHOW_TEST_SEED` sets again.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::process::Command;
use std::time::{Duration, Instant};

use dhow_integration_tests::kill_points::{KillPoint, Traced, reap, run_to};
use dhow_integration_tests::{Bundle, PATIENCE, Sandbox, program};
use serde_json::json;

/// How many points of each command are tried when not all are.
const SAMPLE: usize = 40;

fn command(bundle: &Bundle, args: &[&str]) -> Command {
    bundle.write_config();
    let mut command = Command::new(program("dhow-runtime"));
    command
        .arg("--root")
        .arg(bundle.root())
        .args(args)
        .current_dir(bundle.path(""));
    command
}

/// The points of a command that made these calls: each alone, and with the whole tree.
fn points(calls: &[usize]) -> Vec<KillPoint> {
    let mut points = Vec::new();
    for (who, count) in calls.iter().enumerate() {
        for at in 0..*count {
            for all in [false, true] {
                points.push(KillPoint { who, at, all });
            }
        }
    }
    if std::env::var_os("DHOW_TEST_ALL").is_some() {
        return points;
    }
    let seed = std::env::var("DHOW_TEST_SEED").ok();
    let mut state: u64 = seed
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| u64::from(std::process::id()) | 1);
    println!("DHOW_TEST_SEED={state}");
    let mut sample = Vec::new();
    while sample.len() < SAMPLE && !points.is_empty() {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        sample.push(points.swap_remove((state % points.len() as u64) as usize));
    }
    sample
}

fn is_gone(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    state.is_empty() || state.starts_with(['Z', 'X'])
}

/// Nobody of a tree is there any more, or is soon not.
#[track_caller]
fn assert_all_gone(traced: &Traced, point: KillPoint) {
    let end = Instant::now() + PATIENCE;
    for pid in &traced.processes {
        while !is_gone(*pid) {
            reap();
            assert!(Instant::now() < end, "{point:?}: process {pid} is left");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The container's status, from a command that must not fail in any other way than it may.
#[track_caller]
fn told_status(bundle: &Bundle, point: KillPoint) -> String {
    let list = bundle.runtime(["list"]);
    assert_eq!(list.status, 0, "{point:?}: list: {}", list.stderr);
    let state = bundle.runtime(["state", bundle.id()]);
    if state.status == 0 {
        let state: serde_json::Value = serde_json::from_str(&state.stdout).unwrap();
        return state["status"].as_str().unwrap().to_owned();
    }
    assert_eq!(state.status, 1, "{point:?}: state: {}", state.stderr);
    assert!(
        state.stderr.contains("does not exist"),
        "{point:?}: state: {}",
        state.stderr
    );
    String::new()
}

/// By force all of it goes, and stays away.
#[track_caller]
fn assert_deleted(bundle: &Bundle, traced: &Traced, point: KillPoint) {
    let ran = bundle.runtime(["delete", "--force", bundle.id()]);
    assert_eq!(ran.status, 0, "{point:?}: delete: {}", ran.stderr);
    assert_all_gone(traced, point);
    reap();
    println!("{point:?}");
    bundle.assert_nothing_left();
}

/// Kills at the points of a command that makes a container.
fn kill_in_creation(bundle: &Bundle, args: &[&str]) {
    let whole = run_to(&command(bundle, args), None);
    assert_eq!(whole.status, 0, "the command by itself");
    bundle.runtime(["delete", "--force", bundle.id()]).ok();
    for point in points(&whole.calls) {
        let traced = run_to(&command(bundle, args), Some(point));
        if traced.killed && point.who > 0 && !point.all && traced.status != 0 {
            // The command was there to see it, and has cleaned up by itself.
            assert_eq!(told_status(bundle, point), "", "{point:?}");
            bundle.assert_nothing_left();
        }
        let status = told_status(bundle, point);
        assert_ne!(status, "paused", "{point:?}");
        assert_deleted(bundle, &traced, point);
    }
}

#[test]
fn create() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("sleep 100");
    kill_in_creation(&bundle, &["create", bundle.id()]);
}

#[test]
fn create_with_hooks_and_a_user_namespace() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("sleep 100");
    let hook = json!([{"path": "/bin/true"}]);
    let inside = json!([{"path": "/bin/true"}]);
    bundle.config["hooks"] = json!({
        "prestart": hook, "createRuntime": hook, "createContainer": hook, "startContainer": inside, "poststop": hook
    });
    bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    kill_in_creation(&bundle, &["create", bundle.id()]);
}

#[test]
fn create_in_namespaces_of_another() {
    let sandbox = Sandbox::new();
    let other = sandbox.bundle("sleep 100");
    other.start();
    let pid = other.state()["pid"].as_i64().unwrap();
    let mut bundle = sandbox.bundle("sleep 100");
    for namespace in bundle.config["linux"]["namespaces"].as_array_mut().unwrap() {
        let kind = namespace["type"].as_str().unwrap();
        let name = match kind {
            "network" => "net",
            "mount" | "cgroup" => continue,
            kind => kind,
        };
        namespace["path"] = json!(format!("/proc/{pid}/ns/{name}"));
    }
    kill_in_creation(&bundle, &["create", bundle.id()]);
}

#[test]
fn run() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("true");
    kill_in_creation(&bundle, &["run", bundle.id()]);
}

#[test]
fn start() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("sleep 100");
    bundle.config["hooks"] = json!({"poststart": [{"path": "/bin/true"}]});
    bundle.create().ok();
    let args = ["start", bundle.id()];
    let whole = run_to(&command(&bundle, &args), None);
    assert_eq!(whole.status, 0);
    bundle.runtime(["delete", "--force", bundle.id()]).ok();
    for point in points(&whole.calls) {
        bundle.create().ok();
        let traced = run_to(&command(&bundle, &args), Some(point));
        let mut status = told_status(&bundle, point);
        if status == "created" {
            // It can be tried again, unless the word to go was on its way.
            let ran = bundle.runtime(args);
            let on_its_way = ran.stderr.contains("already running");
            assert!(ran.status == 0 || on_its_way, "{point:?}: {}", ran.stderr);
            status = told_status(&bundle, point);
        }
        // Where `start` was there to see its hook die, the hook has failed, and that ends the container.
        let failed = traced.killed && point.who > 0 && !point.all && traced.status != 0;
        let wanted = if failed { "stopped" } else { "running" };
        assert_eq!(status, wanted, "{point:?}");
        assert_deleted(&bundle, &traced, point);
    }
}

#[test]
fn exec() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("sleep 1000");
    bundle.start();
    let args = ["exec", bundle.id(), "true"];
    let whole = run_to(&command(&bundle, &args), None);
    assert_eq!(whole.status, 0);
    for point in points(&whole.calls) {
        let traced = run_to(&command(&bundle, &args), Some(point));
        assert_all_gone(&traced, point);
        assert_eq!(told_status(&bundle, point), "running", "{point:?}");
    }
    assert_eq!(bundle.exec("echo still here").ok(), "still here");
    bundle.runtime(["delete", "--force", bundle.id()]).ok();
    reap();
    bundle.assert_nothing_left();
}

#[test]
fn delete() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("sleep 100");
    bundle.config["hooks"] = json!({"poststop": [{"path": "/bin/true"}]});
    for args in [
        vec!["delete", bundle.id()],
        vec!["delete", "--force", bundle.id()],
    ] {
        let prepare = || {
            bundle.start();
            if args.len() == 2 {
                bundle.runtime(["kill", bundle.id(), "KILL"]).ok();
                bundle.await_status("stopped");
            }
        };
        prepare();
        let whole = run_to(&command(&bundle, &args), None);
        assert_eq!(whole.status, 0);
        bundle.assert_nothing_left();
        for point in points(&whole.calls) {
            prepare();
            let traced = run_to(&command(&bundle, &args), Some(point));
            let status = told_status(&bundle, point);
            assert!(
                ["", "stopped", "running"].contains(&status.as_str()),
                "{point:?}: {status}"
            );
            assert_deleted(&bundle, &traced, point);
        }
    }
}
