//! What callers reach through a container's cgroup: joining below it, statistics, updates from a document, and the drivers' refusals.

use std::path::PathBuf;

use dhow_integration_tests::{Bundle, Sandbox};
use serde_json::{Value, json};

fn limited(sandbox: &Sandbox, script: &str, resources: Value) -> Bundle {
    let mut bundle = sandbox.bundle(script);
    bundle.config["linux"]["resources"] = resources;
    bundle
}

/// The container's directory of a v1 controller, or its only one.
fn place(bundle: &Bundle, controller: &str) -> PathBuf {
    let places = bundle.cgroups();
    let named = |place: &&PathBuf| place.starts_with(format!("/sys/fs/cgroup/{controller}"));
    let found = places.iter().find(named).or(places.first());
    found.expect("a cgroup").clone()
}

fn is_hybrid() -> bool {
    std::path::Path::new("/sys/fs/cgroup/pids/cgroup.procs").exists()
}

#[test]
fn exec_joins_a_cgroup_below_the_containers() {
    let sandbox = Sandbox::new();
    let bundle = limited(&sandbox, "sleep 100", json!({"pids": {"limit": 50}}));
    bundle.start();
    let inner = place(&bundle, "pids").join("inner");
    fs_err::create_dir(&inner).expect("a cgroup");
    let argument = if is_hybrid() { "pids:inner" } else { "/inner" };
    let exec = |argument: &str| {
        let words = [
            "exec",
            "--cgroup",
            argument,
            bundle.id(),
            "cat",
            "/proc/self/cgroup",
        ];
        bundle.runtime(words)
    };
    let said = exec(argument).ok();
    assert!(said.lines().any(|line| line.ends_with("/inner")), "{said}");
    // Only that one.
    if is_hybrid() {
        let others = said.lines().filter(|line| line.ends_with("/inner"));
        assert_eq!(others.count(), 1, "{said}");
    }
    for (wrong, named) in [
        ("pids:../..", "'..'"),
        ("nonsense:inner", "nonsense"),
        ("pids:none", "none"),
    ] {
        let said = exec(wrong).fails(255);
        assert!(said.contains(named), "{wrong}: {said}");
    }
    bundle.runtime(["delete", "--force", bundle.id()]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn statistics_have_the_shape_of_runcs() {
    let sandbox = Sandbox::new();
    let limits = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 30}});
    let bundle = limited(
        &sandbox,
        "i=0; while [ $i -lt 9999 ]; do i=$((i + 1)); done; sleep 100",
        limits,
    );
    bundle.start();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let text = bundle.runtime(["events", "--stats", bundle.id()]).ok();
    let event: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(event["type"], "stats");
    assert_eq!(event["id"], bundle.id());
    let data = &event["data"];
    assert_eq!(data["pids"]["limit"], 30);
    assert_eq!(data["memory"]["usage"]["limit"], 64 << 20);
    for pointer in ["/cpu/usage/total", "/memory/usage/usage", "/pids/current"] {
        let value = data.pointer(pointer).and_then(Value::as_u64);
        assert!(value.is_some_and(|value| value > 0), "{pointer}: {data}");
    }
    assert!(data["memory"]["raw"].is_object());
    assert!(data["network_interfaces"].is_null());
    for part in ["blkio", "hugetlb", "intel_rdt", "cpuset"] {
        assert!(data[part].is_object(), "{part}: {data}");
    }
}

#[test]
fn an_update_is_taken_from_a_document() {
    let sandbox = Sandbox::new();
    let bundle = limited(
        &sandbox,
        "sleep 100",
        json!({"memory": {"limit": 64 << 20, "swap": 64 << 20}}),
    );
    bundle.start();
    let document = sandbox.path("resources.json");
    let asked = json!({
        "memory": {"limit": 96 << 20, "swap": 192 << 20, "reservation": 32 << 20},
        "cpu": {"shares": 700, "quota": 30_000, "period": 60_000},
        "pids": {"limit": 0},
    });
    fs_err::write(&document, asked.to_string()).expect("a document");
    let path = document.to_str().expect("a path in UTF-8");
    bundle
        .runtime(["update", "--resources", path, bundle.id()])
        .ok();
    let read = |controller: &str, v1: &str, v2: &str| {
        let place = place(&bundle, controller);
        let file = if is_hybrid() { v1 } else { v2 };
        fs_err::read_to_string(place.join(file))
            .expect("a cgroup file")
            .trim()
            .to_owned()
    };
    assert_eq!(
        read("memory", "memory.limit_in_bytes", "memory.max"),
        (96 << 20).to_string()
    );
    // 0 is a limit, and the process that is there stays.
    assert_eq!(read("pids", "pids.max", "pids.max"), "1");
    if is_hybrid() {
        assert_eq!(
            read("memory", "memory.memsw.limit_in_bytes", ""),
            (192 << 20).to_string()
        );
        assert_eq!(
            read("memory", "memory.soft_limit_in_bytes", ""),
            (32 << 20).to_string()
        );
        assert_eq!(read("cpu", "cpu.shares", ""), "700");
        assert_eq!(read("cpu", "cpu.cfs_quota_us", ""), "30000");
    }
}

#[test]
fn a_limit_on_processes_that_says_no_number_is_none() {
    let sandbox = Sandbox::new();
    for (limit, expected) in [
        (json!({}), "max"),
        (json!({"limit": 0}), "1"),
        (json!({"limit": -1}), "max"),
    ] {
        let bundle = limited(&sandbox, "exec sleep 100", json!({"pids": limit}));
        bundle.start();
        let file = place(&bundle, "pids").join("pids.max");
        let set = fs_err::read_to_string(file).expect("a cgroup file");
        assert_eq!(set.trim(), expected, "{limit}");
    }
}

#[test]
fn kernel_memory_is_warned_of_and_left_away() {
    let sandbox = Sandbox::new();
    let limits = json!({"memory": {"limit": 64 << 20, "kernel": 32 << 20}});
    let ran = limited(&sandbox, "echo runs", limits).run();
    assert!(
        ran.stderr.contains("memory.kernel is ignored"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.ok(), "runs");
}

#[test]
fn systemd_is_asked_for_only_where_it_is() {
    if std::path::Path::new("/run/systemd/system").is_dir() {
        // The guest of scripts/test-vm.sh shows what it does there.
        return;
    }
    let sandbox = Sandbox::new();
    let bundle = limited(&sandbox, "true", json!({}));
    bundle.write_config();
    let said = bundle
        .runtime(["--systemd-cgroup", "run", bundle.id()])
        .fails(1);
    assert!(said.contains("not booted with systemd"), "{said}");
    bundle.assert_nothing_left();
}

/// A cgroup of this test's own for memory, where its runtime is to be; gone with the test.
struct Caller(PathBuf);

impl Caller {
    fn new(id: &str) -> Self {
        let place = PathBuf::from(format!("/sys/fs/cgroup/memory/{id}-caller"));
        fs_err::create_dir(&place).expect("a cgroup");
        Self(place)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(self.0.join("relative"));
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_relative_path_is_in_the_callers_own_cgroup() {
    if !is_hybrid() {
        // On v2 alone it is beside it: the guest of scripts/test-vm.sh shows that.
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = limited(&sandbox, "cat /proc/self/cgroup", json!({}));
    let id = bundle.id().to_owned();
    let caller = Caller::new(&id);
    bundle.config["linux"]["cgroupsPath"] = json!(format!("relative/{id}"));
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut();
    // So that it sees where it is.
    namespaces
        .expect("a list")
        .retain(|namespace| namespace["type"] != "cgroup");
    bundle.write_config();
    let runtime = bundle.command(["run", &id]);
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "echo 0 >\"$0/tasks\"; exec \"$@\""])
        .arg(&caller.0)
        .arg(runtime.get_program())
        .args(runtime.get_args())
        .current_dir(bundle.path(""));
    let said = dhow_integration_tests::ran(command, b"").ok();
    let expected = format!(":memory:/{id}-caller/relative/{id}");
    assert!(said.lines().any(|line| line.ends_with(&expected)), "{said}");
    assert!(
        !caller.0.join("relative").join(&id).exists(),
        "a cgroup is left"
    );
    for top in fs_err::read_dir("/sys/fs/cgroup").expect("cgroups") {
        let own = top.expect("entry").path().join("relative");
        assert!(
            !own.join(&id).exists(),
            "{} is left",
            own.join(&id).display()
        );
        // Where this test's own cgroup is the root; only if nobody else is at work in it.
        let _ = std::fs::remove_dir(own);
    }
}
