//! Commands on the same containers from several processes at once: each answers as if they had come one after another, none
//! hangs, and nothing is left.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dhow_integration_tests::{Bundle, Sandbox, until};
use serde_json::json;

/// How many commands each of the callers gives.
const TURNS: u32 = 100;

/// The commands, and the refusals of each that somebody else's command of that moment explains.
const VERBS: &[(&[&str], &[&str])] = &[
    (&["create"], &["already exists", ENDED]),
    (&["run", "--detach"], &["already exists", ENDED]),
    (&["start"], &[GONE, "cannot start a"]),
    (&["kill", "ID", "KILL"], &[GONE, STOPPED, "in the creating"]),
    (&["kill", "ID", "TERM"], &[GONE, STOPPED, "in the creating"]),
    (&["kill", "--all", "ID", "KILL"], &[GONE]),
    (&["delete"], &[GONE, "that is not stopped"]),
    (&["delete", "--force"], &[]),
    (&["exec", "ID", "sleep", "0.02"], EXEC),
    (&["exec", "--detach", "ID", "sleep", "0.2"], EXEC),
    (&["state"], &[GONE]),
    (&["ps"], &[GONE]),
    (&["pause"], &[GONE, STOPPED, "cannot pause container"]),
    (&["resume"], &[GONE, STOPPED, "container not paused"]),
    (&["events", "--stats"], &[GONE, "is not running"]),
    (&["update", "--pids-limit", "50"], &[GONE, STOPPED]),
    (&["list"], &[]),
];

const GONE: &str = "container does not exist";
const STOPPED: &str = "container not running";
const ENDED: &str = "container init ended without a word";
const EXEC: &[&str] = &[
    GONE,
    "cannot exec in a",
    ENDED,
    "enter the container's namespaces: No such process",
    "join the cgroup: No such",
];

/// Gives one command, and sees that its answer can be.
fn command(bundle: &Bundle, number: usize) {
    let (words, refusals) = VERBS[number];
    let id = |word: &&'static str| {
        if *word == "ID" {
            bundle.id().to_owned()
        } else {
            (*word).to_owned()
        }
    };
    let mut args: Vec<String> = words.iter().map(id).collect();
    if !words.contains(&"ID") && words != ["list"] {
        args.push(bundle.id().to_owned());
    }
    // What a container of `create` writes goes nowhere; the runtime's own words come through a log of the call's own.
    let log = tempfile::NamedTempFile::new_in(bundle.path("")).unwrap();
    let status = bundle
        .command(["--log-only", "--log", log.path().to_str().unwrap()])
        .args(&args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let said = fs_err::read_to_string(log.path()).unwrap();
    // 124 is of who ends what hangs; a process that `exec` waits for may be killed.
    let refused = status.code() != Some(124) && refusals.iter().any(|words| said.contains(words));
    let killed = words[0] == "exec" && status.code() == Some(137);
    assert!(
        status.success() || killed || refused,
        "{args:?}: {status} {said}"
    );
}

/// Lets a container go on, also one that is being made: a `pause` may find the next of its name.
fn thaw(bundle: &Bundle) {
    for cgroup in bundle.cgroups() {
        // Whichever of them there is.
        let _ = std::fs::write(cgroup.join("cgroup.freeze"), "0");
        let _ = std::fs::write(cgroup.join("freezer.state"), "THAWED");
    }
}

/// Any number, but the same each time.
fn chosen(caller: u32, turn: u32) -> usize {
    let mut hasher = DefaultHasher::new();
    (caller, turn).hash(&mut hasher);
    (hasher.finish() >> 33) as usize
}

#[test]
fn commands_at_once_answer_as_one_after_another() {
    let sandbox = Sandbox::new();
    let bundles = ["sleep 0.3", "sleep 1 & sleep 0.05"].map(|script| sandbox.bundle(script));
    bundles.iter().for_each(Bundle::write_config);
    // To list what is in a directory that is not there is refused.
    fs_err::create_dir_all(bundles[0].root()).unwrap();
    let done = AtomicBool::new(false);
    let (done, bundles) = (&done, &bundles);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..6)
            .map(|caller| {
                scope.spawn(move || {
                    for turn in 0..TURNS {
                        let number = chosen(caller, turn);
                        command(&bundles[number % 2], number / 2 % VERBS.len());
                    }
                })
            })
            .collect();
        // What waits for a container that somebody has paused goes on.
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                bundles.iter().for_each(thaw);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let ended: Vec<_> = callers.into_iter().map(|caller| caller.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok), "an answer that cannot be");
    });
    for bundle in bundles {
        bundle.runtime(["delete", "--force", bundle.id()]).ok();
        bundle.assert_nothing_left();
    }
}

/// The first process of a pid namespace is there until nobody else is in it, for which each one's parent has to ask how it ended.
#[test]
fn nobody_enters_where_init_has_ended() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("sleep 100");
    bundle.start();
    let init = bundle.state()["pid"].to_string();
    let file = bundle.path("exec.pid");
    let mut executed = Command::new(bundle.program())
        .arg("--root")
        .arg(bundle.root())
        .args(["exec", "--pid-file"])
        .arg(&file)
        .args([bundle.id(), "sleep", "100"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("it is executed", || file.exists());
    let parent = nix::unistd::Pid::from_raw(executed.id().try_into().unwrap());
    nix::sys::signal::kill(parent, nix::sys::signal::SIGSTOP).unwrap();
    bundle.runtime(["kill", bundle.id(), "KILL"]).ok();
    let namespace = format!("/proc/{init}/ns/net");
    until("init has left its namespaces", || {
        std::fs::read_link(&namespace).is_err()
    });
    let refused = bundle.exec("true").fails(255);
    let words = "cannot exec in a stopped container";
    assert!(refused.contains(words), "{refused}");

    nix::sys::signal::kill(parent, nix::sys::signal::SIGCONT).unwrap();
    assert_eq!(executed.wait().unwrap().code(), Some(137));
    bundle.await_status("stopped");
    bundle.runtime(["delete", bundle.id()]).ok();
    bundle.assert_nothing_left();
}

/// Before its root is its own, a container has the host's, and so would who enters it.
#[test]
fn nobody_enters_what_is_being_made() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("sleep 100");
    let [begun, go] = ["begun", "go"].map(|name| bundle.path(name));
    let script = format!(
        "> {}; until test -e {}; do sleep 0.01; done",
        begun.display(),
        go.display()
    );
    bundle.config["hooks"] =
        json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    bundle.write_config();
    for verb in [&["create"] as &[&str], &["run", "--detach"]] {
        std::thread::scope(|scope| {
            let making = scope.spawn(|| bundle.quiet([verb, &[bundle.id()]].concat()));
            until("the hook runs", || begun.exists());
            let told = bundle.state()["status"].clone();
            let executed = bundle.exec("true");
            fs_err::write(&go, "").unwrap();
            making.join().unwrap().ok();
            assert_eq!(told, "creating", "{verb:?}");
            let refused = executed.fails(255);
            assert!(refused.contains("in a creating container"), "{refused}");
        });
        bundle.exec("true").ok();
        bundle.runtime(["delete", "--force", bundle.id()]).ok();
        for file in [&begun, &go] {
            fs_err::remove_file(file).unwrap();
        }
    }
    bundle.assert_nothing_left();
}
