//! Many containers at a time: each exit status is its own, nothing is left, nothing hangs. `DHOW_TEST_ALL=1` runs 5,000.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use dhow_integration_tests::{Bundle, Sandbox};
use serde_json::json;

/// How many run at a time.
const AT_A_TIME: usize = 64;

/// Bundles whose programs end in different ways, with what the runtime is to say.
fn bundles(sandbox: &Sandbox) -> Vec<(Bundle, i32, String)> {
    [
        ("true", 0, ""),
        ("exit 42", 42, ""),
        ("kill -TERM $$", 0, ""),
        ("echo out; exit 7", 7, "out\n"),
        ("(sleep 100 &); sh -c 'kill -KILL $$'; exit 3", 3, ""),
        ("exec /no/such/program 2>/dev/null", 127, ""),
    ]
    .into_iter()
    .map(|(script, status, out)| {
        let mut bundle = sandbox.bundle(script);
        // Each container has the cgroup of its id.
        bundle.cgroup_by_id();
        bundle.write_config();
        (bundle, status, out.to_owned())
    })
    .collect()
}

/// The cgroups below this process's own, in each hierarchy, whose name begins so.
fn cgroups(prefix: &str) -> Vec<PathBuf> {
    let own = fs_err::read_to_string("/proc/self/cgroup").unwrap();
    let paths: BTreeSet<&str> = own
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .chain(["/"])
        .collect();
    let mut hierarchies = vec![PathBuf::from("/sys/fs/cgroup")];
    for entry in fs_err::read_dir("/sys/fs/cgroup").unwrap() {
        hierarchies.push(entry.unwrap().path());
    }
    let mut found = Vec::new();
    for hierarchy in hierarchies {
        for path in &paths {
            let dir = hierarchy.join(path.trim_start_matches('/'));
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            found.extend(
                entries
                    .map(|entry| entry.path())
                    .filter(|path| is_named(path, prefix)),
            );
        }
    }
    found
}

fn is_named(path: &Path, prefix: &str) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
}

/// The mounts and processes of a place.
fn mounts_and_processes(place: &str) -> Vec<String> {
    let mounts = fs_err::read_to_string("/proc/self/mountinfo").unwrap();
    let mut found: Vec<String> = mounts
        .lines()
        .filter(|line| line.contains(place))
        .map(str::to_owned)
        .collect();
    for entry in fs_err::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let Ok(root) = std::fs::read_link(entry.path().join("root")) else {
            continue;
        };
        let cmdline = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let cmdline = String::from_utf8_lossy(&cmdline).replace('\0', " ");
        if root.starts_with(place) || cmdline.contains(place) {
            found.push(format!("{pid} {cmdline}"));
        }
    }
    found
}

#[test]
fn every_status_is_right_and_nothing_is_left() {
    let count = match std::env::var_os("DHOW_TEST_ALL") {
        Some(_) => 5000,
        None => 500,
    };
    let sandbox = Sandbox::new();
    let bundles = bundles(&sandbox);
    let next = AtomicUsize::new(0);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let (bundle, status, out) = &bundles[number % bundles.len()];
                    let id = format!("{}-{number}", bundle.id());
                    // It is ended by force, with another status, when it hangs.
                    let ran = bundle.runtime(["run", &id]);
                    assert_eq!(ran.status, *status, "{id}: {}", ran.stderr);
                    assert_eq!(ran.stdout, *out, "{id}");
                }
            });
        }
    });
    println!("{count} in {:?}", begin.elapsed());
    let root = bundles[0].0.root().to_owned();
    assert_eq!(fs_err::read_dir(&root).unwrap().count(), 0, "records");
    let prefix = format!("dhow-test-{}-", std::process::id());
    assert_eq!(cgroups(&prefix), Vec::<PathBuf>::new());
    let place = sandbox.path("");
    let left = mounts_and_processes(place.to_str().unwrap());
    assert_eq!(left, Vec::<String>::new());
}

/// That the look for what is left would find it.
#[test]
fn what_is_left_would_be_seen() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("sleep 100");
    bundle.cgroup_by_id();
    bundle.config["process"]["args"] = json!(["sleep", "100"]);
    bundle.create().ok();
    assert_ne!(cgroups(bundle.id()), Vec::<PathBuf>::new());
    let place = sandbox.path("");
    // Its init is still the runtime, which was told the place.
    let seen = mounts_and_processes(place.to_str().unwrap());
    assert_ne!(seen, Vec::<String>::new());
}
