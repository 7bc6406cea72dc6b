//! What a bundle asks for is what its process finds.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use dhow_integration_tests::{Bundle, Sandbox, until, write_program};
use serde_json::{Value, json};

/// Adds a mount.
fn mount(bundle: &mut Bundle, mount: Value) {
    bundle.config["mounts"]
        .as_array_mut()
        .expect("mounts")
        .push(mount);
}

#[test]
fn the_template_is_confined() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle(
        "hostname; ls /proc/self/fd | wc -w; grep -c . /proc/kcore /proc/keys; echo x > /etc/x; \
         echo 1 > /proc/sys/kernel/panic; ip link; cat /proc/self/cgroup; mkdir /sys/fs/cgroup/x; ls /sys/firmware; \
         grep -E 'CapEff|NoNewPrivs' /proc/self/status; ps | wc -l; mknod /dev/shm/x c 1 3",
    );
    let ran = bundle.run();
    let out = ran.stdout;
    assert!(out.starts_with("dhow\n4\n"), "{out}");
    assert!(out.contains("lo: <LOOPBACK,UP,LOWER_UP>"), "{out}");
    assert!(!out.contains("eth0"), "{out}");
    assert!(out.contains("0::/\n"), "{out}");
    assert!(
        out.contains("CapEff:\t0000000020000420\nNoNewPrivs:\t1\n"),
        "{out}"
    );
    for refused in [
        "can't create /etc/x: Read-only file system",
        "can't create /proc/sys/kernel/panic: Read-only file system",
        "can't create directory '/sys/fs/cgroup/x': Read-only file system",
        "mknod: /dev/shm/x: Operation not permitted",
    ] {
        assert!(
            ran.stderr.contains(refused),
            "{refused} is not in {}",
            ran.stderr
        );
    }
    bundle.assert_nothing_left();
}

#[test]
fn user_groups_umask_cwd_and_environment() {
    let sandbox = Sandbox::new();
    let mut bundle =
        sandbox.bundle("id -u; id -g; id -G; umask; pwd; echo $HOME; env | grep -c FROM_HOST");
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["process"]["user"] =
        json!({"uid": 1000, "gid": 50, "umask": 0o77, "additionalGids": [7, 8]});
    bundle.config["process"]["cwd"] = json!("/new/place");
    bundle.write_config();
    let output = bundle
        .command(["run", bundle.id()])
        .env("FROM_HOST", "1")
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(out, "1000\n50\n50 7 8\n0077\n/new/place\n/tmp\n0\n");
    assert_eq!(
        fs_err::metadata(bundle.path("rootfs/new")).unwrap().mode() & 0o777,
        0o755
    );
}

#[test]
fn capabilities_of_a_user() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("grep Cap /proc/self/status");
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    bundle.config["process"]["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_MADE_UP"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"]
    });
    let ran = bundle.run();
    assert!(
        ran.stderr.contains("ignoring unknown capability"),
        "{}",
        ran.stderr
    );
    let bits = |name: &str| {
        let line = ran
            .stdout
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap();
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    assert_eq!(bits("CapBnd"), 0b10_0001);
    assert_eq!(bits("CapAmb"), 0b10_0000);
    assert_eq!(bits("CapEff"), 0b10_0000);
    assert_eq!(bits("CapPrm"), 0b10_0000);
    assert_eq!(bits("CapInh"), 0b10_0000);
}

#[test]
fn limits_and_scheduling_of_the_process() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle(
        "grep -E 'open files|stack' /proc/self/limits; cat /proc/self/oom_score_adj; grep -w policy /proc/self/sched || true",
    );
    bundle.config["process"]["rlimits"] = json!([
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_STACK", "soft": 1_048_576, "hard": 2_097_152}
    ]);
    bundle.config["process"]["oomScoreAdj"] = json!(500);
    let out = bundle.run().ok();
    let words: Vec<&str> = out.split_whitespace().collect();
    assert!(
        words
            .windows(4)
            .any(|w| w == ["open", "files", "100", "200"]),
        "{out}"
    );
    assert!(out.contains("\n500"), "{out}");

    // Raising above the hard limit takes a capability that may be lacking; where it is, the error says so.
    bundle.config["process"]["rlimits"] =
        json!([{"type": "RLIMIT_NPROC", "soft": u64::MAX, "hard": u64::MAX}]);
    let ran = bundle.run();
    assert!(
        ran.status == 0 || ran.stderr.contains("SetRlimit: set RLIMIT_NPROC"),
        "{}",
        ran.stderr
    );
    bundle.assert_nothing_left();
}

#[test]
fn mounts_of_all_kinds() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle(
        "cat /bound/file; echo x > /bound/new; echo y > /ro/new; cat /file; stat -c %a /scratch; cat /copied/kept; \
         ls -l /copied/link; echo z > /copied/kept; grep ' /bound ' /proc/self/mountinfo; cat /deep/new/place/file; \
         sh /noexec/script; /noexec/script",
    );
    let source = bundle.path("source");
    fs_err::create_dir_all(&source).unwrap();
    fs_err::write(source.join("file"), "content\n").unwrap();
    write_program(source.join("script"), "#!/bin/sh\necho ran\n");
    fs_err::create_dir_all(bundle.path("rootfs/copied")).unwrap();
    fs_err::write(bundle.path("rootfs/copied/kept"), "from the image\n").unwrap();
    std::os::unix::fs::symlink("kept", bundle.path("rootfs/copied/link")).unwrap();
    for name in ["bound", "ro", "scratch", "noexec"] {
        fs_err::create_dir_all(bundle.path("rootfs").join(name)).unwrap();
    }
    let src = source.display().to_string();
    for value in [
        json!({"destination": "/bound", "source": src, "options": ["bind", "rshared", "nosuid"]}),
        json!({"destination": "/ro", "type": "bind", "source": src, "options": ["rbind", "ro"]}),
        json!({"destination": "/file", "source": "source/file", "options": ["bind"]}),
        json!({"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["mode=711", "size=64k"]}),
        json!({"destination": "/copied", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "ro"]}),
        json!({"destination": "/deep/new/place", "source": src, "options": ["rbind", "rro"]}),
        json!({"destination": "/noexec", "source": src, "options": ["bind", "noexec"]}),
    ] {
        mount(&mut bundle, value);
    }
    let ran = bundle.run();
    let out = &ran.stdout;
    assert!(
        out.starts_with("content\ncontent\n711\nfrom the image\n"),
        "{out}{}",
        ran.stderr
    );
    assert!(out.contains("/copied/link -> kept"), "{out}");
    assert!(out.contains("shared:") && out.contains("nosuid"), "{out}");
    assert!(out.contains("content\nran\n"), "{out}");
    assert_eq!(fs_err::read_to_string(source.join("new")).unwrap(), "x\n");
    for refused in [
        "can't create /ro/new: Read-only file system",
        "can't create /copied/kept: Read-only file system",
        "/noexec/script: Permission denied",
    ] {
        assert!(
            ran.stderr.contains(refused),
            "{refused} is not in {}",
            ran.stderr
        );
    }
    bundle.assert_nothing_left();

    // The kernel's own words on a bad option.
    let mut bundle = sandbox.bundle("true");
    mount(
        &mut bundle,
        json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=lots"]}),
    );
    let message = bundle.run().fails(1);
    assert!(
        message.contains("mount a tmpfs at /tmp: size:"),
        "{message}"
    );
    bundle.assert_nothing_left();
}

#[test]
fn devices_sysctl_and_names() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle(
        "stat -c '%a %t %T %u' /dev/mine; stat -c %a /dev/null; readlink /dev/ptmx; cat /proc/sys/net/ipv4/ip_forward \
         /proc/sys/kernel/shm_rmid_forced; cat /proc/sys/kernel/domainname; echo a > /dev/null; head -c 3 /dev/zero | wc -c",
    );
    bundle.config["linux"]["devices"] = json!([
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 1000, "gid": 1000}
    ]);
    bundle.config["linux"]["sysctl"] =
        json!({"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"});
    bundle.config["domainname"] = json!("example");
    assert_eq!(
        bundle.run().ok(),
        "640 1 3 1000\n666\npts/ptmx\n1\n1\nexample\n3"
    );
}

#[test]
fn seccomp_refuses_and_allows() {
    let sandbox = Sandbox::new();
    for no_new_privileges in [true, false] {
        let mut bundle = sandbox.bundle("mkdir /tmp/x; grep Seccomp: /proc/self/status; echo on");
        bundle.config["root"]["readonly"] = json!(false);
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]
        });
        let ran = bundle.run();
        assert_eq!(ran.stdout, "Seccomp:\t2\non\n", "{}", ran.stderr);
        assert!(
            ran.stderr.contains("No space left on device"),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn a_user_namespace_maps_ids() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox
        .bundle("id -u; cat /proc/self/uid_map; echo x > /dev/null && touch /tmp/made; sleep 100");
    bundle.config["root"]["readonly"] = json!(false);
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user"}));
    bundle.config["linux"]["uidMappings"] =
        json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.config["linux"]["gidMappings"] =
        json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    fs_err::set_permissions(bundle.path("rootfs/tmp"), PermissionsExt::from_mode(0o777)).unwrap();
    // The way to the root must be open to the mapped user.
    fs_err::set_permissions(sandbox.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    bundle.start();
    let pid = bundle.state()["pid"].as_i64().unwrap();
    let made = bundle.path("rootfs/tmp/made");
    until("the file is made", || made.exists());
    assert_eq!(fs_err::metadata(made).unwrap().uid(), 100_000);
    assert_eq!(
        fs_err::metadata(format!("/proc/{pid}")).unwrap().uid(),
        100_000
    );
    assert_eq!(
        bundle.exec("id -u; ps | grep -c '[s]leep 100$'").ok(),
        "0\n1"
    );

    // Another container in the same user namespace, by path.
    let mut other =
        sandbox.bundle("id -u; readlink /proc/self/ns/user; readlink /proc/self/ns/net");
    let mut namespaces = bundle.config["linux"]["namespaces"].clone();
    for namespace in namespaces.as_array_mut().unwrap() {
        for (kind, name) in [("user", "user"), ("network", "net")] {
            if namespace["type"] == kind {
                namespace["path"] = json!(format!("/proc/{pid}/ns/{name}"));
            }
        }
    }
    other.config["linux"]["namespaces"] = namespaces;
    let link = |name: &str| {
        fs_err::read_link(format!("/proc/{pid}/ns/{name}"))
            .unwrap()
            .display()
            .to_string()
    };
    let out = other.run().ok();
    assert_eq!(out, format!("0\n{}\n{}", link("user"), link("net")));
    other.assert_nothing_left();
}

#[test]
fn namespaces_are_joined_by_path() {
    let sandbox = Sandbox::new();
    let first = sandbox.bundle("sleep 100");
    first.start();
    let pid = first.state()["pid"].as_i64().unwrap();
    let mut second =
        sandbox.bundle("for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n; done; ps");
    for namespace in second.config["linux"]["namespaces"].as_array_mut().unwrap() {
        for (kind, name) in [
            ("network", "net"),
            ("ipc", "ipc"),
            ("uts", "uts"),
            ("pid", "pid"),
        ] {
            if namespace["type"] == kind {
                namespace["path"] = json!(format!("/proc/{pid}/ns/{name}"));
            }
        }
    }
    let out = second.run().ok();
    let lines: Vec<&str> = out.lines().collect();
    for (line, name) in lines.iter().zip(["net", "ipc", "uts", "pid"]) {
        let link = fs_err::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_eq!(**line, link.display().to_string());
    }
    assert_ne!(
        lines[4],
        fs_err::read_link(format!("/proc/{pid}/ns/mnt"))
            .unwrap()
            .display()
            .to_string()
    );
    assert!(out.contains("sleep 100"), "{out}");
    second.assert_nothing_left();
}

#[test]
fn a_time_namespace_has_its_own_clocks() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("cat /proc/uptime");
    bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "time"}));
    bundle.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}});
    let out = bundle.run().ok();
    let uptime: f64 = out.split(' ').next().unwrap().parse().unwrap();
    assert!(uptime > 1_000_000.0, "{out}");
}

#[test]
fn hooks_run_at_their_moments() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("echo program >> /trace");
    bundle.config["root"]["readonly"] = json!(false);
    let trace = bundle.path("rootfs/trace").display().to_string();
    let hook = |name: &str, to: &str| {
        json!({"path": "/bin/sh", "args": ["sh", "-c",
               format!("read -r state; echo \"{name} $(echo $state | grep -o '\"status\":\"[a-z]*\"')\" >> {to}")],
               "env": ["PATH=/bin:/usr/bin"]})
    };
    bundle.config["hooks"] = json!({
        "prestart": [hook("prestart", &trace)],
        "createRuntime": [hook("createRuntime", &trace)],
        "createContainer": [hook("createContainer", &trace)],
        "startContainer": [hook("startContainer", "/trace")],
        "poststart": [hook("poststart", &trace)],
        "poststop": [hook("poststop", &trace)]
    });
    bundle.config["process"]["args"] = json!(["sh", "-c", "sleep 0.3; echo program >> /trace"]);
    bundle.run().ok();
    assert_eq!(
        fs_err::read_to_string(&trace).unwrap(),
        "prestart \"status\":\"creating\"\ncreateRuntime \"status\":\"creating\"\n\
         createContainer \"status\":\"creating\"\nstartContainer \"status\":\"created\"\n\
         poststart \"status\":\"running\"\nprogram\npoststop \"status\":\"stopped\"\n"
    );

    for (hook, words) in [
        (json!({"path": "/bin/false"}), "createRuntime hook #0"),
        (
            json!({"path": "/bin/sleep", "args": ["sleep", "50"], "timeout": 1}),
            "within 1 s",
        ),
        (json!({"path": "/no/such/hook"}), "No such file"),
    ] {
        bundle.config["hooks"] = json!({"createRuntime": [hook]});
        let message = bundle.run().fails(1);
        assert!(message.contains(words), "{message}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn without_a_cgroup_namespace_its_own_cgroup_is_shown() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("cat /sys/fs/cgroup/pids/pids.max; cat /proc/self/cgroup");
    bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .retain(|n| n["type"] != "cgroup");
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 33});
    let out = bundle.run().ok();
    if std::path::Path::new("/sys/fs/cgroup/pids").exists() {
        assert!(out.starts_with("33\n"), "{out}");
    }
    assert!(out.contains(bundle.id()), "{out}");
}

#[test]
fn root_propagation_and_no_pivot() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox
        .bundle("grep ' / / ' /proc/self/mountinfo || grep ' / ' /proc/self/mountinfo; ls /");
    bundle.config["linux"]["rootfsPropagation"] = json!("shared");
    let out = bundle.run().ok();
    assert!(out.contains("shared:"), "{out}");
    bundle.config["linux"]["rootfsPropagation"] = json!("private");
    let out = bundle.run().ok();
    assert!(
        !out.contains("shared:") && !out.contains("master:"),
        "{out}"
    );
    bundle.write_config();
    let out = bundle.runtime(["run", "--no-pivot", bundle.id()]).ok();
    assert!(
        out.ends_with("bin\ndev\netc\nproc\nroot\nsys\ntmp"),
        "{out}"
    );
    bundle.assert_nothing_left();
}

#[test]
fn preserved_descriptors_and_nothing_else() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("ls /proc/self/fd; cat <&3");
    bundle.write_config();
    let file = sandbox.write("passed", "through\n");
    let script = format!(
        "exec 3<{} 4</etc/hostname 9</etc/hostname; exec dhow-runtime --root {} run --preserve-fds 1 {}",
        file.display(),
        bundle.root().display(),
        bundle.id()
    );
    let programs = dhow_integration_tests::program("dhow-runtime");
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .env(
            "PATH",
            format!("{}:/bin:/usr/bin", programs.parent().unwrap().display()),
        )
        .current_dir(bundle.path(""))
        .output()
        .unwrap();
    // Number 4 is the directory that ls itself reads.
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "0\n1\n2\n3\n4\nthrough\n"
    );
}
