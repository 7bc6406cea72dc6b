//! Containers with a user namespace of their own: layers and volumes keep their owners, whatever ids the container has on the host.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::collections::HashSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use dhow_integration_tests::registry::Registry;
use dhow_integration_tests::{Enclosure, Ran, Sandbox, base_image, program, ran, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The first id on the host, and a map from 0 on.
const FIRST: u32 = 300_000;
const MAP: &str = "0:300000:65536";

/// A layer with files of several owners, one past the map's end, a program that sets the user and one that has a capability.
fn layer_of_many_owners() -> Vec<u8> {
    /// What setcap(8) writes for cap_net_raw=ep.
    const NET_RAW: [u8; 20] = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let busybox = fs_err::read("/bin/busybox").expect("package busybox-static");
    let mut tar = tar::Builder::new(Vec::new());
    let mut append = |name: &str, owner: (u64, u64), mode: u32, content: &[u8]| {
        if name.starts_with("cap/") {
            let capability = ("SCHILY.xattr.security.capability", &NET_RAW[..]);
            tar.append_pax_extensions([capability]).unwrap();
        }
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_uid(owner.0);
        header.set_gid(owner.1);
        tar.append_data(&mut header, name, content).unwrap();
    };
    let passwd =
        b"root::0:0:root:/:/bin/sh\nuser:x:1000:1001::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n";
    append("etc/passwd", (0, 0), 0o644, passwd);
    append("data/root", (0, 0), 0o644, b"root's\n");
    append("data/user", (1000, 1001), 0o640, b"user's\n");
    append("data/far", (70_000, 70_001), 0o600, b"somebody's\n");
    append("suid/su", (0, 0), 0o4755, &busybox);
    append("cap/grep", (0, 0), 0o755, &busybox);
    tar.into_inner().unwrap()
}

/// A place with that image, `owners`.
fn with_owners() -> Sandbox {
    let registry = Registry::embedded();
    let busybox = fs_err::read(base_image("busybox")).unwrap();
    registry.push_image("owners", "1", &[busybox, layer_of_many_owners()]);
    let sandbox = Sandbox::new();
    let name = format!("{}/owners:1", registry.address());
    sandbox.dhow(["pull", "-q", &name]).ok();
    sandbox.dhow(["tag", &name, "owners"]).ok();
    sandbox
}

fn with_busybox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    sandbox
}

fn inspect(sandbox: &Sandbox, name: &str) -> Value {
    let all: Value = serde_json::from_str(&sandbox.dhow(["inspect", name]).ok()).unwrap();
    all[0].clone()
}

/// Where what a container writes is stored.
fn upper(sandbox: &Sandbox, name: &str) -> PathBuf {
    let id = inspect(sandbox, name)["Id"].as_str().unwrap().to_owned();
    sandbox.path("root/containers").join(id).join("upper")
}

/// What a shell says in a new container with the map.
fn mapped(sandbox: &Sandbox, args: &[&str], script: &str) -> Ran {
    let words = [
        &["run", "--rm", "--uidmap", MAP],
        args,
        &["owners", "sh", "-c", script],
    ];
    sandbox.dhow(words.concat())
}

const OWNERS: &str = "stat -c '%u:%g %a %n' /data/root /data/user /suid/su";

#[test]
fn files_have_the_owners_of_the_image_inside_and_in_the_store() {
    let sandbox = with_owners();
    let seen = mapped(&sandbox, &[], &format!("{OWNERS}; stat -c %u:%g /data/far")).ok();
    let owners = "0:0 644 /data/root\n1000:1001 640 /data/user\n0:0 4755 /suid/su";
    // Whom the map does not have is nobody.
    assert_eq!(seen, format!("{owners}\n65534:65534"));
    let map = mapped(
        &sandbox,
        &[],
        "tr -s ' ' </proc/self/uid_map; tr -s ' ' </proc/self/gid_map; id -u",
    );
    assert_eq!(map.ok(), " 0 300000 65536\n 0 300000 65536\n0");
    // A user, with the permissions of the files, and programs that give him more.
    let user = "cat /data/root; cat /data/user; cat /data/far 2>/dev/null || echo refused; \
                /suid/su -c 'id -u' root; /cap/grep CapEff /proc/self/status; grep CapEff /proc/self/status";
    let seen = mapped(&sandbox, &["--user", "user"], user).ok();
    let caps = "CapEff:\t0000000000002000\nCapEff:\t0000000000000000";
    assert_eq!(seen, format!("root's\nuser's\nrefused\n0\n{caps}"));
    // The layers are what they were, for a container without a namespace of its own too.
    let plain = sandbox
        .dhow(["run", "--rm", "owners", "sh", "-c", OWNERS])
        .ok();
    assert_eq!(plain, owners);
    assert_eq!(sandbox.dhow(["system", "check"]).ok(), "0 damaged, 0 left");
    sandbox.nothing_is_left(&[]);
}

#[test]
fn what_is_written_is_stored_with_the_containers_ids_and_is_there_after_a_restart() {
    let sandbox = with_owners();
    let _end = sandbox.removed_at_end("one");
    let write = "echo more >>/data/user; rm /data/root; rm -r /cap; mkdir /cap; echo new >/new; chown 5:6 /new; \
                 mkfifo /queue; chown 65535:0 /queue; touch /ready; exec sleep 1000";
    let run = ["run", "-d", "--name", "one", "--uidmap", MAP, "owners"];
    sandbox.dhow([&run[..], &["sh", "-c", write]].concat()).ok();
    until("all is written", || {
        sandbox.dhow(["exec", "one", "test", "-e", "/ready"]).status == 0
    });
    let process = inspect(&sandbox, "one")["State"]["Pid"].as_u64().unwrap();
    let process = fs_err::metadata(format!("/proc/{process}")).unwrap();
    assert_eq!((process.uid(), process.gid()), (FIRST, FIRST));
    let look = "stat -c '%u:%g %n' /new /queue /data/user; cat /data/user; ls /cap /data";
    let seen = sandbox.dhow(["exec", "one", "sh", "-c", look]).ok();
    let expected =
        "5:6 /new\n65535:0 /queue\n1000:1001 /data/user\nuser's\nmore\n/cap:\n\n/data:\nfar\nuser";
    assert_eq!(seen, expected);
    let user = sandbox.dhow(["exec", "-u", "1000:7", "one", "id"]).ok();
    assert!(user.starts_with("uid=1000(user) gid=7"), "{user}");
    let refused = sandbox
        .dhow(["exec", "-u", "65536", "one", "id"])
        .fails(125);
    assert!(refused.contains("user 65536 is not mapped"), "{refused}");

    sandbox.dhow(["restart", "-t", "0", "one"]).ok();
    let again = sandbox.dhow([
        "exec",
        "one",
        "sh",
        "-c",
        "stat -c %u:%g /queue; cat /proc/self/uid_map",
    ]);
    let again = again.ok();
    assert!(again.starts_with("65535:0\n"), "{again}");
    assert!(again.contains("300000"), "{again}");
    let host = inspect(&sandbox, "one")["HostConfig"].clone();
    assert_eq!(host["UsernsMode"], "private");
    assert_eq!(host["IDMappings"]["UidMap"][0], MAP);
    sandbox.dhow(["stop", "-t", "0", "one"]).ok();

    // As a layer has it.
    let upper = upper(&sandbox, "one");
    let owner = |name: &str| {
        let found = fs_err::symlink_metadata(upper.join(name)).unwrap();
        (found.uid(), found.gid())
    };
    assert_eq!(owner("new"), (5, 6));
    assert_eq!(owner("queue"), (65_535, 0));
    assert_eq!(owner("data/user"), (1000, 1001));
    assert_eq!(owner("cap"), (0, 0));
    assert_eq!(owner("data/root"), (0, 0));
    let whiteout = fs_err::symlink_metadata(upper.join("data/root")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    sandbox.dhow(["rm", "one"]).ok();
    assert_eq!(sandbox.dhow(["system", "check"]).ok(), "0 damaged, 0 left");
    sandbox.nothing_is_left(&[]);
}

#[test]
fn the_rest_of_a_container_is_as_without() {
    let sandbox = with_owners();
    let say = |args: &[&str], script: &str| mapped(&sandbox, args, script).ok();
    let tmpfs =
        "stat -c %u:%g /here; echo x >/here/file; chown 7 /here/file; stat -c %u /here/file";
    assert_eq!(say(&["--tmpfs", "/here"], tmpfs), "0:0\n7");
    assert_eq!(
        say(
            &["--hostname", "name"],
            "hostname; hostname >/etc/hosts; cat /etc/hosts"
        ),
        "name\nname"
    );
    for network in ["none", "host"] {
        let devices = "echo x >/dev/null; head -c 2 /dev/zero | wc -c; ls /sys | grep -c kernel; ls -d /proc/1 /dev/pts /dev/shm";
        let seen = say(&["--network", network], devices);
        assert_eq!(seen, "2\n1\n/dev/pts\n/dev/shm\n/proc/1", "{network}");
    }
    let limits = say(
        &["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5"],
        "echo limited",
    );
    assert_eq!(limits, "limited");
    let read_only = mapped(&sandbox, &["--read-only"], "touch /x").fails(1);
    assert!(read_only.contains("Read-only"), "{read_only}");
    // Its own terminal, which is the user's who runs in it.
    let terminal = say(
        &["-t", "--user", "1000"],
        "stat -L -c %u $(tty); test -w $(tty) && echo writable",
    );
    assert_eq!(terminal.replace('\r', ""), "1000\nwritable");
    // Not a way to the host's files or to more ids.
    let bounds = "cat /proc/sys/kernel/hostname >/dev/null; echo 1 >/proc/sys/kernel/panic; mount -t tmpfs x /mnt; \
                  mknod /null c 1 3; chown 65536 /data/root; echo done";
    let ran = mapped(&sandbox, &[], bounds);
    assert_eq!(ran.stdout, "done\n");
    for refused in ["panic", "mount: ", "mknod: ", "chown: "] {
        assert!(ran.stderr.contains(refused), "{refused}: {}", ran.stderr);
    }
    sandbox.nothing_is_left(&[]);
}

/// Programs log to /dev/stdout, and to that of the container's first one.
#[test]
fn standard_streams_can_be_opened_again() {
    let sandbox = with_owners();
    let again = "read x </dev/stdin; echo \"$x\" >/dev/stdout; echo error >/dev/stderr";
    let run = ["run", "--rm", "-i", "--network", "none", "--uidmap", MAP];
    for user in ["0", "1000"] {
        let words = [&run[..], &["--user", user, "owners", "sh", "-c", again]].concat();
        let ran = ran(sandbox.command(words), b"said\n");
        assert_eq!(
            (ran.status, &*ran.stdout, &*ran.stderr),
            (0, "said\n", "error\n"),
            "{user}"
        );
    }
    let _end = sandbox.removed_at_end("one");
    let words = ["run", "-d", "--name", "one", "--uidmap", MAP, "owners"];
    sandbox.dhow([&words[..], &["sleep", "1000"]].concat()).ok();
    for user in ["0", "1000"] {
        let words = ["exec", "-i", "--user", user, "one", "sh", "-c", again];
        let ran = ran(sandbox.command(words), b"said\n");
        assert_eq!(
            (ran.status, &*ran.stdout, &*ran.stderr),
            (0, "said\n", "error\n"),
            "{user}"
        );
    }
    let log = ["exec", "one", "sh", "-c", "echo logged >/proc/1/fd/1"];
    sandbox.dhow(log).ok();
    until("it is in the log", || {
        sandbox.dhow(["logs", "one"]).ok() == "logged"
    });
    sandbox.dhow(["rm", "-f", "one"]).ok();
    sandbox.nothing_is_left(&[]);
}

#[test]
fn volumes_have_their_owners_in_every_namespace_and_the_hosts_files_have_the_hosts() {
    let sandbox = with_owners();
    let data = "data:/volume";
    let write =
        "echo x >/volume/file; chown 12:13 /volume/file; stat -c %u:%g /volume /volume/file";
    let mine = mapped(&sandbox, &["-v", data], write).ok();
    assert_eq!(mine, "0:0\n12:13");
    let look = "stat -c %u:%g /volume/file; echo y >>/volume/file";
    for map in ["0:500000:1000", "0:0:65536"] {
        let words = [
            "run", "--rm", "--uidmap", map, "-v", data, "owners", "sh", "-c", look,
        ];
        assert_eq!(sandbox.dhow(words).ok(), "12:13", "{map}");
    }
    let plain = ["run", "--rm", "-v", data, "owners", "sh", "-c", look];
    assert_eq!(sandbox.dhow(plain).ok(), "12:13");
    let stored = fs_err::metadata(sandbox.path("root/volumes/data/file")).unwrap();
    assert_eq!((stored.uid(), stored.gid(), stored.size()), (12, 13, 8));

    let file = sandbox.write("shared/file", "the host's\n");
    let shared = file.parent().unwrap().to_str().unwrap();
    let look =
        "stat -c %u /host /host/file; cat /host/file; touch /host/new 2>/dev/null && echo written";
    let seen = mapped(&sandbox, &["-v", &format!("{shared}:/host")], look);
    assert_eq!(seen.stdout, "65534\n65534\nthe host's\n");
    let seen = mapped(&sandbox, &["-v", &format!("{shared}:/host:ro,idmap")], look);
    assert_eq!(seen.stdout, "0\n0\nthe host's\n");
    let seen = mapped(&sandbox, &["-v", &format!("{shared}:/host:idmap")], look);
    assert_eq!(seen.ok(), "0\n0\nthe host's\nwritten");
    let new = fs_err::metadata(sandbox.path("shared/new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (0, 0));

    let volume = format!("{shared}:/host:idmap");
    let said = sandbox
        .dhow(["run", "--rm", "-v", &volume, "owners", "true"])
        .fails(125);
    assert!(said.contains("--userns auto"), "{said}");
    let said = mapped(&sandbox, &["-v", &format!("{shared}:/host:U")], "true").fails(125);
    assert!(said.contains("use idmap"), "{said}");
    sandbox.nothing_is_left(&[]);
}

#[test]
fn maps_of_many_ranges_and_images_of_one_file_work_too() {
    let sandbox = with_owners();
    let mut words = vec!["run".to_owned(), "--rm".to_owned()];
    // As many ranges as the kernel takes.
    for id in 0..340 {
        words.push(format!("--uidmap={id}:{}:1", 1000 + 2 * id));
    }
    words.push(format!("--gidmap=0:{FIRST}:65536"));
    let script =
        "touch /file; chown 339:9 /file; stat -c %u:%g /file; grep -c . /proc/self/uid_map";
    words.extend(["owners", "sh", "-c", script].map(str::to_owned));
    assert_eq!(sandbox.dhow(words).ok(), "339:9\n340");

    let busybox = fs_err::read("/bin/busybox").unwrap();
    fs_err::create_dir(sandbox.path("context")).unwrap();
    sandbox.write("context/busybox", busybox);
    sandbox.write(
        "context/Dockerfile",
        "FROM scratch\nCOPY --chmod=755 busybox /busybox\n",
    );
    let context = sandbox.path("context").to_str().unwrap().to_owned();
    sandbox.dhow(["build", "-q", "-t", "one", &context]).ok();
    let words = [
        "run", "--rm", "--uidmap", MAP, "one", "/busybox", "stat", "-c", "%u", "/busybox",
    ];
    assert_eq!(sandbox.dhow(words).ok(), "0");
    sandbox.nothing_is_left(&[]);
}

#[test]
fn nothing_is_left_of_a_container_whose_monitor_or_machine_died() {
    let sandbox = with_busybox();
    let _end = sandbox.removed_at_end("one");
    let run = ["run", "-d", "--name", "one", "--uidmap", MAP, "busybox"];
    let script = "echo x >/file; chown 9 /file; touch /ready; exec sleep 1000";
    let id = sandbox
        .dhow([&run[..], &["sh", "-c", script]].concat())
        .ok();
    until("the file is there", || {
        sandbox.dhow(["exec", "one", "test", "-e", "/ready"]).status == 0
    });
    let monitor = sandbox.processes();
    let monitor = monitor.iter().find(|line| line.contains("dhow-monitor"));
    let monitor = monitor.and_then(|line| line.split(' ').next()).unwrap();
    kill_process(
        Pid::from_raw(monitor.parse().unwrap()).unwrap(),
        Signal::KILL,
    )
    .unwrap();
    until("its end is seen", || {
        !sandbox.dhow(["ps", "-q"]).ok().contains(&id[..12])
    });
    // Started again, it has what it had, and its ids.
    sandbox.dhow(["start", "one"]).ok();
    let seen = sandbox
        .dhow([
            "exec",
            "one",
            "sh",
            "-c",
            "stat -c %u /file; cat /proc/self/gid_map",
        ])
        .ok();
    assert!(seen.starts_with("9\n") && seen.contains("300000"), "{seen}");
    sandbox.dhow(["stop", "-t", "0", "one"]).ok();
    // What ends with the machine is gone.
    fs_err::remove_dir_all(sandbox.path("state")).unwrap();
    sandbox.dhow(["start", "one"]).ok();
    assert_eq!(
        sandbox
            .dhow(["exec", "one", "stat", "-c", "%u", "/file"])
            .ok(),
        "9"
    );
    sandbox.dhow(["rm", "-f", "one"]).ok();
    assert_eq!(sandbox.dhow(["system", "check"]).ok(), "0 damaged, 0 left");
    sandbox.nothing_is_left(&[&id]);
}

/// A machine whose /etc/subuid and /etc/subgid have these lines.
fn machine(sandbox: &Sandbox, lines: &str) -> Enclosure {
    let enclosure = Enclosure::new(&sandbox.path(""));
    for name in ["subuid", "subgid"] {
        let file = sandbox.write(&format!("etc-{name}"), lines);
        let bind = format!(
            "touch /etc/{name}; mount --bind {} /etc/{name}",
            file.display()
        );
        enclosure.shell(&bind).ok();
    }
    enclosure
}

/// Runs `dhow` there.
fn dhow_on(enclosure: &Enclosure, sandbox: &Sandbox, args: &[&str]) -> Ran {
    let mut command = enclosure.command(program("dhow"));
    command
        .env("DHOW_ROOT", sandbox.path("root"))
        .env("DHOW_STATE", sandbox.path("state"))
        .args(args);
    ran(command, b"")
}

#[test]
fn chosen_ids_are_no_other_containers() {
    let sandbox = with_busybox();
    let enclosure = machine(&sandbox, "other:1:5\ncontainers:700000:3000\n");
    let dhow = |args: &[&str]| dhow_on(&enclosure, &sandbox, args);
    let auto = ["--userns=auto:size=1000", "busybox", "true"];
    // Several at a time.
    let create = |_| drop(dhow(&[&["create"], &auto[..]].concat()).ok());
    dhow_integration_tests::four_at_a_time(3, create);
    let ids = dhow(&["ps", "-aq"]).ok();
    let ids: Vec<&str> = ids.lines().collect();
    let map = |id: &str, kind: &str| {
        let format = format!("{{{{json .HostConfig.IDMappings.{kind}}}}}");
        dhow(&["inspect", "--format", &format, id]).ok()
    };
    for kind in ["UidMap", "GidMap"] {
        let maps: HashSet<String> = ids.iter().map(|id| map(id, kind)).collect();
        let expected = [700_000, 701_000, 702_000].map(|first| format!("[\"0:{first}:1000\"]"));
        assert_eq!(maps, HashSet::from(expected));
    }
    let said = dhow(&[&["create"], &auto[..]].concat()).fails(125);
    assert!(said.contains("too few are left"), "{said}");
    // The ids of one that is gone are free, and the owners within are the same with any.
    let free = map(ids[1], "UidMap");
    dhow(&["rm", ids[1]]).ok();
    let options = "auto:size=1000,uidmapping=5:77:1";
    let look = [
        "busybox",
        "sh",
        "-c",
        "tr -s ' ' </proc/self/uid_map; stat -c %u /bin/busybox",
    ];
    let seen = dhow(&[&["run", "--rm", "--userns", options], &look[..]].concat()).ok();
    let first: u32 = free.split(':').nth(1).unwrap().parse().unwrap();
    let expected = format!(" 0 {first} 5\n 5 77 1\n 6 {} 994\n0", first + 5);
    assert_eq!(seen, expected);
    dhow(&["rm", ids[0], ids[2]]).ok();
    drop(enclosure);
    // The kernel ends what is in it, in its own time.
    until("the machine is gone", || sandbox.processes().is_empty());
    sandbox.nothing_is_left(&[]);
}

#[test]
fn the_ids_of_the_dead_are_chosen_again() {
    let sandbox = with_busybox();
    let enclosure = machine(&sandbox, "containers:700000:1000\n");
    let run = [
        "run",
        "-d",
        "--rm",
        "--userns=auto:size=1000",
        "busybox",
        "sleep",
        "1000",
    ];
    let dhow = |args: &[&str]| dhow_on(&enclosure, &sandbox, args);
    dhow(&run).ok();
    // Who is alive keeps what it has.
    let said = dhow(&run).fails(125);
    assert!(said.contains("too few are left"), "{said}");
    let processes = sandbox.processes();
    let monitor = processes.iter().find(|line| line.contains("dhow-monitor"));
    let pid = monitor.unwrap().split(' ').next().unwrap();
    let raw = pid.parse().unwrap();
    kill_process(Pid::from_raw(raw).unwrap(), Signal::KILL).unwrap();
    // Its locks are free before it is reaped.
    let gone = PathBuf::from("/proc").join(pid);
    until("the monitor is reaped", || !gone.exists());
    let id = dhow(&run).ok();
    let shown = dhow(&["ps", "-aq", "--no-trunc"]).ok();
    assert_eq!(shown, id);
    dhow(&["rm", "-f", &id]).ok();
    drop(enclosure);
    until("the machine is gone", || sandbox.processes().is_empty());
    sandbox.nothing_is_left(&[&id]);
}

#[test]
fn what_the_machine_does_not_have_is_said() {
    let sandbox = with_busybox();
    let enclosure = machine(&sandbox, "somebody:100000:65536\n");
    let dhow = |args: &[&str]| dhow_on(&enclosure, &sandbox, args);
    let said = dhow(&["run", "--rm", "--userns", "auto", "busybox", "true"]).fails(125);
    let expected = "/etc/subuid gives no ids to the user containers";
    assert!(said.contains(expected), "{said}");
    assert_eq!(dhow(&["ps", "-aq"]).ok(), "");
    // Within a user namespace, root is not the machine's.
    let store = format!("DHOW_ROOT={} ", sandbox.path("other").display());
    let state = format!("DHOW_STATE={} ", sandbox.path("state").display());
    let run = "run --uidmap 0:0:1 busybox true; echo $?";
    let dhow_program = program("dhow");
    let within = format!("{store}{state}unshare -Ur {} {run}", dhow_program.display());
    let said = enclosure.shell(&within);
    assert_eq!(said.stdout, "125\n", "{said:?}");
    assert!(said.stderr.contains("the machine's root"), "{said:?}");
    // A file system on which owners cannot be mapped.
    let root = sandbox.path("simple");
    fs_err::create_dir(&root).unwrap();
    let root = root.display();
    let tar = sandbox.busybox_tar();
    let script = format!(
        "mount -t ramfs ramfs {root} && export DHOW_ROOT={root} {state} && dhow() {{ {} \"$@\"; }}; \
         dhow import {} busybox >&2 && dhow run --rm --uidmap {MAP} busybox true; echo $?; dhow ps -aq",
        dhow_program.display(),
        tar.display()
    );
    let said = enclosure.shell(&script);
    assert_eq!(said.stdout, "125\n", "{said:?}");
    assert!(
        said.stderr.contains("cannot map the owners of the files"),
        "{said:?}"
    );
}
