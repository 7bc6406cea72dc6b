//! The attacks that other runtimes fell to, tried from a bundle or from inside a container. Each must fail.

use std::os::unix::fs::symlink;

use dhow_integration_tests::Sandbox;
use serde_json::json;

/// CVE-2024-21626: a descriptor of the host's, leaked to the container or taken for its working directory.
#[test]
fn no_descriptor_and_no_directory_of_the_hosts_leaks() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("ls -l /proc/self/fd");
    let out = bundle.run().ok();
    assert!(
        !out.contains(&*bundle.root().to_string_lossy()) && !out.contains("cgroup"),
        "{out}"
    );
    for number in 3..30 {
        bundle.config["process"]["args"] = json!(["pwd"]);
        bundle.config["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
        let ran = bundle.run();
        assert_ne!(ran.status, 0, "fd {number}: {}", ran.stdout);
    }
    bundle.assert_nothing_left();

    let mut bundle = sandbox.bundle("sleep 100");
    bundle.config["root"]["readonly"] = json!(false);
    bundle.start();
    for number in 3..30 {
        // By a link of the container's own, too.
        let link = bundle.path("rootfs/link");
        let _ = std::fs::remove_file(&link);
        symlink(format!("/proc/self/fd/{number}"), &link).unwrap();
        for cwd in [format!("/proc/self/fd/{number}"), "/link".to_owned()] {
            let ran = bundle.runtime(["exec", "--cwd", &*cwd, bundle.id(), "ls", "../../.."]);
            assert!(!ran.stdout.contains("home"), "fd {number}: {}", ran.stdout);
            assert_ne!(ran.status, 0, "fd {number}: {}", ran.stdout);
        }
    }
}

/// CVE-2019-19921, CVE-2021-30465: a link in the image at the place of a mount.
#[test]
fn mounts_stay_inside_the_root() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("ls /elsewhere; true");
    let outside = sandbox.path("outside");
    fs_err::create_dir_all(&outside).unwrap();
    for link in ["away", "up"] {
        let target = match link {
            "away" => outside.display().to_string(),
            _ => format!("../../../../../../../../..{}", outside.display()),
        };
        symlink(target, bundle.path("rootfs").join(link)).unwrap();
        bundle.config["mounts"].as_array_mut().unwrap().push(json!(
            {"destination": format!("/{link}/made"), "type": "tmpfs", "source": "tmpfs"}
        ));
    }
    bundle.run().ok();
    assert_eq!(
        fs_err::read_dir(&outside).unwrap().count(),
        0,
        "something was made outside"
    );
    bundle.assert_nothing_left();

    // /proc must be where it is said to be: a link would make others write elsewhere.
    let bundle = sandbox.bundle("true");
    fs_err::remove_dir(bundle.path("rootfs/proc")).unwrap();
    fs_err::create_dir(bundle.path("rootfs/other")).unwrap();
    symlink("other", bundle.path("rootfs/proc")).unwrap();
    let message = bundle.run().fails(1);
    assert!(message.contains("links are not followed here"), "{message}");
    bundle.assert_nothing_left();
}

/// CVE-2025-31133, CVE-2025-52565: the image's own /dev/null, /dev/console or /dev/pts in the place of real ones.
#[test]
fn masks_and_console_do_not_trust_the_image() {
    let sandbox = Sandbox::new();
    let mut bundle =
        sandbox.bundle("cat /proc/keys | wc -c; echo evil > /proc/keys; cat /proc/sysrq-trigger");
    // No /dev from the mounts: the image's stands.
    bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    symlink(
        "/proc/sys/kernel/core_pattern",
        bundle.path("rootfs/dev/null"),
    )
    .unwrap();
    let before = fs_err::read("/proc/sys/kernel/core_pattern").unwrap();
    let ran = bundle.run();
    assert!(
        ran.stdout.starts_with("0\n") || ran.status != 0,
        "{}",
        ran.stdout
    );
    assert_eq!(
        fs_err::read("/proc/sys/kernel/core_pattern").unwrap(),
        before
    );
    bundle.assert_nothing_left();

    let mut bundle = sandbox.bundle("true");
    bundle.config["process"]["terminal"] = json!(true);
    bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| mount["destination"] != "/dev/pts");
    let socket = sandbox.path("console.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    bundle.write_config();
    let log = bundle
        .quiet([
            "create",
            "--console-socket",
            socket.to_str().unwrap(),
            bundle.id(),
        ])
        .fails(1);
    assert!(log.contains("/dev/pts"), "{log}");
    bundle.assert_nothing_left();
}

/// CVE-2025-52881: writes to /proc that a mount of the bundle's leads elsewhere.
#[test]
fn procfs_writes_reach_procfs() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("cat /proc/sys/net/ipv4/ip_forward; cat /target");
    let target = sandbox.write("target", "untouched\n");
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/target", "source": target, "options": ["bind", "ro"]}));
    let before = fs_err::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    assert_eq!(bundle.run().ok(), "1\nuntouched");
    assert_eq!(
        fs_err::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(),
        before
    );
    bundle.config["linux"]["sysctl"] = json!({"net/../../kernel/core_pattern": "x"});
    bundle.run().fails(1);
    bundle.assert_nothing_left();
}

/// CVE-2022-29162: capabilities that nobody asked for.
#[test]
fn nothing_is_inheritable_that_was_not_asked_for() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("sleep 100");
    bundle.start();
    let sets = bundle.runtime([
        "exec",
        "--cap",
        "CAP_NET_RAW",
        bundle.id(),
        "grep",
        "-E",
        "Cap(Inh|Amb)",
        "/proc/self/status",
    ]);
    assert_eq!(
        sets.ok(),
        "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000"
    );
}

/// The process that enters cannot be looked into by one with the container's powers, nor does it bring the host's
/// environment.
#[test]
fn exec_brings_nothing_of_the_hosts() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle("sleep 100");
    bundle.start();
    let output = bundle
        .command([
            "exec",
            bundle.id(),
            "sh",
            "-c",
            "env; cat /proc/self/cgroup; ls -l /proc/self/fd",
        ])
        .env("SECRET", "of-the-host")
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!out.contains("SECRET"), "{out}");
    assert!(out.contains("0::/\n"), "{out}");
    assert!(!out.contains("dhow-test"), "{out}");
}

/// What enters a container must have left the host behind before a process of the container can see it: with
/// CAP_SYS_PTRACE, /proc/PID/root of one that has not is the host.
#[test]
fn exec_is_seen_only_when_it_has_left_the_host() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("");
    let of_host = bundle.path("config.json");
    bundle.config["process"]["args"] = json!([
        "sh",
        "-c",
        format!(
            "while :; do for p in /proc/[0-9]*; do \
               if test -e $p/root{0} || test -e $p/cwd{0}; then echo caught >> /tmp/log; fi; \
             done; done",
            of_host.display()
        )
    ]);
    bundle.config["root"]["readonly"] = json!(false);
    let sets = json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_SYS_CHROOT"]);
    bundle.config["process"]["capabilities"] =
        json!({ "bounding": sets, "effective": sets, "permitted": sets });
    bundle.start();
    for _ in 0..20 {
        bundle.runtime(["exec", bundle.id(), "true"]).ok();
    }
    let caught = std::fs::read_to_string(bundle.path("rootfs/tmp/log")).unwrap_or_default();
    assert_eq!(caught, "");
}

/// A link that leads to nothing yet is no reason to refuse a mount, nor a way out: its end is made inside.
#[test]
fn a_file_is_mounted_where_a_link_leads_to_nothing() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("cat /etc/resolv.conf");
    fs_err::write(bundle.path("resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
    let link = bundle.path("rootfs/etc/resolv.conf");
    symlink("../../../../run/resolve/stub", link).unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({
        "destination": "/etc/resolv.conf", "type": "bind", "source": "resolv.conf", "options": ["bind", "ro"]
    }));
    assert_eq!(bundle.run().ok(), "nameserver 192.0.2.1");
    assert!(bundle.path("rootfs/run/resolve/stub").exists());
    bundle.assert_nothing_left();
}

/// The number that to the kernel says "as before" would be root.
#[test]
fn the_largest_number_is_no_user() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("id");
    bundle.config["process"]["user"]["uid"] = json!(u32::MAX);
    let ran = bundle.run();
    assert_ne!(ran.status, 0, "{}", ran.stdout);
    bundle.assert_nothing_left();
}
