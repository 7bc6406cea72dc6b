//! Network interfaces that a container gets from the host: here the host is a network namespace of the test's own.

use std::process::{Command, Output};

use dhow_integration_tests::{Bundle, Sandbox, program};
use serde_json::json;

/// Runs a bundle in a new network namespace that has a pair of interfaces, `v0` with addresses and `v1`; says what interfaces
/// it has then.
fn run(bundle: &Bundle, before: &str) -> Output {
    bundle.write_config();
    let script = format!(
        "set -e\n\
         ip link add v0 type veth peer name v1\n\
         ip addr add 10.20.30.1/24 dev v0\n\
         ip addr add 10.20.30.9/24 dev v0 valid_lft 600 preferred_lft 600\n\
         ip addr add 10.20.31.8/24 dev v0 scope link\n\
         ip -6 addr add fd00:20::1/64 nodad dev v0\n\
         ip link set v0 mtu 1400 address 02:00:00:00:00:77\n\
         ip link set v0 up; ip link set v1 up\n\
         {before}\n\
         set +e\n\
         timeout 20 {} --root {} run {}\n\
         echo \"status $?\"; ip -o link",
        program("dhow-runtime").display(),
        bundle.root().display(),
        bundle.id(),
    );
    Command::new("unshare")
        .args(["--net", "sh", "-c", &script])
        .current_dir(bundle.path(""))
        .output()
        .expect("packages util-linux and iproute2")
}

#[test]
fn an_interface_moves_with_its_lasting_addresses() {
    let sandbox = Sandbox::new();
    for (name, found) in [
        (None, "v0"),
        (Some("net7"), "net7"),
        (Some("eth%d"), "eth0"),
    ] {
        let mut bundle = sandbox.bundle("ip addr; echo end");
        bundle.config["linux"]["netDevices"] = json!({"v0": {}});
        if let Some(name) = name {
            bundle.config["linux"]["netDevices"]["v0"]["name"] = json!(name);
        }
        let output = run(&bundle, "");
        let out = String::from_utf8_lossy(&output.stdout);
        let (inside, host) = out.split_once("end\n").expect("the program's end");
        assert!(host.starts_with("status 0"), "{output:?}");
        assert!(!host.contains("v0"), "it is still the host's: {host}");
        assert!(inside.contains(&format!(": {found}@")), "{inside}");
        for kept in [
            ",UP",
            "mtu 1400",
            "02:00:00:00:00:77",
            "inet 10.20.30.1/24",
            "inet6 fd00:20::1/64",
        ] {
            assert!(inside.contains(kept), "{kept} is not in {inside}");
        }
        // One for a time, and one of the link only.
        assert!(!inside.contains("10.20.30.9"), "{inside}");
        assert!(!inside.contains("10.20.31.8"), "{inside}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn what_cannot_move_is_an_error_and_stays() {
    let sandbox = Sandbox::new();
    for (devices, expected) in [
        (json!({"nosuch0": {}}), "find it"),
        (
            json!({"v0": {"name": "lo"}}),
            "already; choose another name",
        ),
        (json!({"v0": {"name": "a/b"}}), "is no name of an interface"),
        (
            json!({"v0": {"name": "a-name-that-is-too-long"}}),
            "is no name of an interface",
        ),
        (json!({"v0": {"name": "a%s"}}), "is no name of an interface"),
    ] {
        let mut bundle = sandbox.bundle("echo begun");
        bundle.config["linux"]["netDevices"] = devices;
        let output = run(&bundle, "");
        let out = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(expected), "{errors}");
        assert!(out.starts_with("status 1"), "{out}");
        assert!(out.contains(" v0@"), "{out}");
        bundle.assert_nothing_left();
    }
    // Without a namespace that it could move to.
    let mut bundle = sandbox.bundle("true");
    bundle.config["linux"]["netDevices"] = json!({"lo": {}});
    bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .retain(|namespace| namespace["type"] != "network");
    let message = bundle.run().fails(1);
    assert!(message.contains("lacks the network namespace"), "{message}");
}

#[test]
fn a_joined_namespace_gets_interfaces_too() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("ip addr; echo end");
    bundle.config["linux"]["netDevices"] = json!({"v0": {"name": "given"}});
    let mounted = sandbox.path("joined");
    for namespace in bundle.config["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "network" {
            namespace["path"] = json!(mounted);
        }
    }
    // A link of /proc's, made by the script: the namespace goes with its process.
    let before = format!(
        "unshare --net sleep 30 & joined=$!\n\
         while [ \"$(readlink /proc/$joined/ns/net)\" = \"$(readlink /proc/$$/ns/net)\" ]; do sleep 0.05; done\n\
         ln -s /proc/$joined/ns/net {}\n\
         trap 'kill $joined' EXIT",
        mounted.display()
    );
    let output = run(&bundle, &before);
    let out = String::from_utf8_lossy(&output.stdout);
    let (inside, host) = out.split_once("end\n").expect("the program's end");
    assert!(host.starts_with("status 0"), "{output:?}");
    assert!(inside.contains(": given@"), "{inside}");
    assert!(inside.contains("inet 10.20.30.1/24"), "{inside}");
}
