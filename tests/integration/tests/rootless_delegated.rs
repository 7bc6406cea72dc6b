//! Limits for a user without privileges who has a cgroup of his own: a directory in each hierarchy that was given to him.

use std::path::PathBuf;

use dhow_integration_tests::{Sandbox, Stranger};
use serde_json::json;

/// A directory in every hierarchy, which the stranger owns. It is gone with this.
struct Delegated {
    name: String,
    places: Vec<PathBuf>,
}

impl Delegated {
    fn new() -> Self {
        let name = format!("dhow-test-{}-delegated", std::process::id());
        let top = PathBuf::from("/sys/fs/cgroup");
        let mut places: Vec<PathBuf> = vec![top.clone()];
        let entries = fs_err::read_dir(&top).expect("cgroups");
        places.extend(entries.map(|entry| entry.expect("entry").path()));
        // A hierarchy's own directory has this file; links to one and plain files do not count.
        places.retain(|place| !place.is_symlink() && place.join("cgroup.procs").is_file());
        let places: Vec<PathBuf> = places.iter().map(|place| place.join(&name)).collect();
        for place in &places {
            fs_err::create_dir(place).expect("a cgroup");
            for file in ["cpuset.mems", "cpuset.cpus"] {
                let parent = place.parent().expect("a parent").join(file);
                if let (Ok(value), true) = (std::fs::read(parent), place.join(file).exists()) {
                    fs_err::write(place.join(file), value).expect("cpuset");
                }
            }
            for file in ["", "cgroup.procs", "tasks", "cgroup.subtree_control"] {
                if place.join(file).exists() {
                    let id = Some(Stranger::ID);
                    std::os::unix::fs::chown(place.join(file), id, id).expect("chown");
                }
            }
        }
        Self { name, places }
    }

    /// A script that begins in these cgroups (v1's by the file that costs no milliseconds).
    fn inside(&self) -> String {
        self.places
            .iter()
            .map(|place| match place.join("tasks") {
                tasks if tasks.exists() => format!("echo 0 > {}; ", tasks.display()),
                _ => format!("echo 0 > {}; ", place.join("cgroup.procs").display()),
            })
            .collect()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for place in &self.places {
            // What a failed test left in it is below.
            for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
                let _ = std::fs::remove_dir(entry.path());
            }
            let _ = std::fs::remove_dir(place);
        }
    }
}

#[test]
fn limits_hold_in_a_delegated_cgroup() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::new(&sandbox);
    let delegated = Delegated::new();
    let mut bundle =
        stranger.bundle("for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; cat /proc/self/cgroup");
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/{}/container", delegated.name));
    bundle.config["linux"]["resources"] =
        json!({"pids": {"limit": 4}, "memory": {"limit": 64 << 20}});
    bundle.write_config();
    let runtime = stranger.runtime().display().to_string();
    let dir = bundle.path("");
    let script = |command: &str| {
        let id = Stranger::ID;
        format!(
            "{}cd {}; exec env XDG_RUNTIME_DIR={} setpriv --reuid {id} --regid {id} --clear-groups --inh-caps=-all {runtime} {command}",
            delegated.inside(),
            dir.display(),
            sandbox.path("run").display()
        )
    };
    let run = |command: &str| stranger.enclosure().shell(&script(command));
    // The script's own shell makes the fourth fail.
    let ran = run("run limited");
    assert!(
        ran.stderr.contains("can't fork"),
        "{} {}",
        ran.stdout,
        ran.stderr
    );
    bundle.assert_nothing_left();
    // Without a path it is in the cgroup that the user is in.
    bundle_sleeps(&mut bundle);
    run("run --detach kept >/dev/null 2>&1 </dev/null").ok();
    let limit = delegated
        .places
        .iter()
        .map(|place| place.join("kept/pids.max"))
        .find(|file| file.exists())
        .expect("a cgroup with the pids controller");
    assert_eq!(fs_err::read_to_string(limit).expect("limit").trim(), "7");
    run("pause kept").ok();
    assert!(run("state kept").ok().contains("paused"));
    run("resume kept").ok();
    run("update --pids-limit 9 kept").ok();
    run("exec kept true").ok();
    assert_eq!(run("ps -f json kept").ok().matches(',').count(), 0);
    run("delete --force kept").ok();
    for place in &delegated.places {
        assert!(!place.join("kept").exists(), "{}", place.display());
    }
}

fn bundle_sleeps(bundle: &mut dhow_integration_tests::Bundle) {
    bundle.cgroup_by_id();
    bundle.config["linux"]["resources"] = json!({"pids": {"limit": 7}});
    bundle.config["process"]["args"] = json!(["sleep", "300"]);
    bundle.write_config();
}
