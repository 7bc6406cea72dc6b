//! What a process gets of processors, memory and disks, and the labels that it runs under.

use dhow_integration_tests::{Sandbox, program};
use serde_json::{Value, json};

#[test]
fn schedulers_and_priorities() {
    let sandbox = Sandbox::new();
    let flag = "SCHED_FLAG_RESET_ON_FORK";
    for (scheduler, policy) in [
        (json!({"policy": "SCHED_OTHER", "nice": 3}), "0"),
        (json!({"policy": "SCHED_BATCH", "nice": 5}), "3"),
        (json!({"policy": "SCHED_IDLE"}), "5"),
        (
            json!({"policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 30_000_000, "period": 30_000_000, "flags": [flag]}),
            "6",
        ),
    ] {
        let mut bundle =
            sandbox.bundle("grep policy /proc/1/sched; busybox cut -d ' ' -f 19 /proc/1/stat");
        bundle.config["process"]["scheduler"] = scheduler.clone();
        let ran = bundle.run();
        let words: Vec<&str> = ran.stdout.split_whitespace().collect();
        assert_eq!(words.get(2), Some(&policy), "{scheduler}: {}", ran.stderr);
        if let Some(nice) = scheduler["nice"].as_i64() {
            assert_eq!(words.get(3), Some(&nice.to_string().as_str()));
        }
    }
    // Few kernels are built with this; those that are not say so, and do not find fault with the call.
    let mut bundle = sandbox.bundle("echo begun");
    bundle.config["process"]["scheduler"] =
        json!({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_UTIL_CLAMP_MIN"]});
    let ran = bundle.run();
    assert!(
        ran.stdout == "begun\n" || ran.stderr.contains("Operation not supported"),
        "{}",
        ran.stderr
    );
    // No kernel has this one.
    let mut bundle = sandbox.bundle("true");
    bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_ISO"});
    let message = bundle.run().fails(1);
    assert!(message.contains("SetScheduler"), "{message}");
    bundle.assert_nothing_left();
}

#[test]
fn disk_priorities_domains_and_memory_nodes() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle(
        "busybox ionice -p $$; busybox uname -m; grep -c ' bind' /proc/self/numa_maps; sleep 100",
    );
    bundle.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    bundle.config["linux"]["personality"] = json!({"domain": "LINUX32"});
    bundle.config["linux"]["memoryPolicy"] =
        json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
    bundle.config["process"]["user"]["username"] = json!("nobody-looks-at-this");
    let script = bundle.config["process"]["args"][2]
        .as_str()
        .unwrap()
        .replace("; sleep 100", "");
    bundle.config["process"]["args"][2] = json!(script);
    let out = bundle.run().ok();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "best-effort: prio 6");
    // What the same processor calls itself for 32-bit programs.
    assert_eq!(
        lines[1],
        if cfg!(target_arch = "x86_64") {
            "i686"
        } else {
            lines[1]
        }
    );
    assert_ne!(lines[2], "0");

    // Processes that are executed later are as the first.
    bundle.config["process"]["args"] = json!(["sleep", "100"]);
    bundle.start();
    let out = bundle.exec(&script).ok();
    let again: Vec<&str> = out.lines().collect();
    assert_eq!(again[..2], lines[..2]);
    assert_ne!(again[2], "0");

    let mut bundle = sandbox.bundle("true");
    bundle.config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "900"});
    let message = bundle.run().fails(1);
    assert!(message.contains("SetMemoryPolicy"), "{message}");
    bundle.assert_nothing_left();
}

#[test]
fn exec_keeps_to_the_processors_that_it_is_given() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("sleep 100");
    bundle.config["process"]["execCPUAffinity"] = json!({"initial": "0-1", "final": "0"});
    bundle.start();
    let allowed = "grep Cpus_allowed_list /proc/self/status";
    assert_eq!(bundle.exec(allowed).ok(), "Cpus_allowed_list:\t0");
    // The container's first process is where it was.
    let pid = bundle.state()["pid"].to_string();
    let status = fs_err::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let own = fs_err::read_to_string("/proc/self/status").unwrap();
    let line = |text: &str| {
        text.lines()
            .find(|line| line.starts_with("Cpus_allowed_list"))
            .unwrap()
            .to_owned()
    };
    assert_eq!(line(&status), line(&own));

    // By a document of its own.
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["sh", "-c", allowed]);
    process["execCPUAffinity"] = json!({"initial": "", "final": "1"});
    let path = bundle.path("process.json");
    fs_err::write(&path, process.to_string()).unwrap();
    let args = ["exec", "--process", path.to_str().unwrap(), bundle.id()];
    assert_eq!(bundle.runtime(args).ok(), "Cpus_allowed_list:\t1");
    process["execCPUAffinity"] = json!({"final": "8000"});
    fs_err::write(&path, process.to_string()).unwrap();
    let message = bundle.runtime(args).fails(255);
    assert!(message.contains("processor 8000"), "{message}");
}

#[test]
fn labels_that_the_kernel_cannot_give_are_refused() {
    let sandbox = Sandbox::new();
    let apparmor = fs_err::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.starts_with('Y'));
    let selinux = std::path::Path::new("/sys/fs/selinux/enforce").exists();
    let cases: [(&str, &str, Value, bool); 3] = [
        ("process", "apparmorProfile", json!("no-such"), apparmor),
        ("process", "selinuxLabel", json!("u:r:no:s0"), selinux),
        ("linux", "mountLabel", json!("u:r:no:s0"), selinux),
    ];
    for (section, name, label, enabled) in cases {
        let mut bundle = sandbox.bundle("echo begun");
        bundle.config[section][name] = label;
        let ran = bundle.run();
        // Either the machine has no such labels, or the label is none.
        assert_eq!(ran.stdout, "");
        let message = ran.fails(1);
        if !enabled {
            assert!(
                message.contains("is not enabled on this machine"),
                "{message}"
            );
            assert!(message.contains(name), "{message}");
        }
        bundle.assert_nothing_left();
    }
    let mut bundle = sandbox.bundle("echo begun");
    bundle.config["process"]["apparmorProfile"] = json!("unconfined");
    assert_eq!(bundle.run().ok(), "begun");
}

#[test]
fn caches_cannot_be_shared_out_where_there_is_no_resctrl() {
    let sandbox = Sandbox::new();
    let mounts = fs_err::read_to_string("/proc/self/mountinfo").unwrap();
    let mut bundle = sandbox.bundle("echo begun");
    bundle.config["linux"]["intelRdt"] = json!({"closID": "no-such-group"});
    let message = bundle.run().fails(1);
    let expected = match mounts.contains(" - resctrl ") {
        true => "there is no group",
        false => "no resctrl is mounted",
    };
    assert!(message.contains(expected), "{message}");
    bundle.assert_nothing_left();
}

#[test]
fn schemas_of_caches_are_changed_only_where_there_are_some() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("sleep 100");
    bundle.create().ok();
    for flag in ["--l3-cache-schema=L3:0=f", "--mem-bw-schema=MB:0=20"] {
        let message = bundle.runtime(["update", flag, bundle.id()]).fails(1);
        assert!(message.contains("has no linux.intelRdt"), "{message}");
    }
    bundle.runtime(["delete", "--force", bundle.id()]).ok();
    bundle.assert_nothing_left();
}

/// With fs.suid_dumpable=1 a change of user lets others look into the process again, which still has something of the runtime's. So it
/// hides anew, after each part of the change.
#[test]
fn who_becomes_another_user_hides_again() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("sleep 100");
    bundle.start();
    let calls = sandbox.path("calls");
    let mut command = std::process::Command::new("strace");
    command
        .args(["-f", "-e", "trace=setresuid,setresgid,prctl,execve", "-o"])
        .arg(&calls);
    command
        .arg(program("dhow-runtime"))
        .arg("--root")
        .arg(bundle.root());
    command.args(["exec", "--user", "1000:1000", bundle.id(), "true"]);
    let status = command.stdin(std::process::Stdio::null()).status();
    assert!(status.expect("package strace").success());
    let text = fs_err::read_to_string(&calls).unwrap();
    let words = |line: &str| {
        line.split_whitespace()
            .skip(1)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let lines: Vec<String> = text.lines().map(words).collect();
    for change in ["setresgid(1000", "setresuid(1000"] {
        let at = lines.iter().position(|line| line.starts_with(change));
        let next = at
            .and_then(|at| lines.get(at + 1))
            .unwrap_or_else(|| panic!("{text}"));
        assert!(
            next.starts_with("prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE)"),
            "{change}: {text}"
        );
    }
}
