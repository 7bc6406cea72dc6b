//! What cannot be had without privileges, and the words that say so: what is missing, and what to do.

use dhow_integration_tests::{Bundle, Sandbox, Stranger};
use serde_json::{Value, json};

/// The words of a run that fails, and that leaves nothing.
#[track_caller]
fn refusal(stranger: &Stranger<'_>, change: impl FnOnce(&mut Bundle)) -> String {
    let mut bundle = stranger.bundle("true");
    change(&mut bundle);
    let words = bundle.run().fails(1);
    assert_eq!(words.trim_end().lines().count(), 1, "{words}");
    bundle.assert_nothing_left();
    words
}

fn set(pointer: &'static str, value: Value) -> impl FnOnce(&mut Bundle) {
    move |bundle| {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        bundle.config.pointer_mut(parent).expect("a parent")[name] = value;
    }
}

fn ids(size: u32) -> Value {
    json!([
        {"containerID": 0, "hostID": Stranger::ID, "size": 1},
        {"containerID": 1, "hostID": Stranger::FIRST, "size": size}
    ])
}

fn without(kind: &'static str) -> impl FnOnce(&mut Bundle) {
    move |bundle| {
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut();
        namespaces
            .expect("namespaces")
            .retain(|namespace| namespace["type"] != kind);
    }
}

#[test]
fn ids_that_are_not_mapped() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::new(&sandbox);
    let words = refusal(&stranger, set("/process/user", json!({"uid": 5, "gid": 0})));
    assert!(
        words.contains("set user 5") && words.contains("linux.uidMappings"),
        "{words}"
    );
    let words = refusal(&stranger, set("/process/user", json!({"uid": 0, "gid": 5})));
    assert!(
        words.contains("set group 5") && words.contains("linux.gidMappings"),
        "{words}"
    );
    let user = json!({"uid": 0, "gid": 0, "additionalGids": [5]});
    let words = refusal(&stranger, set("/process/user", user));
    assert!(
        words.contains("set groups [5]") && words.contains("/etc/subgid"),
        "{words}"
    );
    let words = refusal(&stranger, set("/linux/uidMappings/0/containerID", json!(7)));
    assert!(
        words.contains("linux.uidMappings must map its id 0"),
        "{words}"
    );
    let words = refusal(&stranger, set("/linux/gidMappings", json!([])));
    assert!(
        words.contains("needs linux.uidMappings and linux.gidMappings"),
        "{words}"
    );
}

#[test]
fn ids_that_are_somebody_elses() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::new(&sandbox);
    let words = refusal(
        &stranger,
        set("/linux/uidMappings", ids(Stranger::COUNT + 1)),
    );
    let last = Stranger::FIRST + Stranger::COUNT;
    for part in [
        "newuidmap refused",
        "not allowed",
        "/etc/subuid",
        &last.to_string(),
    ] {
        assert!(words.contains(part), "{words}");
    }
    let words = refusal(
        &stranger,
        set("/linux/gidMappings", ids(Stranger::COUNT + 1)),
    );
    assert!(
        words.contains("newgidmap refused") && words.contains("/etc/subgid"),
        "{words}"
    );
}

#[test]
fn helpers_that_are_missing_or_powerless() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::new(&sandbox);
    let mut bundle = stranger.bundle("true");
    bundle.config["linux"]["uidMappings"] = ids(10);
    bundle.write_config();
    let run = format!(
        "{} run -b {} {}",
        stranger.runtime().display(),
        bundle.path("").display(),
        bundle.id()
    );
    let words = stranger.shell(&format!("PATH=/nowhere; {run}")).fails(1);
    assert!(words.contains("install the package uidmap"), "{words}");
    let words = stranger
        .shell(&format!("setpriv --no-new-privs {run}"))
        .fails(1);
    assert!(words.contains("no_new_privs"), "{words}");
}

#[test]
fn a_container_without_a_user_namespace() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::new(&sandbox);
    let words = refusal(&stranger, |bundle| {
        without("user")(bundle);
        let linux = bundle.config["linux"].as_object_mut().expect("linux");
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    });
    assert!(words.contains("add one to linux.namespaces"), "{words}");
}

#[test]
fn limits_without_a_cgroup() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::new(&sandbox);
    for limits in [
        json!({"pids": {"limit": 10}}),
        json!({"memory": {"limit": 100 << 20}}),
        json!({"cpu": {"shares": 512}}),
    ] {
        let words = refusal(&stranger, set("/linux/resources", limits));
        assert!(
            words.contains("needs a cgroup") && words.contains("delegated"),
            "{words}"
        );
    }
    let words = refusal(
        &stranger,
        set("/linux/cgroupsPath", json!("/dhow-test-not-mine")),
    );
    assert!(words.contains("dhow-test-not-mine"), "{words}");
    // Device rules say what cannot be had in a user namespace anyway, and tools send them always.
    let mut bundle = stranger.bundle("true");
    bundle.config["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
    bundle.run().ok();
    // Who says that he has privileges is not forgiven a cgroup that he cannot make.
    let words = bundle
        .runtime(["--rootless=false", "run", bundle.id()])
        .fails(1);
    assert!(words.contains("cannot make the cgroup"), "{words}");
}

#[test]
fn mounts_that_show_what_is_the_hosts() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::new(&sandbox);
    let words = refusal(&stranger, without("pid"));
    assert!(
        words.contains("mount a proc") && words.contains("new pid namespace"),
        "{words}"
    );
    let words = refusal(&stranger, |bundle| {
        let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
        for mount in mounts
            .iter_mut()
            .filter(|mount| mount["destination"] == "/sys")
        {
            *mount = json!({"destination": "/sys", "type": "sysfs", "source": "sysfs"});
        }
    });
    assert!(
        words.contains("mount a sysfs") && words.contains("new network namespace"),
        "{words}"
    );
    let words = refusal(&stranger, |bundle| {
        let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
        for mount in mounts.iter_mut().filter(|mount| mount["type"] == "devpts") {
            mount["options"] = json!(["newinstance", "gid=5"]);
        }
    });
    assert!(words.contains("Invalid gid '5'"), "{words}");
}

#[test]
fn what_takes_cap_sys_resource() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::new(&sandbox);
    let words = refusal(&stranger, set("/process/oomScoreAdj", json!(-900)));
    assert!(
        words.contains("oom_score_adj to -900") && words.contains("CAP_SYS_RESOURCE"),
        "{words}"
    );
    let huge = json!([{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1u64 << 40}]);
    let words = refusal(&stranger, set("/process/rlimits", huge));
    assert!(words.contains("RLIMIT_NOFILE"), "{words}");
    // Everybody may raise it.
    let mut bundle = stranger.bundle("cat /proc/self/oom_score_adj");
    bundle.config["process"]["oomScoreAdj"] = json!(900);
    assert_eq!(bundle.run().ok(), "900");
}

#[test]
fn records_in_a_place_of_somebody_elses() {
    use std::os::unix::fs::MetadataExt;
    let sandbox = Sandbox::new();
    let stranger = Stranger::new(&sandbox);
    let bundle = stranger.bundle("true");
    bundle.write_config();
    let runtime = stranger.runtime().display().to_string();
    bundle.runtime(["run", bundle.id()]).ok();
    // The sticky bit keeps it from being tidied away.
    let made = fs_err::metadata(sandbox.path("run/dhow/runtime")).expect("made");
    assert_eq!(made.mode() & 0o7777, 0o1700);
    let words = stranger
        .shell(&format!("XDG_RUNTIME_DIR=/root/none {runtime} run -b / x"))
        .fails(1);
    assert!(words.contains("XDG_RUNTIME_DIR must be"), "{words}");
    // Without that directory it is one in /tmp, which must not be one that another user made first.
    let enclosure = stranger.enclosure();
    let here = sandbox.path("").display().to_string();
    let view = format!(
        "mkdir /run/place; mount --bind {here} /run/place; mount -t tmpfs -o mode=1777 tmp /tmp"
    );
    enclosure.shell(&view).ok();
    let id = Stranger::ID;
    let list = format!(
        "env -i PATH=/usr/bin:/bin setpriv --reuid {id} --regid {id} --clear-groups /run/place/dhow-runtime list -q"
    );
    enclosure.shell(&list).ok();
    let mode = format!("stat -c %u:%a /tmp/dhow-{id}");
    assert_eq!(enclosure.shell(&mode).ok(), format!("{id}:700"));
    enclosure
        .shell(&format!("rm -r /tmp/dhow-{id}; mkdir /tmp/dhow-{id}"))
        .ok();
    let words = enclosure.shell(&list).fails(1);
    assert!(words.contains("this user alone may write to"), "{words}");
    enclosure
        .shell(&format!("rm -r /tmp/dhow-{id}; ln -s place /tmp/dhow-{id}"))
        .ok();
    enclosure.shell(&list).fails(1);
}
