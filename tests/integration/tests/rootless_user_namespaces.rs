//! User namespaces that root asks for: made for the container, made by others and joined by path; and what a container's root can see of
//! who enters.

use dhow_integration_tests::{Bundle, Enclosure, Sandbox};
use serde_json::{Value, json};

const FIRST: u32 = 3_000_000;

/// A user namespace of the container's own, in which the root file system is root's.
fn with_own(bundle: &mut Bundle) {
    let maps = json!([{"containerID": 0, "hostID": FIRST, "size": 65_536}]);
    bundle.config["linux"]["uidMappings"] = maps.clone();
    bundle.config["linux"]["gidMappings"] = maps;
    add_namespace(bundle, json!({"type": "user"}));
    let owner = format!("{FIRST}:{FIRST}");
    let mut command = std::process::Command::new("chown");
    command.args(["-hR", &owner]).arg(bundle.path("rootfs"));
    dhow_integration_tests::ran(command, b"").ok();
    open_ways(bundle);
}

/// Lets the namespace's root, who is nobody on the host, reach the bundle.
fn open_ways(bundle: &Bundle) {
    let place = bundle.path("..");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs_err::set_permissions(place, open).expect("mode");
}

fn namespaces(bundle: &mut Bundle) -> &mut Vec<Value> {
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut();
    namespaces.expect("namespaces")
}

/// In place of what the template has of its kind.
fn add_namespace(bundle: &mut Bundle, namespace: Value) {
    let list = namespaces(bundle);
    list.retain(|other| other["type"] != namespace["type"]);
    list.push(namespace);
}

/// /sys of the host's, since a sysfs shows a network namespace and so can only be mounted by who owns that.
fn with_sys_of_the_host(bundle: &mut Bundle) {
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    for mount in mounts
        .iter_mut()
        .filter(|mount| mount["destination"] == "/sys")
    {
        *mount = json!({"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "ro"]});
    }
}

#[test]
fn root_maps_ids_as_it_will() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle(
        "id -u; cat /proc/self/uid_map /proc/self/setgroups; touch /tmp/x; stat -c %u /tmp/x /dev/null; \
         cat /proc/sys/kernel/hostname; mount -t tmpfs x /tmp 2>&1; cat /sys/fs/cgroup/pids/pids.max",
    );
    with_own(&mut bundle);
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 33});
    let said = bundle.run().ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "0");
    let map: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(map, ["0", &FIRST.to_string(), "65536"]);
    // The node is the host's, bind-mounted: its owner has no name in here.
    assert_eq!(&lines[2..6], ["allow", "0", "65534", "dhow"]);
    assert!(
        lines[6].contains("denied") || lines[6].contains("permitted"),
        "{said}"
    );
    assert_eq!(lines[7], "33");
    bundle.assert_nothing_left();
}

#[test]
fn what_others_own_is_entered_before_the_new_namespace() {
    let sandbox = Sandbox::new();
    // Namespaces that the host's root owns.
    let enclosure = Enclosure::new(&sandbox.path(""));
    let mut holder = enclosure.command("unshare");
    let ready = sandbox.path("ready");
    let script = format!(
        "hostname joined; ip link set lo up 2>/dev/null; echo $$ > {}; exec sleep 300",
        ready.display()
    );
    holder.args(["--net", "--uts", "--ipc", "sh", "-c", &script]);
    let mut holder = holder.spawn().expect("package util-linux");
    enclosure.until("the namespaces are there", || {
        fs_err::read_to_string(&ready).is_ok_and(|text| text.ends_with('\n'))
    });
    let inner = fs_err::read_to_string(&ready).expect("pid");
    let init = enclosure
        .shell(&format!("readlink /proc/{}/ns/net", inner.trim()))
        .ok();
    let pid = std::fs::read_dir("/proc")
        .expect("processes")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|pid| {
            std::fs::read_link(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|link| link.as_os_str() == init.as_str())
        })
        .expect("the holder");
    let mut bundle = sandbox.bundle("id -u; hostname; readlink /proc/self/ns/net");
    with_own(&mut bundle);
    with_sys_of_the_host(&mut bundle);
    bundle
        .config
        .as_object_mut()
        .expect("config")
        .remove("hostname");
    for (kind, file) in [("network", "net"), ("uts", "uts"), ("ipc", "ipc")] {
        add_namespace(
            &mut bundle,
            json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")}),
        );
    }
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|mount| mount["type"] != "mqueue");
    let said = bundle.run();
    drop(enclosure);
    let _ = holder.wait();
    assert_eq!(said.ok(), format!("0\njoined\n{init}"));
}

/// A container whose user and pid namespaces another joins.
fn first(sandbox: &Sandbox, script: &str) -> (Bundle, i64) {
    let mut bundle = sandbox.bundle(script);
    with_own(&mut bundle);
    bundle.config["root"]["readonly"] = json!(false);
    let all = json!([
        "CAP_SYS_PTRACE",
        "CAP_SYS_ADMIN",
        "CAP_DAC_READ_SEARCH",
        "CAP_DAC_OVERRIDE",
        "CAP_KILL"
    ]);
    for set in ["bounding", "effective", "permitted"] {
        bundle.config["process"]["capabilities"][set] = all.clone();
    }
    bundle.start();
    let pid = bundle.state()["pid"].as_i64().expect("a pid");
    (bundle, pid)
}

fn second(sandbox: &Sandbox, pid: i64, script: &str) -> Bundle {
    let mut bundle = sandbox.bundle(script);
    with_own(&mut bundle);
    for (kind, file) in [("user", "user"), ("pid", "pid"), ("network", "net")] {
        add_namespace(
            &mut bundle,
            json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")}),
        );
    }
    let linux = bundle.config["linux"].as_object_mut().expect("linux");
    linux.remove("uidMappings");
    linux.remove("gidMappings");
    bundle
}

#[test]
fn a_user_namespace_is_joined_by_path() {
    let sandbox = Sandbox::new();
    let (one, pid) = first(&sandbox, "sleep 300");
    let mut two = second(
        &sandbox,
        pid,
        "id -u; readlink /proc/self/ns/user; cat /proc/self/oom_score_adj; test $$ != 1; echo $?",
    );
    two.config["process"]["oomScoreAdj"] = json!(500);
    let own = fs_err::read_link(format!("/proc/{pid}/ns/user")).expect("namespace");
    assert_eq!(two.run().ok(), format!("0\n{}\n500\n0", own.display()));
    assert_eq!(one.exec("id -u").ok(), "0");
    two.assert_nothing_left();
}

#[test]
fn the_first_containers_root_cannot_look_into_the_seconds_init() {
    let sandbox = Sandbox::new();
    // It has every power in the namespaces that the second one joins, and looks whenever a process appears.
    let (one, pid) = first(
        &sandbox,
        "while sleep 0.05; do for p in /proc/[0-9]*; do case ${p#/proc/} in 1|$$) continue;; esac; \
         grep -q '^PPid:.0$' $p/status 2>/dev/null || continue; \
         echo seen >> /tmp/log; \
         ls $p/root/ >> /tmp/leak 2>/dev/null; readlink $p/cwd $p/fd/* >> /tmp/leak 2>/dev/null; \
         cat $p/environ >> /tmp/leak 2>/dev/null; done; done",
    );
    // While the createRuntime hook waits for it to be seen, the second's init is there and has the host's files still.
    let mut two = second(&sandbox, pid, "true");
    let seen = format!(
        "for i in $(seq 600); do [ -s {} ] && break; sleep 0.1; done; sleep 1",
        one.path("rootfs/tmp/log").display()
    );
    two.config["hooks"] =
        json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", seen]}]});
    two.run().ok();
    let text =
        |name: &str| fs_err::read_to_string(one.path("rootfs/tmp").join(name)).unwrap_or_default();
    assert!(text("log").contains("seen"), "the watch saw no process");
    assert_eq!(text("leak"), "");
}
