//! `dhow run` in the foreground: what a container is, sees, reads, writes, and how it ends.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::process::Stdio;

use dhow_integration_tests::{Ran, Sandbox, ran};

fn with_busybox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    sandbox
}

fn run(sandbox: &Sandbox, args: &[&str]) -> Ran {
    sandbox.dhow([&["run", "--rm"], args].concat())
}

#[test]
fn the_exit_status_is_the_processes_own() {
    let sandbox = with_busybox();
    run(&sandbox, &["busybox", "true"]).ok();
    run(&sandbox, &["busybox", "sh", "-c", "exit 42"]).fails(42);
    let killed = ["busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"];
    run(&sandbox, &killed).fails(137);
    let said = run(&sandbox, &["busybox", "nosuchprogram"]).fails(127);
    assert!(
        said.starts_with("dhow: ") && said.contains("nosuchprogram"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    let said = run(&sandbox, &["busybox", "/etc/passwd"]).fails(126);
    assert!(said.contains("/etc/passwd"), "{said}");
    sandbox.nothing_is_left(&[]);
}

#[test]
fn mistakes_are_dhows_own_and_name_the_remedy() {
    let sandbox = with_busybox();
    let said = run(&sandbox, &["--user", "web", "busybox", "true"]).fails(125);
    assert!(
        said.contains("\"web\"") && said.contains("/etc/passwd"),
        "{said}"
    );
    let said = run(&sandbox, &["-v", "/no/such/dir:/x", "busybox", "true"]).fails(125);
    assert!(said.contains("/no/such/dir"), "{said}");
    let said = run(&sandbox, &["-w", "tmp", "busybox", "true"]).fails(125);
    assert!(said.contains("absolute"), "{said}");
    let said = run(&sandbox, &["-p", "80:80", "busybox", "true"]).fails(125);
    assert!(said.contains("--network host"), "{said}");
    let said = run(&sandbox, &["--network", "bridge", "busybox", "true"]).fails(125);
    assert!(said.contains("none or host"), "{said}");
    let said = run(&sandbox, &["-m", "1k", "busybox", "true"]).fails(125);
    assert!(said.contains("6m"), "{said}");
    let said = run(&sandbox, &["--cap-add", "FLY", "busybox", "true"]).fails(125);
    assert!(said.contains("FLY"), "{said}");
    let said = run(&sandbox, &["--pull", "never", "nosuchimage"]).fails(125);
    assert!(said.contains("nosuchimage"), "{said}");
    for args in [
        &["rm", "ghost"][..],
        &["logs", "ghost"],
        &["stop", "ghost"],
        &["exec", "ghost", "true"],
    ] {
        let said = sandbox.dhow(args).fails(125);
        assert!(said.starts_with("dhow: no such container: ghost"), "{said}");
    }
    sandbox.nothing_is_left(&[]);
}

#[test]
fn words_after_the_image_are_the_commands() {
    let sandbox = with_busybox();
    let said = run(&sandbox, &["busybox", "echo", "--rm", "-d", "--", "-x"]).ok();
    assert_eq!(said, "--rm -d -- -x");
}

#[test]
fn streams_are_apart_and_input_is_passed_on() {
    let sandbox = with_busybox();
    let both = run(&sandbox, &["busybox", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(
        (both.stdout.as_str(), both.stderr.as_str()),
        ("out\n", "err\n")
    );
    let megabytes = vec![b'x'; 3 << 20];
    let words = ["run", "--rm", "-i", "busybox", "wc", "-c"];
    let counted = ran(sandbox.command(words), &megabytes).ok();
    assert_eq!(counted, megabytes.len().to_string());
    let without = ran(
        sandbox.command(["run", "--rm", "busybox", "wc", "-c"]),
        b"unread",
    )
    .ok();
    assert_eq!(without, "0");
    // A container that does not read its input must not keep dhow from ending.
    ran(
        sandbox.command(["run", "--rm", "-i", "busybox", "true"]),
        &megabytes,
    )
    .ok();
}

#[test]
fn much_output_arrives_whole() {
    let sandbox = with_busybox();
    let script = "i=0; while [ $i -lt 64 ]; do dd if=/dev/zero bs=65536 count=1 2>/dev/null; i=$((i+1)); done";
    let said = run(&sandbox, &["busybox", "sh", "-c", script]);
    assert_eq!(said.stdout.len(), 64 * 65536);
}

#[test]
fn nothing_of_the_host_leaks_in() {
    let sandbox = with_busybox();
    let mut command = sandbox.command([
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "env; pwd; ls -1 /proc/self/fd | wc -l; hostname; ls -1 /sys/class/net",
    ]);
    command.env("SECRET_OF_THE_HOST", "x").current_dir("/usr");
    // A descriptor that is not close-on-exec, as a careless parent leaves it.
    let leaked = rustix::fs::open(
        "/etc/passwd",
        rustix::fs::OFlags::RDONLY,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    command.stdin(Stdio::null());
    let said = ran(command, b"").ok();
    drop(leaked);
    assert!(!said.contains("SECRET_OF_THE_HOST"), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.contains(&"/"), "{said}");
    // ls has its own directory open besides the three.
    assert!(lines.contains(&"4"), "{said}");
    assert_eq!(lines.last(), Some(&"lo"), "{said}");
}

#[test]
fn environment_user_directory_and_name_are_as_asked() {
    let sandbox = with_busybox();
    let file = sandbox.write("vars", "# a comment\nFROM_FILE=1\nTAKEN\n");
    let mut command = sandbox.command([
        "run",
        "--rm",
        "-e",
        "A=b c",
        "-e",
        "TAKEN",
        "--env-file",
        file.to_str().unwrap(),
        "-u",
        "nobody",
        "-w",
        "/tmp/new",
        "--hostname",
        "ship",
        "busybox",
        "sh",
        "-c",
        "echo $A:$TAKEN:$FROM_FILE:$HOME; pwd; id; hostname",
    ]);
    command.env("TAKEN", "from here");
    let said = ran(command, b"").ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "b c:from here:1:/");
    assert_eq!(lines[1], "/tmp/new");
    assert_eq!(
        lines[2],
        "uid=65534(nobody) gid=65534(nogroup) groups=50(staff),65534(nogroup)"
    );
    assert_eq!(lines[3], "ship");
    let said = run(&sandbox, &["-u", "0:staff", "busybox", "id"]).ok();
    assert_eq!(said, "uid=0(root) gid=50(staff) groups=50(staff)");
    let said = run(
        &sandbox,
        &["--entrypoint", "echo", "busybox", "from", "echo"],
    )
    .ok();
    assert_eq!(said, "from echo");
}

#[test]
fn mounts_are_as_asked() {
    let sandbox = with_busybox();
    sandbox.write("dir/file", "of the host");
    let dir = sandbox.path("dir");
    let dir = dir.to_str().unwrap();
    let rw = format!("{dir}:/data");
    run(
        &sandbox,
        &[
            "-v",
            &rw,
            "busybox",
            "sh",
            "-c",
            "cat /data/file && echo new >/data/made",
        ],
    )
    .ok();
    assert_eq!(
        fs_err::read_to_string(sandbox.path("dir/made")).unwrap(),
        "new\n"
    );
    let ro = format!("{dir}:/data:ro");
    run(
        &sandbox,
        &["-v", &ro, "busybox", "sh", "-c", "echo x >/data/made"],
    )
    .fails(1);
    run(
        &sandbox,
        &[
            "-v",
            "kept:/data",
            "busybox",
            "sh",
            "-c",
            "echo kept >/data/x",
        ],
    )
    .ok();
    let said = run(
        &sandbox,
        &["-v", "kept:/data:ro", "busybox", "cat", "/data/x"],
    )
    .ok();
    assert_eq!(said, "kept");
    let said = run(&sandbox, &["-v", "../x y:/data", "busybox", "true"]).fails(125);
    assert!(said.contains("x y"), "{said}");
    run(
        &sandbox,
        &["--read-only", "busybox", "sh", "-c", "echo x >/made"],
    )
    .fails(1);
    run(
        &sandbox,
        &[
            "--read-only",
            "--tmpfs",
            "/scratch:size=1m",
            "busybox",
            "sh",
            "-c",
            "echo x >/scratch/made",
        ],
    )
    .ok();
}

#[test]
fn the_default_is_confined_and_options_change_it() {
    let sandbox = with_busybox();
    let status = |args: &[&str], key: &str| {
        let words = [args, &["busybox", "grep", key, "/proc/self/status"]].concat();
        let said = run(&sandbox, &words).ok();
        said.split_whitespace()
            .last()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(status(&[], "CapBnd"), "00000000a80425fb");
    assert_eq!(status(&[], "CapEff"), "00000000a80425fb");
    assert_eq!(status(&["-u", "1000"], "CapEff"), "0000000000000000");
    assert_eq!(
        status(&["--cap-drop", "ALL", "--cap-add", "chown"], "CapBnd"),
        "0000000000000001"
    );
    assert_eq!(status(&[], "Seccomp:"), "2");
    assert_eq!(
        status(&["--security-opt", "seccomp=unconfined"], "Seccomp:"),
        "0"
    );
    assert_eq!(
        status(&["--security-opt", "no-new-privileges"], "NoNewPrivs"),
        "1"
    );
    run(&sandbox, &["busybox", "mount", "-t", "tmpfs", "x", "/tmp"]).fails(1);
    run(
        &sandbox,
        &["busybox", "sh", "-c", "echo 1 >/proc/sys/kernel/printk"],
    )
    .fails(1);
    let masked = run(
        &sandbox,
        &[
            "busybox",
            "sh",
            "-c",
            "cat /proc/kcore | wc -c; ls /sys/firmware | wc -l",
        ],
    )
    .ok();
    assert_eq!(masked, "0\n0");
    let said = run(
        &sandbox,
        &[
            "--privileged",
            "busybox",
            "sh",
            "-c",
            "mount -t tmpfs x /tmp && echo mounted",
        ],
    )
    .ok();
    assert_eq!(said, "mounted");
}

#[test]
fn a_seccomp_profile_of_ones_own_is_in_force() {
    let sandbox = with_busybox();
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}"#;
    let file = sandbox.write("profile.json", profile);
    let option = format!("seccomp={}", file.display());
    let said = run(
        &sandbox,
        &["--security-opt", &option, "busybox", "mkdir", "/x"],
    )
    .fails(1);
    assert!(said.contains("not permitted"), "{said}");
    let conditional = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}}]}"#;
    let file = sandbox.write("docker.json", conditional);
    let option = format!("seccomp={}", file.display());
    let said = run(&sandbox, &["--security-opt", &option, "busybox", "true"]).fails(125);
    assert!(said.contains("includes"), "{said}");
}

#[test]
fn a_removed_container_leaves_nothing() {
    let sandbox = with_busybox();
    let file = sandbox.path("cid");
    run(
        &sandbox,
        &[
            "--cidfile",
            file.to_str().unwrap(),
            "-m",
            "64m",
            "busybox",
            "sh",
            "-c",
            "echo x >/made",
        ],
    )
    .ok();
    let id = fs_err::read_to_string(&file).unwrap();
    assert_eq!(id.len(), 64);
    sandbox.nothing_is_left(&[&id]);
    let said = run(
        &sandbox,
        &["--cidfile", file.to_str().unwrap(), "busybox", "true"],
    )
    .fails(125);
    assert!(said.contains("--cidfile"), "{said}");
    sandbox.nothing_is_left(&[]);
}
