//! What a person mistypes or lacks is answered by one clear line on standard error that says what to do, and the exit status that
//! Docker has for it: 125 for an error of dhow's own, 126 and 127 for a command that cannot be run or found.

use std::net::TcpListener;
use std::process::Command;

use dhow_integration_tests::registry::Registry;
use dhow_integration_tests::{Ran, Sandbox, copy_program, program, ran};

/// The one line in which dhow refuses, with nothing on standard output.
#[track_caller]
fn one_line(ran: Ran, status: i32) -> String {
    assert_eq!(ran.stdout, "", "on standard output");
    let said = ran.fails(status);
    let line = said.strip_suffix('\n').expect("a line");
    assert!(
        line.starts_with("dhow: ") && !line.contains('\n'),
        "not one line of dhow's: {said}"
    );
    line.to_owned()
}

/// Each command is refused with status 125 and one line that has these words in it. All that is amiss is told at once.
#[track_caller]
fn refused(sandbox: &Sandbox, cases: &[(&[&str], &[&str])]) {
    let mut amiss = String::new();
    for (command, words) in cases {
        let ran = sandbox.dhow(*command);
        // What it did before it found out may be told too.
        let mut lines = ran.stderr.lines().rev();
        let last = lines.next().unwrap_or_default();
        let one_line = last.starts_with("dhow: ") && !lines.any(|line| line.starts_with("dhow: "));
        let without: Vec<_> = words.iter().filter(|word| !last.contains(**word)).collect();
        if ran.status != 125 || !ran.stdout.is_empty() || !one_line || !without.is_empty() {
            let command = command.join(" ");
            amiss += &format!("dhow {command}: without {without:?}, {ran:?}\n");
        }
    }
    assert!(
        amiss.is_empty(),
        "not one clear line with status 125:\n{amiss}"
    );
}

fn with_busybox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    sandbox
}

#[test]
fn a_word_that_dhow_does_not_know() {
    refused(
        &Sandbox::new(),
        &[
            (&["biuld", "."], &["'biuld'", "'build'", "dhow --help"]),
            (
                &["run", "--memroy", "64m", "busybox"],
                &["'--memroy'", "'--memory'", "dhow run --help"],
            ),
            (&["run"], &["IMAGE", "dhow run --help"]),
            (&["run", "--memory", "many", "busybox"], &["many", "64m"]),
            (&["run", "--cpus", "all", "busybox"], &["all", "0.5"]),
            (
                &["run", "--network", "bridge", "busybox"],
                &["bridge", "none", "host"],
            ),
            (&["tag", "busybox"], &["dhow tag --help"]),
        ],
    );
}

#[test]
fn an_image_that_is_not_there() {
    refused(
        &Sandbox::new(),
        &[
            (&["inspect", "nosuch"], &["nosuch", "dhow images"]),
            (&["rmi", "nosuch"], &["nosuch", "dhow images"]),
            (&["tag", "nosuch", "other"], &["nosuch", "dhow images"]),
            (&["push", "127.0.0.1:1/nosuch"], &["127.0.0.1:1/nosuch"]),
            (&["save", "-o", "/dev/null", "nosuch"], &["nosuch"]),
        ],
    );
}

#[test]
fn a_reference_that_is_none() {
    let sandbox = with_busybox();
    refused(
        &sandbox,
        &[
            (&["pull", "Busybox"], &["Busybox", "lower"]),
            (&["tag", "busybox", "a b"], &["a b"]),
            (&["tag", "busybox", "app:"], &["app:"]),
            (&["run", "busybox@sha256:12", "true"], &["sha256:12"]),
            (&["build", "-t", "App", "."], &["App", "lower"]),
        ],
    );
}

#[test]
fn a_registry_that_is_not_there() {
    let sandbox = with_busybox();
    sandbox.dhow(["tag", "busybox", "127.0.0.1:1/busybox"]).ok();
    refused(
        &sandbox,
        &[
            (&["pull", "127.0.0.1:1/app"], &["127.0.0.1:1", "refused"]),
            (
                &["push", "127.0.0.1:1/busybox"],
                &["127.0.0.1:1", "refused"],
            ),
            (
                &["run", "127.0.0.1:1/app", "true"],
                &["127.0.0.1:1", "refused"],
            ),
        ],
    );
}

#[test]
fn a_container_that_is_not_there() {
    refused(
        &Sandbox::new(),
        &[
            (&["logs", "nosuch"], &["nosuch", "dhow ps -a"]),
            (&["stop", "nosuch"], &["nosuch", "dhow ps -a"]),
            (&["kill", "nosuch"], &["nosuch", "dhow ps -a"]),
            (&["rm", "nosuch"], &["nosuch", "dhow ps -a"]),
            (&["exec", "nosuch", "true"], &["nosuch", "dhow ps -a"]),
        ],
    );
}

#[test]
fn a_container_in_the_wrong_state() {
    let sandbox = with_busybox();
    let _first = sandbox.removed_at_end("first");
    sandbox
        .dhow(["run", "--name", "first", "busybox", "true"])
        .ok();
    refused(
        &sandbox,
        &[
            (
                &["run", "--name", "first", "busybox", "true"],
                &["first", "dhow rm"],
            ),
            (&["exec", "first", "true"], &["first", "not running"]),
            (&["kill", "first"], &["first", "not running"]),
            (&["rmi", "busybox"], &["busybox", "first"]),
        ],
    );
    let _second = sandbox.removed_at_end("second");
    sandbox
        .dhow(["run", "-d", "--name", "second", "busybox", "sleep", "60"])
        .ok();
    refused(
        &sandbox,
        &[
            (&["rm", "second"], &["second", "running", "dhow stop"]),
            (&["kill", "-s", "SIGNOTHING", "second"], &["SIGNOTHING"]),
        ],
    );
}

#[test]
fn a_dockerfile_with_a_mistake() {
    let sandbox = with_busybox();
    let cases: &[(&str, &[&str])] = &[
        ("FORM busybox\n", &["Dockerfile:1", "FORM", "FROM"]),
        ("FROM busybox\nRUN\n", &["Dockerfile:2", "RUN"]),
        ("RUN true\n", &["Dockerfile:1", "FROM"]),
        ("", &["Dockerfile", "FROM"]),
        (
            "FROM busybox\nCOPY --form=x a b\n",
            &["Dockerfile:2", "--form"],
        ),
        (
            "FROM busybox\nCOPY missing.txt /\n",
            &["Dockerfile:2", "missing.txt"],
        ),
        (
            "FROM busybox AS one\nCOPY --from=tow /x /x\n",
            &["Dockerfile:2", "tow"],
        ),
        (
            "FROM busybox\nHEALTHCHECK CMD true\n",
            &["Dockerfile:2", "HEALTHCHECK"],
        ),
    ];
    for (number, (text, words)) in cases.iter().enumerate() {
        let context = format!("context-{number}");
        sandbox.write(&format!("{context}/Dockerfile"), text);
        let context = sandbox.path(context);
        let said = sandbox
            .dhow(["build", "-t", "never", context.to_str().unwrap()])
            .fails(125);
        for word in *words {
            assert!(said.contains(word), "{text:?} answered: {said}");
        }
    }
    // What a command of the build answers is not dhow's own error.
    let context = sandbox.write("failing/Dockerfile", "FROM busybox\nRUN exit 3\n");
    let context = context.parent().unwrap().to_str().unwrap();
    let said = sandbox.dhow(["build", "-t", "never", context]).fails(1);
    assert!(
        said.contains("Dockerfile:2") && said.contains("exit status 3"),
        "{said}"
    );
    // Nothing of it is left.
    let images = sandbox.dhow(["images"]).ok();
    assert!(!images.contains("never"), "{images}");
}

#[test]
fn a_file_that_is_not_there() {
    let sandbox = with_busybox();
    sandbox.write("context/Dockerfile", "FROM busybox\n");
    sandbox.write("text.txt", "not an archive");
    let context = sandbox.path("context");
    let context = context.to_str().unwrap();
    let text = sandbox.path("text.txt");
    let text = text.to_str().unwrap();
    refused(
        &sandbox,
        &[
            (&["build", "/nowhere/at/all"], &["/nowhere/at/all"]),
            (
                &["build", "-f", "/nowhere/file", context],
                &["/nowhere/file"],
            ),
            (&["build", text], &["text.txt", "director"]),
            (&["build", "--target", "tset", context], &["tset"]),
            (
                &["import", "/nowhere/root.tar", "x"],
                &["/nowhere/root.tar"],
            ),
            (&["import", text, "x"], &["text.txt"]),
            (&["load", "-i", "/nowhere/app.tar"], &["/nowhere/app.tar"]),
            (&["load", "-i", text], &["text.txt"]),
            (
                &["run", "-v", "/nowhere/dir:/dir", "busybox", "true"],
                &["/nowhere/dir"],
            ),
            (&["run", "-v", "dir", "busybox", "true"], &["dir"]),
        ],
    );
}

#[test]
fn options_that_do_not_fit_the_image() {
    let sandbox = with_busybox();
    refused(
        &sandbox,
        &[
            // It has neither CMD nor ENTRYPOINT.
            (&["run", "busybox"], &["no command"]),
            (&["run", "-u", "alice", "busybox", "true"], &["alice"]),
            (&["run", "-u", "root:crew", "busybox", "true"], &["crew"]),
            (
                &["run", "-w", "var", "busybox", "true"],
                &["var", "absolute"],
            ),
            (
                &[
                    "run",
                    "--device-read-bps",
                    "/dev/nosuch:1m",
                    "busybox",
                    "true",
                ],
                &["/dev/nosuch"],
            ),
        ],
    );
    let left = sandbox.dhow(["ps", "-a", "-q"]).ok();
    assert_eq!(left, "", "a container that could not be made is left");
}

#[test]
fn more_than_the_machine_has() {
    let sandbox = with_busybox();
    let online = fs_err::read_to_string("/sys/devices/system/cpu/online").expect("processors");
    let online = online.trim();
    refused(
        &sandbox,
        &[
            (
                &["run", "--cpus", "99999", "busybox", "true"],
                &["99999 processors", "the machine has", "--cpus"],
            ),
            (
                &["run", "--cpuset-cpus", "98765", "busybox", "true"],
                &["98765", online, "--cpuset-cpus"],
            ),
            (
                &["run", "--cpuset-cpus", "one", "busybox", "true"],
                &["\"one\"", "0-2,5", "--cpuset-cpus"],
            ),
            (
                &["create", "--cpus", "99999", "busybox", "true"],
                &["99999 processors", "--cpus"],
            ),
            // More descriptors than the kernel gives to anybody.
            (
                &["run", "--ulimit", "nofile=1:-1", "busybox", "true"],
                &["--ulimit nofile", "unlimited", "or less"],
            ),
            (
                &["create", "--ulimit", "wings=2", "busybox", "true"],
                &["\"wings\"", "nofile=1024:2048"],
            ),
        ],
    );
    let left = sandbox.dhow(["ps", "-a", "-q"]).ok();
    assert_eq!(left, "", "a container that could not be made is left");
}

#[test]
fn a_name_or_a_directory_that_cannot_be() {
    let sandbox = with_busybox();
    refused(
        &sandbox,
        &[
            (
                &["run", "--hostname", "a b", "busybox", "true"],
                &["\"a b\"", "letters, digits", "--hostname"],
            ),
            (
                &["create", "--hostname", "web-", "busybox", "true"],
                &["\"web-\"", "--hostname"],
            ),
            (
                &["run", "-w", "/etc/passwd", "busybox", "true"],
                &["\"/etc/passwd\"", "not a directory", "name one that is"],
            ),
            (
                &["run", "-w", "/etc/passwd/below", "busybox", "true"],
                &["\"/etc/passwd/below\"", "not a directory"],
            ),
        ],
    );
    let left = sandbox.dhow(["ps", "-a", "-q"]).ok();
    assert_eq!(left, "", "a container that could not be made is left");
    // What is mounted there decides, and what is not there is made.
    let script = ["busybox", "sh", "-c", "hostname; pwd"];
    let dir = sandbox.path("srv");
    fs_err::create_dir_all(dir.join("below")).expect("create");
    let bind = format!("{}:/etc", dir.display());
    let with = |more: &[&str]| {
        let args = [
            &["run", "--rm", "--hostname", "db-1.example"],
            more,
            &script,
        ]
        .concat();
        sandbox.dhow(args).ok()
    };
    assert_eq!(with(&["-w", "/new/dir"]), "db-1.example\n/new/dir");
    assert_eq!(
        with(&["-v", &bind, "-w", "/etc/below"]),
        "db-1.example\n/etc/below"
    );
    sandbox
        .dhow(["run", "-d", "--name", "box", "busybox", "sleep", "60"])
        .ok();
    refused(
        &sandbox,
        &[(
            &["exec", "-w", "/etc/passwd", "box", "true"],
            &["\"/etc/passwd\"", "not a directory"],
        )],
    );
    sandbox.dhow(["rm", "-f", "box"]).ok();
}

#[test]
fn a_command_that_cannot_be_found_or_run() {
    let sandbox = with_busybox();
    let _box = sandbox.removed_at_end("box");
    sandbox
        .dhow(["run", "-d", "--name", "box", "busybox", "sleep", "60"])
        .ok();
    for (command, status) in [
        ("nosuch", 127),
        ("/bin/nosuch", 127),
        ("/etc/passwd", 126),
        ("/etc", 126),
    ] {
        let line = one_line(sandbox.dhow(["run", "--rm", "busybox", command]), status);
        assert!(line.contains(command), "run: {line}");
        let line = one_line(sandbox.dhow(["exec", "box", command]), status);
        assert!(line.contains(command), "exec: {line}");
        let line = one_line(
            sandbox.dhow(["run", "-d", "--rm", "busybox", command]),
            status,
        );
        assert!(line.contains(command), "run -d: {line}");
    }
    // A status of the command itself is passed on, and nothing is said about it.
    for status in [1, 3, 125, 126, 127, 255] {
        let script = format!("exit {status}");
        let said = sandbox
            .dhow(["run", "--rm", "busybox", "sh", "-c", &script])
            .fails(status);
        assert_eq!(said, "");
    }
    let listed = sandbox.dhow(["ps", "-a", "-q"]).ok();
    assert_eq!(listed.lines().count(), 1, "containers are left: {listed}");
}

#[test]
fn a_port_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let sandbox = Sandbox::new();
    refused(
        &sandbox,
        &[
            (
                &["registry", "serve", "--addr", &address],
                &[&address, "in use"],
            ),
            (&["registry", "serve", "--addr", "here"], &["here"]),
        ],
    );
}

#[test]
fn a_place_that_is_none() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("file", "");
    let file = file.to_str().unwrap();
    refused(
        &sandbox,
        &[
            (&["--root", file, "images"], &[file]),
            (&["--root", "/proc/nowhere", "images"], &["/proc/nowhere"]),
        ],
    );
}

/// The programs where everybody can start them: a checkout may lie in a directory that only root enters.
fn programs_for_everybody(sandbox: &Sandbox) {
    use std::os::unix::fs::{PermissionsExt, chown};
    fs_err::create_dir(sandbox.path("bin")).expect("a place for everybody");
    for name in ["dhow", "dhow-runtime", "dhow-monitor"] {
        copy_program(program(name), sandbox.path("bin").join(name));
    }
    fs_err::create_dir(sandbox.path("home")).expect("a place for everybody");
    chown(sandbox.path("home"), Some(65534), Some(65534)).expect("a place for everybody");
    let open = std::fs::Permissions::from_mode(0o755);
    fs_err::set_permissions(sandbox.path(""), open).expect("a place for everybody");
}

#[test]
fn without_the_privileges() {
    let sandbox = Sandbox::new();
    programs_for_everybody(&sandbox);
    let tar = sandbox.write("others.tar", {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o644);
        header.set_uid(1234);
        tar.append_data(&mut header, "of-another", &b""[..])
            .unwrap();
        tar.into_inner().unwrap()
    });
    let as_nobody = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(sandbox.path("bin/dhow"))
            .args(words)
            .env_clear()
            .env("HOME", sandbox.path("home"))
            .env("XDG_RUNTIME_DIR", sandbox.path("home"))
            .current_dir(sandbox.path(""));
        ran(command, b"")
    };
    // What only reads and writes files and the network needs no root.
    as_nobody(&["version"]).ok();
    as_nobody(&["images"]).ok();
    // Who has no ids but his own keeps no files of others.
    let line = one_line(as_nobody(&["import", tar.to_str().unwrap(), "others"]), 125);
    assert!(line.contains("of-another"), "{line}");
    assert!(
        line.contains("/etc/subuid") && line.contains("root"),
        "{line}"
    );
    // The program stays away from what it may not have, and says what that takes.
    let line = one_line(as_nobody(&["--root", "/root/nowhere", "images"]), 125);
    assert!(
        line.contains("/root") && line.contains("needs root"),
        "{line}"
    );
}

#[test]
fn a_limit_without_its_cgroup_controller() {
    let sandbox = with_busybox();
    // In a root of its own the command sees the host's files, and a /sys in which no cgroup is mounted. Nothing is unmounted, and the
    // mounts go with the mount namespace.
    let script = "new=$1; shift
         mount --bind / $new && mount --rbind /dev $new/dev && mount -t proc proc $new/proc && mount --bind /sys $new/sys &&
         mount --bind $DHOW_ROOT $new$DHOW_ROOT && mount --bind $DHOW_STATE $new$DHOW_STATE && exec chroot $new \"$@\"";
    let new_root = sandbox.path("new-root");
    for directory in ["new-root", "state"] {
        fs_err::create_dir_all(sandbox.path(directory)).unwrap();
    }
    for (flag, value) in [
        ("--memory", "64m"),
        ("--pids-limit", "10"),
        ("--cpus", "0.5"),
    ] {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(&new_root)
            .arg(program("dhow"))
            .args(["run", "--rm", flag, value, "busybox", "true"])
            .env("DHOW_ROOT", sandbox.path("root"))
            .env("DHOW_STATE", sandbox.path("state"));
        let line = one_line(ran(command, b""), 125);
        assert!(line.contains("cgroup"), "{flag}: {line}");
    }
}

#[test]
fn a_digest_that_does_not_fit() {
    let sandbox = with_busybox();
    let registry = Registry::embedded();
    let name = format!("{}/busybox", registry.address());
    sandbox.dhow(["tag", "busybox", &name]).ok();
    sandbox.dhow(["push", &name]).ok();
    sandbox.dhow(["rmi", "busybox", &name]).ok();

    // Nobody has an image of this digest.
    let absent = format!("{name}@sha256:{}", "0".repeat(64));
    refused(
        &sandbox,
        &[
            (&["pull", &absent], &[&absent]),
            (&["pull", &format!("{name}:2")], &["busybox:2"]),
        ],
    );

    // A blob that is not what its name says: the largest, which is the layer.
    let blobs = registry.path("root/registry/blobs/sha256");
    let mut files: Vec<_> = fs_err::read_dir(blobs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort_by_key(|path| fs_err::metadata(path).unwrap().len());
    let layer = files.pop().unwrap();
    let mut bytes = fs_err::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs_err::write(&layer, bytes).unwrap();
    let said = one_line(sandbox.dhow(["pull", "-q", &name]), 125);
    let hex = layer.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(hex) && said.contains("digest"), "{said}");
    assert_eq!(sandbox.dhow(["images", "-q"]).ok(), "");
}
