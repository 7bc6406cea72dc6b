//! CVE-2019-5736 and its kin: a container writes over the runtime's program, which it sees in /proc while a process of the
//! runtime's enters or while it is made to execute the runtime itself.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dhow_integration_tests::attack::{Attacker, victim};
use dhow_integration_tests::{
    Bundle, PATIENCE, Sandbox, copy_program, program, ran, write_program,
};
use rustix::fs::{CWD, Mode, OFlags};
use serde_json::json;

fn runtime(path: &Path, bundle: &Bundle, args: &[&str]) {
    let status = Command::new("timeout")
        .arg("20")
        .arg(path)
        .arg("--root")
        .arg(bundle.root())
        .args(args)
        .current_dir(bundle.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_ne!(status.code(), Some(124), "{args:?} hangs");
}

/// A program in the container whose interpreter is whoever executes it.
fn set_trap(bundle: &Bundle) {
    let trap = bundle.path("rootfs/bin/trap");
    write_program(&trap, "#!/proc/self/exe\n");
}

/// Does something until the attacker has had the runtime's file in its hands, and for a while after.
fn until_caught(attacker: &Attacker, mut act: impl FnMut()) {
    let end = Instant::now() + PATIENCE;
    while !attacker.has_come_to("caught") {
        assert!(
            Instant::now() < end,
            "the runtime is never seen: nothing is proved"
        );
        act();
    }
    for _ in 0..10 {
        act();
    }
    // Nobody executes it any more now.
    std::thread::sleep(Duration::from_millis(200));
}

#[track_caller]
fn assert_unharmed(attacker: &Attacker, copy: &Path, before: &[u8]) {
    let log = attacker.log();
    assert!(fs_err::read(copy).unwrap() == before, "written over: {log}");
    for bad in ["overwritten", "remounted", "made writable"] {
        assert!(!attacker.has_come_to(bad), "{log}");
    }
}

/// Executes a program (sleep) where the attacker sees it, without any care. Who brings it there is a copy as well: it would be
/// written over as it is seen.
fn enter(sandbox: &Sandbox, attacker: &Attacker, program: &Path) {
    let nsenter = sandbox.path("nsenter");
    copy_program("/usr/bin/nsenter", &nsenter);
    let status = Command::new(nsenter)
        .args(["--target", &attacker.pid().to_string(), "--pid", "--"])
        .arg(program)
        .arg("3")
        .status()
        .unwrap();
    assert!(status.success());
}

/// The attack works on a program that is not protected: were the runtime not, the tests below would fail.
#[test]
fn an_unprotected_program_is_overwritten() {
    let sandbox = Sandbox::new();
    let attacker = Attacker::start(&sandbox);
    let (copy, before) = victim(&sandbox, Path::new("/bin/sleep"));
    enter(&sandbox, &attacker, &copy);
    assert!(attacker.comes_to("overwritten"), "{}", attacker.log());
    assert!(fs_err::read(&copy).unwrap() != before);
    // It sees what such a process brings along, too.
    assert!(attacker.has_come_to("host"), "{}", attacker.log());
    assert!(attacker.has_come_to("traced"), "{}", attacker.log());
}

/// A read-only mount that somebody holds in a namespace of its own is no protection.
#[test]
fn a_held_mount_is_made_writable() {
    let sandbox = Sandbox::new();
    let attacker = Attacker::start(&sandbox);
    let (copy, before) = victim(&sandbox, Path::new("/bin/sleep"));
    let flags = rustix::mount::OpenTreeFlags::OPEN_TREE_CLONE;
    let tree = rustix::mount::open_tree(CWD, &copy, flags).unwrap();
    let change = dhow_sys::mount::Attributes {
        set: dhow_sys::mount::ATTR_RDONLY,
        ..Default::default()
    };
    dhow_sys::mount::set_attributes(std::os::fd::AsFd::as_fd(&tree), &change, false).unwrap();
    let held = format!("/proc/{}/fd/{}", std::process::id(), tree.as_raw_fd());
    enter(&sandbox, &attacker, Path::new(&held));
    for step in ["made writable", "overwritten"] {
        assert!(attacker.comes_to(step), "{}", attacker.log());
    }
    assert!(fs_err::read(&copy).unwrap() != before);
}

/// A descriptor of a file that the next program can execute.
fn held(file: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        file.as_raw_fd()
    ))
}

/// So the monitor holds only the file, on a mount in no namespace: nobody can change it.
#[test]
fn a_held_sealed_file_is_not() {
    let sandbox = Sandbox::new();
    let attacker = Attacker::start(&sandbox);
    let (copy, before) = victim(&sandbox, &program("dhow-runtime"));
    let file = dhow_sys::sealed::open(&copy).unwrap();
    set_trap(&attacker.bundle);
    until_caught(&attacker, || {
        let args = ["exec", attacker.bundle.id(), "/bin/trap", "features"];
        runtime(&held(&file), &attacker.bundle, &args);
    });
    assert_unharmed(&attacker, &copy, &before);
}

/// A file that is mounted over another: a layer of the directory has the other, which nobody meant.
#[test]
fn what_lies_below_a_mounted_program_is_not_taken_for_it() {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    let mounted = sandbox.write("mounted", "");
    let wrapper = sandbox.write("run.sh", "mount --bind \"$1\" \"$2\"; shift 2; exec \"$@\"");
    let run = sandbox.command([
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "echo",
        "said",
    ]);
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-e"])
        .arg(wrapper)
        .arg(program("dhow-runtime"))
        .arg(&mounted)
        .arg(run.get_program())
        .args(run.get_args());
    for (name, value) in run.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.env("DHOW_RUNTIME", &mounted);
    assert_eq!(ran(command, b"").ok(), "said");
}

/// How often a program of the host's cannot be executed, of so many times, or until it is seen once.
fn is_kept_from_running(program: &Path, times: u32) -> bool {
    (0..times).any(|_| {
        let ended = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ExecutableFileBusy)
    })
}

/// Who has a file in its hands through a read-only mount cannot write to it, but while it tries, nobody can execute it: the attack
/// that the next test is about works.
#[test]
fn a_read_only_mount_does_not_keep_a_program_free() {
    let sandbox = Sandbox::new();
    let attacker = Attacker::start(&sandbox);
    let (copy, _) = victim(&sandbox, Path::new("/bin/sleep"));
    let flags = rustix::mount::OpenTreeFlags::OPEN_TREE_CLONE;
    let tree = rustix::mount::open_tree(CWD, &copy, flags).unwrap();
    let change = dhow_sys::mount::Attributes {
        set: dhow_sys::mount::ATTR_RDONLY,
        ..Default::default()
    };
    dhow_sys::mount::set_attributes(std::os::fd::AsFd::as_fd(&tree), &change, false).unwrap();
    let file = rustix::fs::open(held(&tree), OFlags::PATH, Mode::empty()).unwrap();
    drop(tree);
    fs_err::write(attacker.bundle.path("rootfs/tmp/hammer"), "").unwrap();
    enter(&sandbox, &attacker, &held(&file));
    assert!(attacker.has_come_to("caught"), "{}", attacker.log());
    let end = Instant::now() + PATIENCE;
    while !is_kept_from_running(&copy, 100) {
        assert!(Instant::now() < end, "never busy: {}", attacker.log());
    }
}

#[test]
fn a_container_does_not_keep_the_runtime_from_running() {
    let sandbox = Sandbox::new();
    let attacker = Attacker::start(&sandbox);
    let (copy, before) = victim(&sandbox, &program("dhow-runtime"));
    set_trap(&attacker.bundle);
    let enter = || {
        let args = ["exec", attacker.bundle.id(), "/bin/trap", "features"];
        runtime(&copy, &attacker.bundle, &args);
    };
    until_caught(&attacker, enter);
    fs_err::write(attacker.bundle.path("rootfs/tmp/hammer"), "").unwrap();
    assert!(!is_kept_from_running(&copy, 3000), "{}", attacker.log());
    assert_unharmed(&attacker, &copy, &before);
}

#[test]
fn exec_does_not_give_the_runtime_away() {
    let sandbox = Sandbox::new();
    let attacker = Attacker::start(&sandbox);
    let (copy, before) = victim(&sandbox, &program("dhow-runtime"));
    set_trap(&attacker.bundle);
    until_caught(&attacker, || {
        let id = attacker.bundle.id();
        runtime(&copy, &attacker.bundle, &["exec", id, "/bin/true"]);
        // The interpreter of the script is the runtime that executes it.
        runtime(
            &copy,
            &attacker.bundle,
            &["exec", id, "/bin/trap", "features"],
        );
    });
    assert_unharmed(&attacker, &copy, &before);
}

/// Where no overlay can be mounted (Linux before 5.2, a filter of system calls), a sealed copy in memory is executed.
#[test]
fn the_copy_in_memory_is_not_given_away_either() {
    let sandbox = Sandbox::new();
    let attacker = Attacker::start(&sandbox);
    let (copy, before) = victim(&sandbox, &program("dhow-runtime"));
    set_trap(&attacker.bundle);
    until_caught(&attacker, || {
        let id = attacker.bundle.id();
        for script in [&["/bin/true"][..], &["/bin/trap", "features"]] {
            let status = Command::new("timeout")
                .arg("20")
                .arg(program("dhow-test-older-kernel"))
                .args(["fsopen", "--"])
                .arg(&copy)
                .arg("--root")
                .arg(attacker.bundle.root())
                .args(["exec", id])
                .args(script)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            assert_ne!(status.code(), Some(124), "{script:?} hangs");
        }
    });
    let log = attacker.log();
    // It was the copy that it has had in its hands.
    assert!(log.contains("program /memfd:dhow-runtime"), "{log}");
    assert_unharmed(&attacker, &copy, &before);
}

#[test]
fn create_beside_an_attacker_does_not_give_the_runtime_away() {
    let sandbox = Sandbox::new();
    let attacker = Attacker::start(&sandbox);
    let (copy, before) = victim(&sandbox, &program("dhow-runtime"));
    let mut bundle = sandbox.bundle("true");
    join_pid_namespace(&mut bundle, attacker.pid());
    set_trap(&bundle);
    bundle.config["process"]["args"] = json!(["/bin/trap", "features"]);
    bundle.write_config();
    until_caught(&attacker, || runtime(&copy, &bundle, &["run", bundle.id()]));
    assert_unharmed(&attacker, &copy, &before);
}

fn join_pid_namespace(bundle: &mut Bundle, pid: i64) {
    for namespace in bundle.config["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "pid" {
            namespace["path"] = json!(format!("/proc/{pid}/ns/pid"));
        }
    }
}

/// A host whose programs are on a read-only mount makes it writable for an upgrade, while a container still has the file.
#[test]
fn a_read_only_host_is_no_protection_by_itself() {
    let sandbox = Sandbox::new();
    let attacker = Attacker::start(&sandbox);
    let (copy, before) = victim(&sandbox, &program("dhow-runtime"));
    set_trap(&attacker.bundle);
    let script = format!(
        "set -e; d=$(dirname {0}); mount --bind $d $d; mount -o remount,bind,ro $d; \
         i=0; while test $i -lt 40; do timeout 20 {0} --root {1} exec {2} /bin/trap features >/dev/null 2>&1 || :; i=$((i+1)); done; \
         mount -o remount,bind,rw $d; sleep 0.5",
        copy.display(),
        attacker.bundle.root().display(),
        attacker.bundle.id()
    );
    until_caught(&attacker, || {
        let status = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    });
    assert_unharmed(&attacker, &copy, &before);
}

/// A new process is seen by others of its pid namespace only when it has nothing of the host's left, by whatever power.
#[test]
fn nothing_of_the_host_is_seen_of_who_comes_in() {
    let sandbox = Sandbox::new();
    let attacker = Attacker::start(&sandbox);
    for _ in 0..30 {
        attacker
            .bundle
            .runtime(["exec", attacker.bundle.id(), "true"]);
    }
    let mut bundle = sandbox.bundle("ls -d /proc/[0-9]* | wc -l; cat /proc/1/comm; umask");
    bundle.use_runtime_of(&attacker.bundle);
    join_pid_namespace(&mut bundle, attacker.pid());
    for _ in 0..30 {
        // Its procfs is of the namespace that it joined.
        let out = bundle.run().ok();
        assert!(out.contains("\nattacker\n"), "{out}");
    }
    assert!(!attacker.has_come_to("host"), "{}", attacker.log());
}
