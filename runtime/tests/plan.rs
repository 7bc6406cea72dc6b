//! What a configuration becomes as a list of steps, without any being carried out.

use std::path::PathBuf;

use dhow_runtime::commands::template;
use dhow_runtime::plan::{Announce, Carrier, CreateRequest, InitPlan, ProcessRequest, Step};
use dhow_runtime::spec::{Bundle, SpecError, parse};
use serde_json::{Value, json};

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
        ["JoinNamespace", "Clone"]
    );
    assert_order(
        &names(&between, Carrier::Init),
        &["AwaitIdMap", "BecomeRoot", "PivotRoot"],
    );
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
        process: bundle.process().unwrap(),
        preserve_fds: 2,
        waits: false,
        make_cwd: false,
        start_hooks: 0,
        seccomp: true,
    };
    let plan = InitPlan::exec(&request, 0, Announce::default()).unwrap();
    // The container cannot see who enters it, only who was made inside.
    assert_order(
        &names(&plan, Carrier::Intermediate),
        &["JoinCgroup", "JoinContainer"],
    );
    let names = names(&plan, Carrier::Init);
    assert_order(&names, &["NewSession", "Execute"]);
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
