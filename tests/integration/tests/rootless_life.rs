//! Containers of a user without privileges: alone with his own ids, and with those that /etc/subuid and /etc/subgid give him.

use std::os::unix::fs::MetadataExt;

use dhow_integration_tests::{Bundle, Sandbox, Stranger, until};
use serde_json::json;

/// Maps the stranger to root, and his further ids to those after it.
fn with_ranges(bundle: &mut Bundle) {
    let maps = json!([
        {"containerID": 0, "hostID": Stranger::ID, "size": 1},
        {"containerID": 1, "hostID": Stranger::FIRST, "size": Stranger::COUNT}
    ]);
    bundle.config["linux"]["uidMappings"] = maps.clone();
    bundle.config["linux"]["gidMappings"] = maps;
}

#[test]
fn one_id_needs_no_helper() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::new(&sandbox);
    let mut bundle = stranger.bundle(
        "id -u; id -g; cat /proc/self/uid_map /proc/self/setgroups | tr -s ' '; \
         echo out > /dev/null; head -c 3 /dev/zero | wc -c; hostname; touch /tmp/mine; ls -d /dev/mqueue /sys/class",
    );
    std::os::unix::fs::symlink("busybox", bundle.path("rootfs/bin/tr")).expect("symlink");
    bundle.config["root"]["readonly"] = json!(false);
    let said = bundle.run().ok();
    let map = format!(" 0 {} 1", Stranger::ID);
    let expected = format!("0\n0\n{map}\ndeny\n3\ndhow\n/dev/mqueue\n/sys/class");
    assert_eq!(said, expected);
    let made = fs_err::metadata(bundle.path("rootfs/tmp/mine")).expect("made");
    assert_eq!((made.uid(), made.gid()), (Stranger::ID, Stranger::ID));
    bundle.assert_nothing_left();
}

#[test]
fn more_ids_come_through_the_helpers() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::new(&sandbox);
    let mut bundle =
        stranger.bundle("id -u; id -g; id -G; cat /proc/self/setgroups; touch /tmp/mine");
    with_ranges(&mut bundle);
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 6]});
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs_err::set_permissions(bundle.path("rootfs/tmp"), open).expect("mode");
    assert_eq!(bundle.run().ok(), "1000\n1000\n1000 5 6\nallow");
    let made = fs_err::metadata(bundle.path("rootfs/tmp/mine")).expect("made");
    // Id 1 is the first of the range.
    let expected = Stranger::FIRST + 999;
    assert_eq!((made.uid(), made.gid()), (expected, expected));
}

#[test]
fn a_container_lives_its_life() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::new(&sandbox);
    let mut bundle = stranger.bundle("sleep 300");
    with_ranges(&mut bundle);
    bundle.start();
    bundle.await_status("running");
    assert_eq!(bundle.exec("id -u; cat /proc/1/comm").ok(), "0\nsleep");
    let as_user = [
        "exec",
        "--user",
        "1000:1000",
        "--additional-gids",
        "7",
        bundle.id(),
        "id",
        "-G",
    ];
    assert_eq!(bundle.runtime(as_user).ok(), "1000 7");
    // A nested pid namespace's processes are the container's too; exec's are no children of its init.
    let detached = ["exec", "--detach", bundle.id(), "sleep", "301"];
    bundle.quiet(detached).ok();
    let nested = [
        "exec",
        "--detach",
        "--cap",
        "CAP_SYS_ADMIN",
        bundle.id(),
        "unshare",
        "-p",
        "-f",
        "sleep",
        "302",
    ];
    bundle.quiet(nested).ok();
    let pids = || -> Vec<i32> {
        let text = bundle.runtime(["ps", "--format", "json", bundle.id()]).ok();
        serde_json::from_str(&text).expect("numbers")
    };
    // init, the two sleeps, and unshare between.
    until("all four are there", || pids().len() == 4);
    assert!(
        bundle
            .runtime(["list", "--quiet"])
            .ok()
            .contains(bundle.id())
    );
    let words = bundle.runtime(["pause", bundle.id()]).fails(1);
    assert!(words.contains("has no cgroup"), "{words}");
    let words = bundle
        .runtime(["update", "--pids-limit", "5", bundle.id()])
        .fails(1);
    assert!(words.contains("has no cgroup"), "{words}");
    bundle.runtime(["kill", "--all", bundle.id(), "KILL"]).ok();
    bundle.await_status("stopped");
    bundle.runtime(["delete", bundle.id()]).ok();
    bundle.assert_nothing_left();
}

#[test]
fn a_terminal_belongs_to_the_containers_root() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::new(&sandbox);
    let mut bundle = stranger.bundle("tty; stat -c %u /dev/pts/0; echo hello > /dev/console");
    bundle.config["process"]["terminal"] = json!(true);
    let said = bundle.run().ok().replace('\r', "");
    assert_eq!(said, "/dev/pts/0\n0\nhello");
}

#[test]
fn a_filter_is_loaded_without_privileges() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::new(&sandbox);
    for no_new_privileges in [true, false] {
        let mut bundle = stranger.bundle("mkdir /tmp/x; echo $?");
        bundle.config["root"]["readonly"] = json!(false);
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122}]
        });
        let ran = bundle.run();
        assert_eq!(ran.stdout, "1\n");
        assert!(ran.stderr.contains("quota"), "{}", ran.stderr);
    }
}

#[test]
fn a_new_network_namespace_has_loopback() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::new(&sandbox);
    let mut bundle = stranger.bundle("ip -o addr show up; cat /proc/sys/net/ipv4/ip_forward");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut();
    namespaces
        .expect("namespaces")
        .push(json!({"type": "network"}));
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    let said = bundle.run().ok();
    assert!(said.contains("127.0.0.1"), "{said}");
    assert!(said.ends_with("\n1"), "{said}");
}

#[test]
fn hooks_run_as_the_user() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::new(&sandbox);
    let mut bundle = stranger.bundle("true");
    let hook = |name: &str| {
        let file = bundle.path(format!("hook-{name}"));
        let script = format!("echo $(id -u) >> {}", file.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    bundle.config["hooks"] = json!({
        "createRuntime": hook("createRuntime"),
        "createContainer": hook("createContainer"),
        "poststop": hook("poststop")
    });
    bundle.run().ok();
    let said =
        |name: &str| fs_err::read_to_string(bundle.path(format!("hook-{name}"))).expect("hook");
    assert_eq!(said("createRuntime"), format!("{}\n", Stranger::ID));
    // In the container's namespaces the same user is root.
    assert_eq!(said("createContainer"), "0\n");
    assert_eq!(said("poststop"), format!("{}\n", Stranger::ID));
}

#[test]
fn the_runtimes_file_is_out_of_reach_without_the_power_to_mount() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::new(&sandbox);
    // His own file: the container's root is the same user, and could write to it.
    stranger.give(&stranger.runtime());
    let before = fs_err::read(stranger.runtime()).expect("read");
    let bundle = stranger.bundle("sleep 300");
    bundle.start();
    // What enters is executed from a sealed copy, so that nothing there leads to the file.
    let maps = stranger.shell(&format!(
        "{} exec {} sh -c 'sleep 1' & sleep 0.4; for p in /proc/[0-9]*; do readlink $p/exe; done; wait",
        stranger.runtime().display(),
        bundle.id()
    ));
    assert!(
        maps.stdout.contains("/memfd:dhow-runtime (deleted)"),
        "{}",
        maps.stdout
    );
    let path = stranger.runtime().display().to_string();
    assert!(
        !maps.stdout.lines().any(|line| line == path),
        "{}",
        maps.stdout
    );
    assert_eq!(fs_err::read(stranger.runtime()).expect("read"), before);
}

#[test]
fn the_cgroups_that_it_stays_in_are_shown() {
    let sandbox = Sandbox::new();
    let stranger = Stranger::new(&sandbox);
    let own = fs_err::read_dir("/sys/fs/cgroup").expect("cgroups");
    let controllers: Vec<String> = own
        .map(|entry| entry.expect("entry").path())
        .filter(|place| !place.is_symlink() && place.join("tasks").is_file())
        .filter_map(|place| place.file_name()?.to_str().map(str::to_owned))
        .collect();
    let bundle = stranger.bundle("ls /sys/fs/cgroup");
    let said = bundle.run().ok();
    assert!(!said.is_empty());
    for controller in controllers {
        assert!(said.contains(&controller), "{controller}: {said}");
    }
}
