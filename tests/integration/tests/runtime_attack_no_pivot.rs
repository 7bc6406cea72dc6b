//! `--no-pivot`: the host's root stays below the container's in its mount namespace. While a procfs or sysfs of the host's is in it, the
//! kernel lets whoever makes a user namespace there mount a new one, with nothing hidden in it.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::process::{Command, Stdio};

use dhow_integration_tests::attack::HOST_ONLY;
use dhow_integration_tests::{Bundle, Sandbox, ran};
use serde_json::json;

/// Tries, also by taking away what lies over it.
const ATTACK: &str = "for kind in proc sysfs; do \
     unshare -U -r -m -p -n -f mount -t $kind new /tmp/new && echo got $kind; \
     unshare -U -r -m -p -n -f sh -c \"mount -t tmpfs none /tmp; mkdir /tmp/new; mount -t $kind new /tmp/new\" && echo got $kind; \
     done 2>/tmp/said; true";

fn bundle(sandbox: &Sandbox) -> Bundle {
    let mut bundle = sandbox.bundle(ATTACK);
    fs_err::create_dir(bundle.path("rootfs/tmp/new")).unwrap();
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["linux"]["maskedPaths"] = json!(["/proc/version", "/sys/module"]);
    let sets = json!([
        "CAP_SYS_ADMIN",
        "CAP_SYS_CHROOT",
        "CAP_SETUID",
        "CAP_SETGID"
    ]);
    bundle.config["process"]["capabilities"] =
        json!({ "bounding": sets, "effective": sets, "permitted": sets });
    bundle.write_config();
    bundle
}

/// The attack works on a container whose root was moved without more ado: it would work on the runtime's.
#[test]
fn a_root_that_is_only_moved_lets_the_kernels_files_be_mounted_anew() {
    let sandbox = Sandbox::new();
    let bundle = bundle(&sandbox);
    let script = "set -e; cd \"$1\"; mount --bind . .; cd \"$1\"; \
        mount -t proc proc proc; mount --bind /dev/null proc/version; mount -t sysfs sysfs sys; mount -t tmpfs none sys/module; \
        mount --move . /; exec chroot . /bin/sh -c \"$2\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--net", "--fork"])
        .args(["--propagation", "private", "sh", "-c", script, "sh"])
        .arg(bundle.path("rootfs"))
        .arg(ATTACK)
        .env("PATH", "/bin:/usr/bin:/sbin:/usr/sbin")
        .stderr(Stdio::inherit());
    let out = ran(command, b"").ok();
    assert_eq!(out, "got proc\ngot proc\ngot sysfs\ngot sysfs");
}

#[test]
fn no_pivot_leaves_no_kernel_file_system_to_mount_anew() {
    let sandbox = Sandbox::new();
    let bundle = bundle(&sandbox);
    for how in [&["run"][..], &["run", "--no-pivot"]] {
        let out = bundle.runtime([how, &[bundle.id()]].concat()).ok();
        assert_eq!(out, "", "{how:?}");
        let said = fs_err::read_to_string(bundle.path("rootfs/tmp/said")).unwrap();
        let refused = said.matches("Operation not permitted").count();
        assert_eq!(refused, 4, "{how:?}: {said}");
    }
    bundle.assert_nothing_left();
}

/// With the power to unmount, its own root can be taken away by the container. What comes to light then is the host's root, which
/// is why pivot_root is better, but nothing of the kernel's that shows the host's processes and devices.
#[test]
fn below_the_moved_root_there_is_no_procfs() {
    let sandbox = Sandbox::new();
    // Left behind: other tests may look for it at the same time.
    fs_err::write(HOST_ONLY, "").unwrap();
    let mut bundle = bundle(&sandbox);
    bundle.config["process"]["args"] = json!(["sleep", "100"]);
    bundle.write_config();
    let said = bundle.quiet(["run", "--detach", "--no-pivot", bundle.id()]);
    said.ok();
    let pid = bundle.state()["pid"].to_string();
    // The program is the container's own, or what lies below it.
    let inside = |words: &[&str]| {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &pid, "--mount", "--"])
            .args(words);
        ran(command, b"")
    };
    let shown = inside(&["/bin/ls", "/proc/1/status", "/sys/kernel", HOST_ONLY]);
    assert!(shown.stdout.contains("/proc/1/status"), "{shown:?}");
    assert!(!shown.stdout.contains(HOST_ONLY), "{shown:?}");
    inside(&["/bin/busybox", "umount", "-l", "/"]).ok();
    assert_eq!(inside(&["/bin/ls", HOST_ONLY]).ok(), HOST_ONLY);
    assert_eq!(
        inside(&["/bin/ls", "-A", "/proc", "/sys"]).ok(),
        "/proc:\n\n/sys:"
    );
}
