//! What a bundle may ask of its mounts: mapped ids, changes of what is mounted, attributes of all that is below; and the same
//! on kernels that lack the newer calls.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dhow_integration_tests::{Bundle, Ran, Sandbox, program};
use serde_json::{Value, json};

/// Adds a mount.
fn mount(bundle: &mut Bundle, mount: Value) {
    bundle.config["mounts"]
        .as_array_mut()
        .expect("mounts")
        .push(mount);
}

/// A directory beside the bundle with a file of root's in it.
fn source(bundle: &Bundle) -> PathBuf {
    let source = bundle.path("source");
    fs_err::create_dir_all(source.join("below")).expect("create");
    fs_err::write(source.join("file"), "content\n").expect("write");
    source
}

fn range(container: u32, host: u32) -> Value {
    json!([{"containerID": container, "hostID": host, "size": 1000}])
}

/// Runs the bundle in a mount namespace of the test's own, after a script that mounts.
fn run_after(bundle: &Bundle, script: &str) -> Output {
    bundle.write_config();
    let script = format!(
        "set -e; {script}\nexec timeout 20 {} --root {} run {}",
        program("dhow-runtime").display(),
        bundle.root().display(),
        bundle.id()
    );
    Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .current_dir(bundle.path(""))
        .output()
        .expect("package util-linux")
}

#[test]
fn ids_of_a_mount_are_mapped() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle(
        "stat -c '%u %g' /mapped/file; touch /mapped/new; stat -c '%u %g' /mapped/new; cat /mapped/file",
    );
    let dir = source(&bundle);
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["process"]["user"] = json!({"uid": 5000, "gid": 6000});
    // The option is not needed when the maps are there.
    mount(
        &mut bundle,
        json!({"destination": "/mapped", "source": "source", "options": ["bind"],
               "uidMappings": range(0, 5000), "gidMappings": range(0, 6000)}),
    );
    assert_eq!(bundle.run().ok(), "5000 6000\n5000 6000\ncontent");
    let new = fs_err::metadata(dir.join("new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (0, 0));
    bundle.assert_nothing_left();
}

#[test]
fn a_mount_takes_the_containers_own_map() {
    let sandbox = Sandbox::new();
    // The way to the root must be open to the mapped user.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs_err::set_permissions(sandbox.path(""), open).unwrap();
    let mut bundle = sandbox.bundle("stat -c '%u %g' /mapped/file /bin; sleep 100");
    source(&bundle);
    // Who is mapped may make nothing in a root of the host's.
    fs_err::create_dir(bundle.path("rootfs/mapped")).unwrap();
    let script = bundle.config["process"]["args"][2].clone();
    bundle.config["process"]["args"][2] = json!("stat -c '%u %g' /mapped/file /bin");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user"}));
    for maps in ["uidMappings", "gidMappings"] {
        bundle.config["linux"][maps] =
            json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    }
    mount(
        &mut bundle,
        json!({"destination": "/mapped", "source": "source", "options": ["bind", "idmap"]}),
    );
    assert_eq!(bundle.run().ok(), "0 0\n65534 65534");

    // By the map of a user namespace that it joins.
    bundle.config["process"]["args"][2] = script;
    bundle.start();
    let mut other = sandbox.bundle("stat -c '%u %g' /mapped/file");
    fs_err::create_dir(other.path("rootfs/mapped")).unwrap();
    other.config["linux"]["namespaces"] = bundle.config["linux"]["namespaces"].clone();
    let path = format!("/proc/{}/ns/user", bundle.state()["pid"]);
    for namespace in other.config["linux"]["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "user" {
            namespace["path"] = json!(path);
        }
    }
    let dir = source(&bundle);
    mount(
        &mut other,
        json!({"destination": "/mapped", "source": dir, "options": ["bind", "ridmap"]}),
    );
    assert_eq!(other.run().ok(), "0 0");
    other.assert_nothing_left();
}

#[test]
fn maps_hold_for_what_is_below_when_asked() {
    let sandbox = Sandbox::new();
    for (option, below) in [("idmap", "0"), ("ridmap", "5000")] {
        let mut bundle = sandbox.bundle("stat -c %u /mapped/file /mapped/below/inner");
        source(&bundle);
        mount(
            &mut bundle,
            json!({"destination": "/mapped", "source": "source", "options": ["rbind", option],
                   "uidMappings": range(0, 5000), "gidMappings": range(0, 5000)}),
        );
        let script = "mount -t tmpfs tmpfs source/below; touch source/below/inner";
        let output = run_after(&bundle, script);
        let out = String::from_utf8_lossy(&output.stdout);
        assert_eq!(out, format!("5000\n{below}\n"), "{output:?}");
    }
}

#[test]
fn maps_that_cannot_be_are_refused() {
    let sandbox = Sandbox::new();
    for (value, word) in [
        (
            json!({"source": "source", "options": ["bind", "idmap"]}),
            "no user namespace whose maps",
        ),
        (
            json!({"source": "source", "options": ["bind"], "uidMappings": range(0, 1)}),
            "must both be there",
        ),
        (
            json!({"type": "tmpfs", "options": ["idmap"], "uidMappings": range(0, 1), "gidMappings": range(0, 1)}),
            "only a bind mount",
        ),
        (
            json!({"source": "/proc", "options": ["bind", "idmap"], "uidMappings": range(0, 1), "gidMappings": range(0, 1)}),
            "map the ids of /proc",
        ),
    ] {
        let mut bundle = sandbox.bundle("true");
        source(&bundle);
        let mut value = value;
        value["destination"] = json!("/mapped");
        mount(&mut bundle, value);
        let message = bundle.run().fails(1);
        assert!(message.contains(word), "{message}");
        bundle.assert_nothing_left();
    }
}

#[test]
fn what_is_mounted_is_changed() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle(
        "grep -E ' /(scratch|bound) ' /proc/self/mountinfo; echo x > /scratch/x; echo y > /bound/y",
    );
    let dir = source(&bundle);
    for value in [
        json!({"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=64k"]}),
        json!({"destination": "/scratch", "options": ["remount", "ro", "size=32k"]}),
        json!({"destination": "/bound", "source": dir, "options": ["bind", "noexec"]}),
        json!({"destination": "/bound", "options": ["bind", "remount", "ro", "nodev"]}),
    ] {
        mount(&mut bundle, value);
    }
    let ran = bundle.run();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].contains(" /scratch ro,nosuid"), "{lines:?}");
    assert!(lines[0].contains("size=32k"), "{lines:?}");
    assert!(lines[1].contains(" /bound ro,nodev,noexec"), "{lines:?}");
    assert_eq!(ran.stderr.matches("Read-only file system").count(), 2);
    bundle.assert_nothing_left();
}

#[test]
fn attributes_hold_for_what_is_below_when_asked() {
    let sandbox = Sandbox::new();
    for (options, below) in [
        (json!(["rbind", "ro", "nosuid"]), "rw,relatime"),
        (
            json!(["rbind", "rro", "rnosuid", "rnodev", "rnoexec", "rnoatime"]),
            "ro,nosuid,nodev,noexec,noatime",
        ),
        (
            json!(["rbind", "rstrictatime", "rnosymfollow"]),
            "rw,nosymfollow",
        ),
    ] {
        let mut bundle = sandbox.bundle("grep ' /all/below ' /proc/self/mountinfo");
        source(&bundle);
        mount(
            &mut bundle,
            json!({"destination": "/all", "source": "source", "options": options}),
        );
        let output = run_after(&bundle, "mount -t tmpfs tmpfs source/below");
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(
            out.contains(&format!(" /all/below {below}")),
            "{options}: {output:?}"
        );
    }
}

#[test]
fn every_option_of_the_specification_is_taken() {
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle("grep ' /scratch ' /proc/self/mountinfo");
    let words = [
        "defaults",
        "async",
        "sync",
        "dirsync",
        "lazytime",
        "iversion",
        "noiversion",
        "loud",
        "silent",
        "mand",
        "dev",
        "suid",
        "exec",
        "rw",
        "diratime",
        "norelatime",
        "nostrictatime",
        "noatime",
        "symfollow",
        "rprivate",
        "acl",
        "mode=700",
    ];
    mount(
        &mut bundle,
        json!({"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": words}),
    );
    let out = bundle.run().ok();
    for kept in ["noatime", "sync", "dirsync", "lazytime", "mode=700"] {
        assert!(out.contains(kept), "{kept} is not in {out}");
    }
    // An option of a file system has no meaning for a mount of another.
    let mut bundle = sandbox.bundle("true");
    source(&bundle);
    mount(
        &mut bundle,
        json!({"destination": "/x", "source": "source", "options": ["bind", "size=3"]}),
    );
    let message = bundle.run().fails(1);
    assert!(
        message.contains("takes no option of a file system"),
        "{message}"
    );
}

/// The calls that older kernels lack.
const NEWER: [&str; 8] = [
    "open_tree",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "open_tree_attr",
];

/// A container with the powers of the host's root but for `missing` calls, in which a bundle is run by the runtime.
fn outer(sandbox: &Sandbox, inner: &Bundle, missing: &[&str]) -> Bundle {
    let mut outer = sandbox.bundle("");
    outer.config["process"]["args"] = json!([
        "/bin/dhow-runtime",
        "--root",
        inner.root(),
        "run",
        "--bundle",
        inner.path(""),
        inner.id()
    ]);
    let all = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETPCAP",
        "CAP_NET_ADMIN",
        "CAP_SYS_CHROOT",
        "CAP_SYS_PTRACE",
        "CAP_SYS_ADMIN",
        "CAP_MKNOD",
        "CAP_AUDIT_WRITE",
        "CAP_NET_BIND_SERVICE"
    ]);
    outer.config["process"]["capabilities"] =
        json!({"bounding": all, "effective": all, "permitted": all});
    outer.config["process"]["noNewPrivileges"] = json!(false);
    outer.config["root"]["readonly"] = json!(false);
    let config = outer.config.as_object_mut().expect("an object");
    config.remove("hostname");
    let bind = |destination: &Path, source: &Path| json!({"destination": destination, "source": source, "options": ["rbind"]});
    outer.config["mounts"] = json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        bind(Path::new("/sys"), Path::new("/sys")),
        bind(Path::new("/dev"), Path::new("/dev")),
        bind(&sandbox.path(""), &sandbox.path("")),
        bind(Path::new("/bin/dhow-runtime"), &program("dhow-runtime")),
    ]);
    let cgroup = outer.config["linux"]["cgroupsPath"].clone();
    outer.config["linux"] = json!({
        "namespaces": [{"type": "mount"}],
        "cgroupsPath": cgroup,
        "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": missing, "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}
    });
    outer
}

/// A bundle with mounts of many kinds that says what it sees of them.
fn many_mounts(sandbox: &Sandbox) -> Bundle {
    let mut bundle = sandbox.bundle(
        "grep -cE ' (/proc/(bus|sys) ro|/sys/fs/cgroup/[a-z_,=]+ ro|/sys ro)' /proc/self/mountinfo; \
         grep -E ' /(bound|copied|scratch|file) ' /proc/self/mountinfo | sed 's/.* \\(\\/[a-z]* [a-z,]*\\) .*/\\1/' ; \
         cat /bound/file /copied/kept /file; cat /proc/keys | wc -c; readlink /dev/ptmx; echo a > /dev/null; \
         stat -c '%a %F' /dev/null; for f in /new /bound/new /copied/new; do echo x > $f; done",
    );
    std::os::unix::fs::symlink("busybox", bundle.path("rootfs/bin/sed")).expect("symlink");
    let dir = source(&bundle);
    fs_err::create_dir_all(bundle.path("rootfs/copied")).expect("create");
    fs_err::write(bundle.path("rootfs/copied/kept"), "kept\n").expect("write");
    for value in [
        json!({"destination": "/bound", "source": dir, "options": ["rbind", "ro", "nosuid", "rprivate"]}),
        json!({"destination": "/file", "source": dir.join("file"), "options": ["bind"]}),
        json!({"destination": "/copied", "type": "tmpfs", "source": "t", "options": ["tmpcopyup", "ro", "noatime"]}),
        json!({"destination": "/scratch", "type": "tmpfs", "source": "t", "options": ["noexec", "nodev", "size=64k"]}),
        json!({"destination": "/scratch", "options": ["bind", "remount", "ro"]}),
    ] {
        mount(&mut bundle, value);
    }
    bundle
}

#[test]
fn older_kernels_mount_the_same() {
    let sandbox = Sandbox::new();
    let newest = many_mounts(&sandbox).run();
    assert_eq!(
        newest.stderr.matches("Read-only file system").count(),
        3,
        "{}",
        newest.stderr
    );
    assert!(
        newest.stdout.contains("\n/bound ro,nosuid,relatime\n"),
        "{}",
        newest.stdout
    );
    assert!(
        newest
            .stdout
            .contains("\ncontent\nkept\ncontent\n0\npts/ptmx\n666 character"),
        "{}",
        newest.stdout
    );
    // Before Linux 5.12, and before 5.2.
    for missing in [&NEWER[6..], &NEWER[..]] {
        let inner = many_mounts(&sandbox);
        inner.write_config();
        let outer = outer(&sandbox, &inner, missing);
        let ran = outer.run();
        assert_eq!(ran.stdout, newest.stdout, "{missing:?}: {}", ran.stderr);
        assert_eq!(ran.stderr, newest.stderr, "{missing:?}");
        outer.assert_nothing_left();
        inner.assert_nothing_left();
    }
}

#[test]
fn what_older_kernels_cannot_is_refused_there() {
    let sandbox = Sandbox::new();
    for (options, word) in [
        (json!(["rbind", "rro"]), "recursive"),
        (json!(["bind", "idmap"]), "map the ids"),
    ] {
        let mut inner = sandbox.bundle("echo begun");
        let dir = source(&inner);
        let mut value = json!({"destination": "/x", "source": dir, "options": options});
        if word == "map the ids" {
            value["uidMappings"] = range(0, 5000);
            value["gidMappings"] = range(0, 5000);
        }
        mount(&mut inner, value);
        inner.write_config();
        let outer = outer(&sandbox, &inner, &NEWER);
        let ran = outer.run();
        assert_eq!(ran.stdout, "");
        let message = ran.fails(1);
        assert!(message.contains(word), "{message}");
        assert!(message.contains("Linux 5.12"), "{message}");
        inner.assert_nothing_left();
    }
}

/// The bundle, and what is mounted from elsewhere, lie below a directory that only the host's root may enter.
#[test]
fn sources_that_mapped_root_may_not_reach_are_mounted() {
    let sandbox = Sandbox::new();
    fs_err::set_permissions(sandbox.path(""), PermissionsExt::from_mode(0o700)).unwrap();
    sandbox.write("far/file", "from afar");
    sandbox.write("far/secret", "for the host's root alone");
    let secret = PermissionsExt::from_mode(0o600);
    fs_err::set_permissions(sandbox.path("far/secret"), secret).unwrap();
    let mut bundle = sandbox.bundle("cat /far/file /one; cat /far/secret || echo; echo x > /far/new || mount -o remount,rw,bind /far || echo locked");
    let user = json!({"type": "user"});
    bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(user);
    for mappings in ["uidMappings", "gidMappings"] {
        bundle.config["linux"][mappings] = range(0, 100_000);
    }
    // The places of the mounts are there: the image is not mapped root's to change.
    for place in ["far", "none"] {
        fs_err::create_dir(bundle.path("rootfs").join(place)).unwrap();
    }
    fs_err::write(bundle.path("rootfs/one"), "").unwrap();
    let far = sandbox.path("far");
    mount(
        &mut bundle,
        json!({"destination": "/far", "source": far, "options": ["rbind"]}),
    );
    mount(
        &mut bundle,
        json!({"destination": "/one", "source": far.join("file"), "options": ["bind", "ro"]}),
    );
    bundle.write_config();
    // The host has the directory read-only, which the container must not undo.
    let script =
        "set -e; mount --bind \"$1\" \"$1\"; mount -o remount,bind,ro \"$1\"; shift; exec \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(&far);
    command
        .arg(program("dhow-runtime"))
        .arg("--root")
        .arg(bundle.root());
    command
        .args(["run", "--bundle"])
        .arg(bundle.path(""))
        .arg(bundle.id());
    let ran = Ran::from(command.output().unwrap());
    assert_eq!(ran.stdout, "from afarfrom afar\nlocked\n", "{}", ran.stderr);
    // What is not there is told by its name.
    mount(
        &mut bundle,
        json!({"destination": "/none", "source": far.join("none"), "options": ["bind"]}),
    );
    let said = bundle.run().fails(1);
    assert!(
        said.contains("far/none at /none: No such file or directory"),
        "{said}"
    );
    bundle.assert_nothing_left();
}
