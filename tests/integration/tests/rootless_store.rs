//! `dhow` of a user without privileges: his own store, with layers of many owners, in his own user namespace.

use std::os::unix::fs::MetadataExt as _;

use dhow_integration_tests::registry::{Registry, tar};
use dhow_integration_tests::{Ran, Sandbox, Stranger, base_image, copy_program, program, until};

/// A user with a copy of the programs and of busybox.
struct User<'a> {
    stranger: Stranger<'a>,
    sandbox: &'a Sandbox,
}

impl<'a> User<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        let stranger = Stranger::new(sandbox);
        for name in ["dhow", "dhow-monitor"] {
            copy_program(program(name), sandbox.path(name));
        }
        let user = Self { stranger, sandbox };
        user.file(
            "busybox.tar",
            &fs_err::read(base_image("busybox")).expect("busybox"),
        );
        user
    }

    /// A file in his home.
    fn file(&self, name: &str, content: &[u8]) {
        let path = self.sandbox.write(&format!("home/{name}"), content);
        self.stranger.give(&path);
        self.stranger.give(path.parent().expect("a parent"));
    }

    /// A shell script of his in which `dhow` is the program.
    fn shell(&self, script: &str) -> Ran {
        let dhow = self.sandbox.path("dhow");
        self.stranger.shell(&format!(
            "dhow() {{ {} \"$@\"; }}; {script}",
            dhow.display()
        ))
    }
}

/// A layer with a file of another user's, a directory that hides what is below it, and a link.
fn layer_of_others() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut append = |name: &str, owner: u64, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        tar.append_data(&mut header, name, content).expect("append");
    };
    append("home/other", 1234, 0o600, b"mine");
    append("home/root", 0, 0o4755, b"root's");
    tar.into_inner().expect("the tar")
}

#[test]
fn a_user_pulls_tags_pushes_saves_and_loads_in_a_store_of_his_own() {
    let sandbox = Sandbox::new();
    let user = User::new(&sandbox);
    let registry = Registry::embedded();
    registry.push_image("app", "1", &[tar("file", b"content"), layer_of_others()]);
    let host = registry.address();
    let name = format!("{host}/app:1");
    // The enclosure shares the network.
    user.shell(&format!("dhow pull -q {name}")).ok();
    assert_eq!(user.shell("dhow images -q | wc -l").ok(), "1");
    let owners = user.shell("find .local/share/dhow/trees -name other").ok();
    let other = fs_err::metadata(sandbox.path("home").join(owners)).expect("the file");
    assert_eq!(other.uid(), Stranger::FIRST + 1233);
    user.shell(&format!(
        "dhow tag {name} {host}/again:2 && dhow push -q {host}/again:2"
    ))
    .ok();
    let digest = |repository: &str, tag: &str| {
        let answer = registry.get(&format!("/v2/{repository}/manifests/{tag}"));
        answer.header("docker-content-digest").to_owned()
    };
    assert_eq!(digest("again", "2"), digest("app", "1"));
    user.shell(&format!(
        "dhow save -q -o app.tar {name} && dhow rmi {name} {host}/again:2 && dhow system prune -f"
    ))
    .ok();
    assert_eq!(
        user.shell("dhow images -q; ls .local/share/dhow/trees")
            .ok(),
        ""
    );
    user.shell("dhow load -q -i app.tar").ok();
    assert_eq!(user.shell("dhow system check").ok(), "0 damaged, 0 left");
    assert_eq!(
        user.shell("dhow history -q app:1 >/dev/null 2>&1; dhow images --format json | wc -l")
            .ok(),
        "1"
    );
    // Nobody else's place is touched.
    assert!(!sandbox.path("root").exists());
}

#[test]
fn a_user_runs_containers_in_the_foreground_and_in_the_background() {
    let sandbox = Sandbox::new();
    let user = User::new(&sandbox);
    user.shell("dhow import busybox.tar busybox").ok();
    for network in ["none", "host"] {
        let ids = "id -u; touch /made; chown 1234:5 /made; exit 7";
        let run = format!("dhow run --rm --network {network} busybox sh -c '{ids}'");
        let ran = user.shell(&format!(
            "{run} | tr -s ' ' | head -c 20; {run} >/dev/null; echo \"=$?\""
        ));
        let seen = ran.ok();
        assert!(
            seen.starts_with("0\n") && seen.ends_with("=7"),
            "{network}: {seen}"
        );
    }
    // A container that others can enter and end, from other processes of the user.
    let script = "dhow run -d --name one --network none busybox sleep 1000 >/dev/null &&
        dhow exec one sh -c 'echo inside >/file; cat /file' && dhow ps --format json | grep -c running &&
        dhow run --rm --network none busybox cat /proc/1/comm && dhow stop -t 0 one && dhow logs one && dhow rm one && dhow ps -aq";
    let seen = user.shell(script).ok();
    assert_eq!(seen, "inside\n1\ncat\none\none");
    let limit = user
        .shell("dhow run --rm --network none --memory 64m busybox true")
        .fails(125);
    assert!(limit.contains("memory"), "{limit}");
}

#[test]
fn a_user_builds_images() {
    let sandbox = Sandbox::new();
    let user = User::new(&sandbox);
    user.shell("dhow import busybox.tar busybox").ok();
    user.file("context/file", b"from the context");
    user.file(
        "context/Dockerfile",
        b"FROM busybox\nCOPY --chown=1234:5 file /dir/file\nRUN id -u >/who && rm /bin/vi && chown 99:98 /who\nUSER 99\nCMD cat /dir/file /who; stat -c %u:%g /dir/file /who; ls /bin/vi\n",
    );
    user.shell("dhow build -q -t app context").ok();
    let ran = user.shell("dhow run --rm --network none app; echo $?");
    assert_eq!(
        ran.stdout, "from the context0\n1234:5\n99:98\n1\n",
        "{ran:?}"
    );
    assert_eq!(user.shell("dhow system check").ok(), "0 damaged, 0 left");
    // The same steps are in the cache of the next process, and the image goes where root has it, too.
    let again = user.shell("dhow build -t app context 2>&1").ok();
    assert!(again.contains("0 steps run, 2 cached"), "{again}");
    user.shell("dhow save -q -o app.tar app").ok();
    let archive = sandbox.path("home/app.tar");
    let root = Sandbox::new();
    root.dhow(["load", "-q", "-i", archive.to_str().expect("a path")])
        .ok();
    let owners = root.dhow(["run", "--rm", "--network=none", "app"]).stdout;
    assert_eq!(owners, "from the context0\n1234:5\n99:98\n");
}

#[test]
fn a_namespace_below_the_users_own_is_not_taken_for_it() {
    let sandbox = Sandbox::new();
    let user = User::new(&sandbox);
    user.shell("dhow import busybox.tar busybox").ok();
    let monitor_of = |name: &str| {
        let start =
            format!("dhow run -d --name {name} --network none busybox sleep 1000 >/dev/null");
        let find = format!("dhow inspect --format '{{{{.State.Pid}}}}' {name}");
        let pid = user.shell(&format!("{start} && {find}")).ok();
        let parent = format!("sed -n 's/^PPid:\t//p' /proc/{pid}/status");
        user.shell(&parent).ok()
    };
    let root = |script: &str| user.stranger.enclosure().shell(script).ok();
    let first = monitor_of("first");
    // One level further down lives a program of the family's name. For who looks from outside, the maps of a namespace that maps
    // all ids to themselves are those of the one above.
    let place = sandbox.path("home").display().to_string();
    root(&format!(
        "cd {place} && mkfifo -m 666 go && mkdir fake && cp /bin/sleep fake/dhow"
    ));
    let count = Stranger::COUNT;
    let below = root(&format!(
        "cd {place} && above=$(readlink /proc/{first}/ns/user) || exit 1
        within() {{
            turns=6000
            until \"$@\"; do
                turns=$((turns - 1))
                [ $turns -gt 0 ] || {{ echo \"never: $*\" >&2; exit 1; }}
                sleep 0.01
            done
        }}
        is_below() {{
            its=$(readlink /proc/$1/ns/user) && [ $its != $above ] && [ $its != $(readlink /proc/self/ns/user) ]
        }}
        nsenter --user --target {first} unshare --user sh -c 'read x <go; exec fake/dhow 1000' </dev/null >/dev/null 2>&1 &
        within is_below $!
        for map in uid_map gid_map; do
            nsenter --user --target {first} sh -c \"printf '0 0 1\\n1 1 {count}\\n' >/proc/$!/$map\"
        done
        timeout 60 sh -c 'echo >go' && within grep -qx dhow /proc/$!/comm && echo $!"
    ));
    user.shell("dhow rm -f first").ok();
    let gone = || user.shell(&format!("test -e /proc/{first}")).status == 1;
    until("the first monitor is gone", gone);
    let second = monitor_of("second");
    let maps = root(&format!("cat /proc/{below}/uid_map /proc/{second}/uid_map"));
    let maps: Vec<&str> = maps.lines().collect();
    assert_eq!(maps[..2], maps[2..]);
    let namespace = |pid: &str| root(&format!("readlink /proc/{pid}/ns/user"));
    assert_ne!(namespace(&below), namespace(&second));
    user.shell("dhow exec second true && dhow rm -f second")
        .ok();
    // Its own it does find again.
    let third = monitor_of("third");
    let fourth = monitor_of("fourth");
    assert_eq!(namespace(&third), namespace(&fourth));
    user.shell("dhow rm -f third fourth").ok();
}

#[test]
fn a_user_namespace_of_a_containers_own_takes_root() {
    let sandbox = Sandbox::new();
    let user = User::new(&sandbox);
    user.shell("dhow import busybox.tar busybox").ok();
    for flags in ["--userns auto", "--uidmap 0:0:1"] {
        let said = user
            .shell(&format!("dhow run {flags} busybox true"))
            .fails(125);
        assert!(said.contains("the machine's root"), "{said}");
    }
    let seen = user.shell("dhow run --rm --userns host busybox id -u").ok();
    assert_eq!(seen, "0");
    assert_eq!(user.shell("dhow ps -aq").ok(), "");
}

#[test]
fn a_device_in_a_layer_takes_root() {
    let sandbox = Sandbox::new();
    let user = User::new(&sandbox);
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Block);
    header.set_device_major(7).expect("a number");
    header.set_device_minor(0).expect("a number");
    header.set_size(0);
    header.set_mode(0o600);
    tar.append_data(&mut header, "dev/loop", &b""[..])
        .expect("append");
    user.file("device.tar", &tar.into_inner().expect("the tar"));
    let said = user.shell("dhow import device.tar device").fails(125);
    assert!(
        said.contains("dev/loop") && said.contains("as root"),
        "{said}"
    );
    assert_eq!(
        user.shell("dhow images -q; ls .local/share/dhow/trees")
            .ok(),
        ""
    );
}
