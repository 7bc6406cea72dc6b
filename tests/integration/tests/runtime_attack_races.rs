//! Attacks that race with the runtime: while many containers are created over the same shared directory, somebody exchanges
//! directories for links in it as fast as the kernel lets him (CVE-2021-30465, CVE-2019-19921, CVE-2023-27561,
//! CVE-2023-28642, CVE-2024-45310, CVE-2025-31133, CVE-2025-52565, CVE-2025-52881). A race is not lost by being slow, so
//! each test also counts that the exchange was met.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dhow_integration_tests::{Bundle, Sandbox, until};
use rustix::fs::{CWD, RenameFlags};
use serde_json::json;

/// How long each race goes on.
const LONG: Duration = Duration::from_secs(4);
/// And how often at least something is done meanwhile: a machine with other work may take longer for it.
const OFTEN: u32 = 20;

/// Exchanges two names in turn while something is done again and again; gives how often.
fn while_exchanging(one: &Path, other: &Path, mut act: impl FnMut()) -> u64 {
    let stop = AtomicBool::new(false);
    let count = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Also when a test fails in between, or nobody would end.
        let _stop = StopAtEnd(&stop);
        let end = Instant::now() + LONG;
        let mut acts = 0;
        while acts < OFTEN || Instant::now() < end {
            act();
            acts += 1;
        }
    });
    count.load(Ordering::Relaxed)
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A directory of the host's that must stay as it is.
fn outside(sandbox: &Sandbox) -> PathBuf {
    let outside = sandbox.path("outside");
    fs_err::create_dir_all(outside.join("proc/self")).unwrap();
    fs_err::write(outside.join("null"), "untouched").unwrap();
    outside
}

#[track_caller]
fn assert_untouched(outside: &Path) {
    let mut names: Vec<_> = fs_err::read_dir(outside)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["null", "proc"], "something was made on the host");
    assert_eq!(fs_err::read(outside.join("null")).unwrap(), b"untouched");
    let below = fs_err::read_dir(outside.join("proc")).unwrap().count();
    assert_eq!(below, 1, "something was made on the host");
}

/// Runs it; whether it ran. Either is well, as long as the host is not touched.
fn runs(bundle: &Bundle) -> bool {
    let ran = bundle.run();
    assert!(!ran.stdout.contains("of the host"), "{}", ran.stdout);
    ran.status == 0
}

#[test]
fn mount_targets_in_a_shared_volume() {
    let sandbox = Sandbox::new();
    let outside = outside(&sandbox);
    let secret = sandbox.write("outside-secret/file", "of the host");
    let volume = sandbox.path("volume");
    for name in ["dir", "other"] {
        fs_err::create_dir_all(volume.join(name)).unwrap();
    }
    let mut bundle = sandbox.bundle("cat /volume/dir/deep/file; ls -a /volume/dir/deep; true");
    let link = volume.join("link");
    symlink(
        format!("../../../../../../../..{}", outside.display()),
        &link,
    )
    .unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/volume", "source": volume, "options": ["rbind"]}));
    mounts.push(json!({"destination": "/volume/dir/made", "type": "tmpfs", "source": "tmpfs"}));
    mounts.push(json!({"destination": "/volume/dir/a/b/c", "source": volume, "options": ["bind"]}));
    mounts.push(json!({"destination": "/volume/dir/file", "source": secret, "options": ["bind"]}));
    let (mut done, mut refused) = (0, 0);
    let exchanged = while_exchanging(&volume.join("dir"), &link, || match runs(&bundle) {
        true => done += 1,
        false => refused += 1,
    });
    println!("{exchanged} exchanges, {done} done, {refused} refused");
    assert!(exchanged > 1000 && done + refused > 10);
    assert_untouched(&outside);
    bundle.assert_nothing_left();
}

/// /proc itself is exchanged for a link to a false one in the image, so that what is written there goes elsewhere.
#[test]
fn proc_is_exchanged_for_a_link() {
    let sandbox = Sandbox::new();
    let outside = outside(&sandbox);
    let mut bundle = sandbox.bundle("true");
    let link = bundle.path("rootfs/link");
    symlink(outside.join("proc"), &link).unwrap();
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    let before = fs_err::read("/proc/sys/net/ipv4/ip_forward").unwrap();
    let (mut done, mut refused) = (0, 0);
    bundle.write_config();
    let proc = bundle.path("rootfs/proc");
    // The mount may be at the other name by now: what counts is where it was written.
    let exchanged = while_exchanging(&proc, &link, || match runs(&bundle) {
        true => done += 1,
        false => refused += 1,
    });
    println!("{exchanged} exchanges, {done} done, {refused} refused");
    assert!(exchanged > 1000 && done + refused > 10);
    assert_eq!(
        fs_err::read("/proc/sys/net/ipv4/ip_forward").unwrap(),
        before
    );
    assert_untouched(&outside);
    bundle.assert_nothing_left();
}

/// /proc is exchanged for a false one while paths in it are hidden: hidden they must be in the kernel's, wherever that is by now.
#[test]
fn masks_stay_with_the_procfs_that_was_mounted() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle(
        "for dir in /proc /false; do cd $dir; test -e version || continue; \
         test -c timer_list && echo masked || echo bare; \
         (echo x > sys/kernel/domainname) 2>/dev/null && echo writable; done; true",
    );
    bundle.config["linux"]["maskedPaths"] = json!(["/proc/timer_list"]);
    bundle.config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
    let decoy = bundle.path("rootfs/false");
    for name in ["sys/kernel", "self"] {
        fs_err::create_dir_all(decoy.join(name)).unwrap();
    }
    for name in ["timer_list", "sys/kernel/domainname"] {
        fs_err::write(decoy.join(name), "").unwrap();
    }
    bundle.write_config();
    let (mut masked, mut others) = (0, 0);
    let exchanged = while_exchanging(&bundle.path("rootfs/proc"), &decoy, || {
        let ran = bundle.run();
        for bad in ["bare", "writable"] {
            assert!(!ran.stdout.contains(bad), "{}", ran.stdout);
        }
        match ran.stdout.contains("masked") {
            true => masked += 1,
            false => others += 1,
        }
    });
    println!("{exchanged} exchanges, {masked} masked, {others} not seen or refused");
    assert!(exchanged > 1000 && masked > 0);
    bundle.assert_nothing_left();
}

/// The image's own /dev/null, /dev/console and masked directories are exchanged for links while paths are masked.
#[test]
fn masks_devices_and_console() {
    let sandbox = Sandbox::new();
    let outside = outside(&sandbox);
    let volume = sandbox.path("dev");
    fs_err::create_dir_all(volume.join("masked")).unwrap();
    fs_err::write(volume.join("masked/secret"), "of the host").unwrap();
    fs_err::write(volume.join("null"), "").unwrap();
    symlink("/proc/sys/kernel/core_pattern", volume.join("false-null")).unwrap();
    let core = fs_err::read("/proc/sys/kernel/core_pattern").unwrap();
    let mut bundle = sandbox.bundle(
        "cat /volume/masked/secret 2>/dev/null; cat /proc/keys; echo x > /dev/null; \
         echo evil > /proc/sys/kernel/core_pattern; true",
    );
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/volume", "source": volume, "options": ["rbind"]}));
    let linux = &mut bundle.config["linux"];
    linux["maskedPaths"] = json!(["/volume/masked", "/volume/null", "/proc/keys"]);
    linux["readonlyPaths"] = json!(["/proc/sys", "/volume/null"]);
    let (mut done, mut refused) = (0, 0);
    let exchanged = while_exchanging(
        &volume.join("null"),
        &volume.join("false-null"),
        || match runs(&bundle) {
            true => done += 1,
            false => refused += 1,
        },
    );
    println!("{exchanged} exchanges, {done} done, {refused} refused");
    assert!(exchanged > 1000 && done + refused > 10);
    assert_eq!(fs_err::read("/proc/sys/kernel/core_pattern").unwrap(), core);
    assert_untouched(&outside);
    bundle.assert_nothing_left();
}

/// A link is exchanged for the directory in which devices and /dev/console are made.
#[test]
fn dev_is_exchanged_for_a_link() {
    let sandbox = Sandbox::new();
    let outside = outside(&sandbox);
    let mut bundle = sandbox.bundle("true");
    bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    bundle.config["root"]["readonly"] = json!(false);
    let link = bundle.path("rootfs/link");
    symlink(
        format!("../../../../../../../..{}", outside.display()),
        &link,
    )
    .unwrap();
    let dev = bundle.path("rootfs/dev");
    let (mut done, mut refused) = (0, 0);
    let exchanged = while_exchanging(&dev, &link, || match runs(&bundle) {
        true => done += 1,
        false => refused += 1,
    });
    println!("{exchanged} exchanges, {done} done, {refused} refused");
    assert!(exchanged > 1000 && done + refused > 10);
    assert_untouched(&outside);
    bundle.assert_nothing_left();
}

/// That the way by names, which the runtime does not go, leads out: or nothing above would be proved.
#[test]
fn the_way_by_names_is_lost() {
    let sandbox = Sandbox::new();
    let outside = outside(&sandbox);
    let volume = sandbox.path("volume");
    fs_err::create_dir_all(volume.join("dir")).unwrap();
    symlink(&outside, volume.join("link")).unwrap();
    let dir = volume.join("dir");
    until("the race is lost", || {
        while_exchanging(&dir, &volume.join("link"), || {
            if !dir.is_symlink() {
                // The look is over; the link may be there now.
                let _ = std::fs::create_dir(dir.join("made"));
            }
        });
        outside.join("made").exists()
    });
}
