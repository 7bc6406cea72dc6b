//! What a configuration becomes as a list of steps, without any being carried out.

use std::path::PathBuf;

use dhow_runtime::commands::template;
use dhow_runtime::plan::{Announce, Carrier, CreateRequest, InitPlan, ProcessRequest, Step};
use dhow_runtime::spec::{Bundle, SpecError, parse};
use serde_json::{Value, json};

/// The bundle's process as one that `exec` adds.
fn asked(bundle: &Bundle) -> ProcessRequest<'_> {
    ProcessRequest {
        process: bundle.process().expect("a process"),
        linux: bundle.linux(),
        preserve_fds: 0,
        waits: false,
        make_cwd: false,
        start_hooks: 0,
    }
}

fn bundle(config: &Value) -> Bundle {
    let text = config.to_string().into_bytes();
    Bundle {
        dir: PathBuf::from("/bundle"),
        rootfs: PathBuf::from("/bundle/rootfs"),
        spec: parse(&text, &PathBuf::from("config.json")).expect("a configuration"),
        text,
    }
}

fn plan(config: &Value) -> Result<InitPlan, SpecError> {
    let request = CreateRequest {
        id: "c".to_owned(),
        ..CreateRequest::default()
    };
    InitPlan::create(&bundle(config), &request)
}

/// The names of one carrier's steps.
fn names(plan: &InitPlan, carrier: Carrier) -> Vec<String> {
    plan.of(carrier).map(Step::name).collect()
}

/// Asserts that steps stand in this order.
#[track_caller]
fn assert_order(names: &[String], order: &[&str]) {
    let mut rest = names.iter();
    for wanted in order {
        assert!(
            rest.any(|name| name == wanted),
            "{wanted} is not at its place in {names:?}"
        );
    }
}

#[test]
fn privileges_go_last_and_the_filter_when_it_may() {
    let mut config = template(None);
    config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"});
    config["process"]["noNewPrivileges"] = json!(true);
    assert_order(
        &names(&plan(&config).unwrap(), Carrier::Init),
        &[
            "JoinCgroup",
            "UnshareCgroup",
            "IsolateMounts",
            "BindRoot",
            "Mount",
            "MakeDevice",
            "ReadonlyIfPresent",
            "MaskIfPresent",
            "ReadonlyRoot",
            "PivotRoot",
            "SendConsole",
            "AttachTerminal",
            "SetRlimit",
            "DropBounding",
            "SetUser",
            "ChangeDirectory",
            "FindProgram",
            "CloseDescriptors",
            "AwaitStart",
            "NoNewPrivileges",
            "SetCapabilities",
            "LoadSeccomp",
            "Execute",
        ],
    );
    config["process"]["noNewPrivileges"] = json!(false);
    assert_order(
        &names(&plan(&config).unwrap(), Carrier::Init),
        &["AwaitStart", "LoadSeccomp", "SetCapabilities", "Execute"],
    );
}

#[test]
fn the_record_comes_before_what_it_records() {
    assert_order(
        &names(&plan(&template(None)).unwrap(), Carrier::Parent),
        &[
            "LocateCgroup",
            "WriteRecord",
            "CreateCgroup",
            "Clone",
            "WriteRecord",
            "AwaitReady",
            "LetGo",
        ],
    );
}

#[test]
fn a_user_namespace_by_path_takes_a_process_between() {
    let mut config = template(None);
    let plain = plan(&config).unwrap();
    assert_eq!(plain.of(Carrier::Intermediate).count(), 0);
    config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "user", "path": "/proc/1/ns/user"}));
    let between = plan(&config).unwrap();
    assert_eq!(
        names(&between, Carrier::Intermediate),
        ["Hide", "JoinNamespace", "Clone"]
    );
    assert_order(
        &names(&between, Carrier::Init),
        &["JoinCgroup", "BecomeRoot", "PivotRoot"],
    );
    // A hidden process's score is for root alone to set, so it does so itself before.
    config["process"]["oomScoreAdj"] = json!(300);
    let between = plan(&config).unwrap();
    assert_eq!(
        names(&between, Carrier::Intermediate),
        ["SetOomScoreAdj", "Hide", "JoinNamespace", "Clone"]
    );
    assert!(!names(&between, Carrier::Parent).contains(&"SetOomScoreAdj".to_owned()));
}

/// In a user namespace of its own there is no power to raise a limit, nor over the host's pipes.
#[test]
fn what_takes_the_hosts_root_is_done_outside_of_a_user_namespace() {
    let mut config = template(None);
    config["process"]["terminal"] = json!(false);
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user"}));
    let ids = json!([{"containerID": 0, "hostID": 300_000, "size": 65_536}]);
    config["linux"]["uidMappings"] = ids.clone();
    config["linux"]["gidMappings"] = ids;
    let created = plan(&config).unwrap();
    let outside = rustix::process::geteuid().is_root();
    let of_init = names(&created, Carrier::Init);
    assert_ne!(of_init.contains(&"SetRlimit".to_owned()), outside);
    if outside {
        assert_order(
            &names(&created, Carrier::Parent),
            &[
                "Clone",
                "WriteIdMaps",
                "GivePipes",
                "LetGo",
                "AwaitReady",
                "SetRlimit",
                "LetGo",
            ],
        );
    }
    let bundle = bundle(&config);
    let request = asked(&bundle);
    let user = dhow_sys::namespace::USER;
    let entered = InitPlan::exec(&request, user, Announce::default(), None).unwrap();
    let of_init = names(&entered, Carrier::Init);
    assert_ne!(of_init.contains(&"SetRlimit".to_owned()), outside);
    if outside {
        assert_order(&names(&entered, Carrier::Parent), &["GivePipes", "Clone"]);
        assert_order(
            &names(&entered, Carrier::Intermediate),
            &["JoinCgroup", "SetRlimit", "JoinContainer", "Clone"],
        );
    }
}

#[test]
fn hooks_meet_where_the_specification_says() {
    let mut config = template(None);
    let hook = json!([{"path": "/bin/true"}]);
    config["hooks"] =
        json!({"createRuntime": hook, "createContainer": hook, "startContainer": hook});
    let plan = plan(&config).unwrap();
    assert_order(
        &names(&plan, Carrier::Parent),
        &["Clone", "AwaitMounts", "RunHooks", "LetGo", "AwaitReady"],
    );
    assert_order(
        &names(&plan, Carrier::Init),
        &[
            "Mount",
            "AwaitHooks",
            "RunHooks",
            "PivotRoot",
            "AwaitStart",
            "RunHooks",
            "Execute",
        ],
    );
}

#[test]
fn a_parameter_of_the_hosts_is_refused() {
    let mut config = template(None);
    config["linux"]["sysctl"] = json!({"kernel.core_pattern": "x"});
    assert!(plan(&config).is_err());
    config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    assert!(plan(&config).is_ok());
    config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .retain(|namespace| namespace["type"] != "network");
    assert!(plan(&config).is_err());
}

#[test]
fn exec_waits_for_nobody_and_mounts_nothing() {
    let bundle = bundle(&template(None));
    let request = ProcessRequest {
        preserve_fds: 2,
        ..asked(&bundle)
    };
    let plan = InitPlan::exec(&request, 0, Announce::default(), Some("_ses.c".to_owned())).unwrap();
    // The container cannot see who enters it, only who was made inside.
    assert_order(
        &names(&plan, Carrier::Intermediate),
        &["JoinCgroup", "JoinContainer"],
    );
    let names = names(&plan, Carrier::Init);
    assert_order(&names, &["NewSession", "NewKeyring", "Execute"]);
    assert!(
        !names
            .iter()
            .any(|name| name == "AwaitStart" || name == "Mount")
    );
    assert!(
        plan.of(Carrier::Init)
            .any(|step| *step == Step::CloseDescriptors { first: 5 })
    );
}

#[test]
fn a_parameter_of_a_namespace_that_is_the_hosts_is_refused() {
    let mut config = template(None);
    config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    for (path, good) in [("/proc/self/ns/net", false), ("/proc/self/ns/uts", true)] {
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            if namespace["type"] == "network" {
                namespace["path"] = json!(path);
            }
        }
        assert_eq!(plan(&config).is_ok(), good, "{path}");
    }
}

fn has(config: &Value, wanted: impl Fn(&Step) -> bool) -> bool {
    let plan = plan(config).expect("a plan");
    plan.steps().iter().any(|planned| wanted(&planned.step))
}

/// Asserts that a configuration with one value changed is refused with a word.
#[track_caller]
fn assert_refused(pointer: &str, value: Value, word: &str) {
    let mut config = template(None);
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    config.pointer_mut(parent).expect("a place")[name] = value;
    let text = config.to_string();
    let error = match parse(text.as_bytes(), &PathBuf::from("config.json"))
        .and_then(|spec| dhow_runtime::spec::check(&spec))
    {
        Err(error) => error,
        Ok(()) => plan(&config).expect_err("a refusal"),
    };
    assert!(error.to_string().contains(word), "{error}");
}

#[test]
fn scheduling_is_the_kernels_words() {
    let mut config = template(None);
    config["process"]["scheduler"] = json!({"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3,
        "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_KEEP_POLICY",
            "SCHED_FLAG_KEEP_PARAMS", "SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"]});
    config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 7});
    config["linux"]["personality"] = json!({"domain": "LINUX32"});
    config["linux"]["memoryPolicy"] =
        json!({"mode": "MPOL_INTERLEAVE", "nodes": "0,2-3", "flags": ["MPOL_F_STATIC_NODES"]});
    assert!(has(
        &config,
        |step| matches!(step, Step::SetScheduler(set) if set.policy == 6 && set.flags == 0x7f && set.period == 3)
    ));
    for wanted in [
        Step::SetIoPriority { class: 3, level: 7 },
        Step::SetPersonality { persona: 8 },
        Step::SetMemoryPolicy {
            mode: 3 | 1 << 15,
            nodes: vec![0b1101],
        },
    ] {
        assert!(has(&config, |step| *step == wanted), "{wanted}");
    }
}

#[test]
fn labels_are_asked_for_before_privileges_go() {
    let mut config = template(None);
    config["process"]["apparmorProfile"] = json!("web");
    config["process"]["selinuxLabel"] = json!("u:r:t:s0");
    assert_order(
        &names(&plan(&config).unwrap(), Carrier::Init),
        &[
            "PivotRoot",
            "SetExecLabel",
            "SetExecLabel",
            "SetUser",
            "Execute",
        ],
    );
}

#[test]
fn what_the_specification_forbids_is_refused() {
    let hook = json!({"prestart": [{"path": "/bin/true", "timeout": 0}]});
    for (pointer, value, word) in [
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}, {"type": "RLIMIT_CPU", "soft": 1, "hard": 1}]),
            "RLIMIT_CPU stands twice",
        ),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_FOO", "soft": 1, "hard": 1}]),
            "RLIMIT_FOO",
        ),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": 8}),
            "0 (first) to 7",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_OTHER", "nice": 20}),
            "-20 to 19",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_BATCH", "priority": 1}),
            "SCHED_FIFO",
        ),
        (
            "/process/scheduler",
            json!({"policy": "SCHED_RR", "runtime": 1}),
            "SCHED_DEADLINE",
        ),
        (
            "/linux/personality",
            json!({"domain": "LINUX", "flags": ["X"]}),
            "no flags yet",
        ),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_BIND"}),
            "MPOL_BIND needs nodes",
        ),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_LOCAL", "nodes": "0"}),
            "MPOL_LOCAL takes no nodes",
        ),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_BIND", "nodes": "3-1"}),
            "ends before it begins",
        ),
        ("/hooks", hook, "greater than zero"),
    ] {
        assert_refused(pointer, value, word);
    }
}

#[test]
fn exec_keeps_to_processors_before_and_after_the_cgroup() {
    let mut config = template(None);
    config["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0-1"});
    let bundle = bundle(&config);
    let request = asked(&bundle);
    let exec = InitPlan::exec(&request, 0, Announce::default(), Some("_ses.c".to_owned())).unwrap();
    assert_order(&names(&exec, Carrier::Parent), &["SetCpuAffinity", "Clone"]);
    assert_order(
        &names(&exec, Carrier::Intermediate),
        &["JoinCgroup", "SetCpuAffinity", "JoinContainer"],
    );
    // And in the container's group of caches, if it has one.
    let mut linux = bundle.linux().cloned().expect("a Linux section");
    let group = serde_json::from_value(json!({"schemata": ["L3:0=f"]})).expect("a group");
    linux.set_intel_rdt(Some(group));
    let exec = exec.in_resctrl(Some(&linux), "c").expect("a plan");
    assert_order(
        &names(&exec, Carrier::Parent),
        &["Clone", "JoinResctrl", "LetGo", "AwaitProgram"],
    );
    // What it made before would not be in it.
    assert_eq!(names(&exec, Carrier::Init)[0], "AwaitResctrl");
    // It says nothing of a container's first process.
    assert!(!has(&config, |step| matches!(
        step,
        Step::SetCpuAffinity { .. }
    )));
}

#[test]
fn a_filter_that_asks_hands_its_listener_over() {
    let mut config = template(None);
    config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/s",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
    assert_order(
        &names(&plan(&config).unwrap(), Carrier::Init),
        &["AwaitStart", "LoadSeccomp", "SendSeccompFd", "Execute"],
    );
}

/// Others in the pid namespace see init only when it has nothing of the host's left, where the kernel makes that possible.
#[test]
fn a_pid_namespace_of_others_is_entered_when_the_host_is_left() {
    let mut config = template(None);
    for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "pid" {
            namespace["path"] = json!("/proc/1/ns/pid");
        }
    }
    let last = plan(&config).unwrap();
    if !rustix::process::geteuid().is_root()
        || names(&last, Carrier::Parent).contains(&"EnterPidNamespace".to_owned())
    {
        // Before Linux 6.17, and without privileges.
        return;
    }
    assert_order(
        &names(&last, Carrier::Intermediate),
        &[
            "Hide",
            "JoinNamespace",
            "JoinCgroup",
            "Mount",
            "PivotRoot",
            "Clone",
        ],
    );
    assert_order(
        &names(&last, Carrier::Init),
        &["NewSession", "DropBounding", "AwaitStart", "Execute"],
    );
    // Hooks are to know init from the beginning.
    config["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}]});
    let first = plan(&config).unwrap();
    assert_order(
        &names(&first, Carrier::Parent),
        &["EnterPidNamespace", "Clone", "RunHooks"],
    );
    assert_eq!(first.of(Carrier::Intermediate).count(), 0);
}

#[test]
fn other_namespaces_are_looked_up_before_the_mounts_are_anothers() {
    let mut config = template(None);
    config["linux"]["namespaces"] = json!([
        { "type": "mount", "path": "/proc/1/ns/mnt" },
        { "type": "network", "path": "/proc/1/ns/net" },
        { "type": "pid" },
        { "type": "uts" },
    ]);
    let plan = plan(&config).unwrap();
    let joined: Vec<String> = plan
        .of(Carrier::Init)
        .filter(|step| matches!(step, Step::JoinNamespace { .. }))
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        joined,
        [
            "JoinNamespace net /proc/1/ns/net",
            "JoinNamespace mnt /proc/1/ns/mnt"
        ]
    );
}
