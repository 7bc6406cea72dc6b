//! The runtime in a container of its own: with power over its part of the cgroups, without, and as a user without privileges.

use dhow_integration_tests::{Bundle, Podman, Sandbox, copy_program, program};
use serde_json::{Value, json};

/// What is between an outer container and one in it.
const ALL: [&str; 15] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_AUDIT_WRITE",
];

/// A container with the runtime at /bin/dhow-runtime and a bundle in /inner, whose configuration `inner` is.
fn outer(
    sandbox: &Sandbox,
    script: &str,
    rootless: bool,
    inner: impl FnOnce(&mut Value),
) -> Bundle {
    let mut bundle = sandbox.bundle(script);
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    for set in ["bounding", "effective", "permitted"] {
        bundle.config["process"]["capabilities"][set] = json!(ALL);
    }
    copy_program(
        program("dhow-runtime"),
        bundle.path("rootfs/bin/dhow-runtime"),
    );
    let rootfs = bundle.path("rootfs/inner/rootfs");
    for name in ["bin", "proc", "sys", "dev", "tmp"] {
        fs_err::create_dir_all(rootfs.join(name)).expect("create");
    }
    fs_err::create_dir_all(bundle.path("rootfs/run")).expect("create");
    copy_program("/bin/busybox", rootfs.join("bin/busybox"));
    for applet in ["sh", "cat", "id", "sleep", "echo", "ls"] {
        std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).expect("symlink");
    }
    let mut command = std::process::Command::new(program("dhow-runtime"));
    command
        .args(["spec", "--bundle"])
        .arg(bundle.path("rootfs/inner"));
    if rootless {
        command.arg("--rootless");
    }
    dhow_integration_tests::ran(command, b"").ok();
    let path = bundle.path("rootfs/inner/config.json");
    let mut config: Value =
        serde_json::from_slice(&fs_err::read(&path).expect("read")).expect("JSON");
    config["process"]["terminal"] = json!(false);
    inner(&mut config);
    fs_err::write(&path, config.to_string()).expect("write");
    bundle
}

/// A view of the cgroups that can be written to.
fn with_cgroups(bundle: &mut Bundle) {
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    for mount in mounts.iter_mut().filter(|mount| mount["type"] == "cgroup") {
        mount["options"] = json!(["nosuid", "noexec", "nodev"]);
    }
}

fn says(script: &'static str) -> impl FnOnce(&mut Value) {
    move |config| config["process"]["args"] = json!(["sh", "-c", script])
}

#[test]
fn a_container_in_a_container_has_limits() {
    let sandbox = Sandbox::new();
    let script = "cd /inner; dhow-runtime run one; echo status $?; \
                  dhow-runtime run --detach two >/dev/null 2>&1 </dev/null; echo $?; \
                  cat /sys/fs/cgroup/pids/two/pids.max; dhow-runtime exec two id -u; dhow-runtime pause two; \
                  dhow-runtime resume two; dhow-runtime delete --force two; \
                  echo $?; ls -d /sys/fs/cgroup/*/two 2>/dev/null; true";
    let mut bundle = outer(&sandbox, script, false, |config| {
        says(
            "id -u; cat /sys/fs/cgroup/pids/pids.max; test $$ = 1 && [ ! -e /inner ] && exec sleep 0.1",
        )(config);
        config["linux"]["resources"]["pids"] = json!({"limit": 21});
    });
    with_cgroups(&mut bundle);
    assert_eq!(bundle.run().ok(), "0\n21\nstatus 0\n0\n21\n0\n0");
    bundle.assert_nothing_left();
}

#[test]
fn limits_are_refused_where_cgroups_are_read_only() {
    let sandbox = Sandbox::new();
    let script = "cd /inner; dhow-runtime run one; dhow-runtime --rootless=true run one; echo $?";
    let bundle = outer(&sandbox, script, false, |config| {
        says("echo never")(config);
        config["linux"]["resources"] = json!({"pids": {"limit": 21}});
    });
    let ran = bundle.run();
    assert_eq!(ran.stdout, "1\n");
    assert!(
        ran.stderr.contains("Read-only file system"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr
            .contains("needs a cgroup, and this user may not make one"),
        "{}",
        ran.stderr
    );
    // Without limits there is nothing to be missed.
    let bundle = outer(
        &sandbox,
        "cd /inner; dhow-runtime --rootless=true run one",
        false,
        |config| {
            says("echo inside")(config);
            config["linux"]
                .as_object_mut()
                .expect("linux")
                .remove("resources");
        },
    );
    assert_eq!(bundle.run().ok(), "inside");
}

/// The inner container of the outer one's user 1000, who has no capabilities.
fn of_a_user(sandbox: &Sandbox, script: &str, inner: impl FnOnce(&mut Value)) -> Bundle {
    let mut bundle = outer(sandbox, script, true, |config| {
        for kind in ["uidMappings", "gidMappings"] {
            config["linux"][kind] = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
        }
        inner(config);
    });
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let none = json!([]);
    for set in ["bounding", "effective", "permitted"] {
        bundle.config["process"]["capabilities"][set] = none.clone();
    }
    bundle
}

#[test]
fn a_user_of_a_container_runs_containers() {
    let sandbox = Sandbox::new();
    let script = "cd /inner; export XDG_RUNTIME_DIR=/tmp/run; dhow-runtime run one; echo $?";
    let mut bundle = of_a_user(
        &sandbox,
        script,
        says("id -u; cat /proc/self/uid_map; echo $$"),
    );
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs_err::set_permissions(bundle.path("rootfs/tmp"), open).expect("mode");
    // A proc can be mounted only where the one that is seen is not covered in parts.
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    let said = bundle.run().ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines[0], lines[2], lines[3]), ("0", "1", "0"), "{said}");
    assert_eq!(
        lines[1].split_whitespace().collect::<Vec<_>>(),
        ["0", "1000", "1"]
    );
}

#[test]
fn a_user_of_a_container_is_told_what_is_in_the_way() {
    let sandbox = Sandbox::new();
    let script = "cd /inner; export XDG_RUNTIME_DIR=/tmp/run; dhow-runtime run one; echo $?";
    let bundle = of_a_user(&sandbox, script, says("true"));
    let open = || std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs_err::set_permissions(bundle.path("rootfs/tmp"), open()).expect("mode");
    let ran = bundle.run();
    assert_eq!(ran.stdout, "1\n");
    assert!(
        ran.stderr.contains("mount a proc") && ran.stderr.contains("covered in parts"),
        "{}",
        ran.stderr
    );
    // A filter that keeps user namespaces for those with CAP_SYS_ADMIN, as most containers have.
    let mut bundle = of_a_user(&sandbox, script, says("true"));
    fs_err::set_permissions(bundle.path("rootfs/tmp"), open()).expect("mode");
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["clone3", "unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]
    });
    let ran = bundle.run();
    assert_eq!(ran.stdout, "1\n");
    assert!(
        ran.stderr.contains("allows no new user namespaces"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_container_of_podmans_and_runcs_has_containers() {
    let sandbox = Sandbox::new();
    let name = format!("/dhow-test-{}-nested", std::process::id());
    let bundle = outer(&sandbox, "true", false, |config| {
        says("id -u; cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max")(
            config,
        );
        config["linux"]["resources"] = json!({"pids": {"limit": 17}});
        config["linux"]["cgroupsPath"] = json!(name);
    });
    let podman = Podman::with_runtime("/usr/sbin/runc".into());
    let inner = format!("{}:/inner", bundle.path("rootfs/inner").display());
    let runtime = format!("{}:/dhow-runtime:ro", program("dhow-runtime").display());
    let script = "cd /inner; /dhow-runtime run one";
    // What --privileged gives, without a limit that this machine's root cannot raise.
    let privileged = [
        "--cap-add",
        "all",
        "--security-opt",
        "seccomp=unconfined",
        "--security-opt",
        "unmask=all",
    ];
    let cgroups = [
        "--cgroupns",
        "host",
        "--volume",
        "/sys/fs/cgroup:/sys/fs/cgroup:rw",
    ];
    let volumes = ["--volume", &inner, "--volume", &runtime];
    let said = podman.run(&[&privileged[..], &cgroups, &volumes].concat(), script);
    assert_eq!(said.ok(), "0\n17");
    // With the view of cgroups that containers have.
    let words = podman
        .run(&[&privileged[..], &volumes].concat(), script)
        .fails(1);
    assert!(
        words.contains("cannot make the cgroup") && words.contains("Read-only"),
        "{words}"
    );
}
