//! A build that fails or is killed leaves the store as it was, and no mount, cgroup or process behind.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use dhow_integration_tests::{Sandbox, until};

/// The processes that say this text in their command line or work below this directory.
fn processes_of(place: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir("/proc").unwrap().flatten() {
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        if words.contains(place) {
            found.push(words);
        }
    }
    found
}

/// The cgroups of builds, in every hierarchy.
fn cgroups() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for hierarchy in fs_err::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        for dir in [hierarchy.path(), hierarchy.path().join("dhow")] {
            let Ok(entries) = std::fs::read_dir(dir) else {
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with("build-") {
                    found.insert(entry.path().display().to_string());
                }
            }
        }
    }
    found
}

/// The ids of the sandbox's builds that are running.
fn running(sandbox: &Sandbox) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(sandbox.path("state/builds")) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("build-"))
        .collect()
}

#[track_caller]
fn assert_nothing_left(sandbox: &Sandbox, ids: &[String], marker: &str) {
    let state = sandbox.path("state");
    until("no process is left", || {
        processes_of(state.to_str().unwrap()).is_empty() && processes_of(marker).is_empty()
    });
    until("no bundle is left", || running(sandbox).is_empty());
    let left = cgroups();
    let own: Vec<&String> = left
        .iter()
        .filter(|path| ids.iter().any(|id| path.ends_with(id)))
        .collect();
    assert!(own.is_empty(), "{own:?}");
    let mounts = fs_err::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(sandbox.path("").to_str().unwrap()),
        "{mounts}"
    );
}

/// The store's own account of itself: what it has names for.
fn names(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut dirs = vec![root.join("tags")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                dirs.push(entry.path());
            } else {
                found.insert(entry.path().display().to_string());
            }
        }
    }
    found
}

#[test]
fn a_build_killed_at_any_moment_leaves_nothing() {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    let marker = format!("{}.5", 100_000 + std::process::id());
    sandbox.write("context/f", vec![b'x'; 1 << 20]);
    sandbox.dockerfile(&format!(
        "FROM busybox\nCOPY f /a\nRUN cat /a /a /a > /b\nWORKDIR /d\nRUN sleep {marker}\n"
    ));
    let before = names(&sandbox.path("root"));
    // Moments from the very beginning to the middle of the last step; the odd ones end the whole group, as a terminal does.
    for (round, delay) in [0, 1, 2, 5, 8, 12, 20, 40, 80, 300].into_iter().enumerate() {
        let mut command = sandbox.command(["build", "--no-cache", "-t", "killed"]);
        command.arg(sandbox.path("context"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        let ids = running(&sandbox);
        let pid = rustix::process::Pid::from_child(&child);
        if round % 2 == 1 {
            rustix::process::kill_process_group(pid, rustix::process::Signal::KILL).unwrap();
        } else {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert_nothing_left(&sandbox, &ids, &marker);
        assert_eq!(names(&sandbox.path("root")), before);
    }
    // And the store works as before.
    sandbox.dockerfile("FROM busybox\nRUN true\n");
    sandbox.build(["-t", "whole"]).ok();
}

#[test]
fn a_build_that_fails_leaves_nothing() {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    let before = names(&sandbox.path("root"));
    let marker = format!("{}.25", 200_000 + std::process::id());
    // A process that the command leaves behind ends with it.
    sandbox.dockerfile(&format!("FROM busybox\nRUN (sleep {marker} &) ; exit 3\n"));
    sandbox.build(["-t", "failed"]).fails(1);
    assert_nothing_left(&sandbox, &[], &marker);
    assert_eq!(names(&sandbox.path("root")), before);
}
