//! `dhow` of a user without privileges: his own store, with layers of many owners, in his own user namespace.

use std::os::unix::fs::MetadataExt as _;

use dhow_integration_tests::registry::{Registry, tar};
use dhow_integration_tests::{Ran, Sandbox, Stranger, base_image};

/// A user with a copy of the programs and of busybox.
struct User<'a> {
    stranger: Stranger<'a>,
    sandbox: &'a Sandbox,
}

impl<'a> User<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        let stranger = Stranger::new(sandbox);
        for name in ["dhow", "dhow-monitor"] {
            let program = dhow_integration_tests::program(name);
            fs_err::copy(program, sandbox.path(name)).expect("copy");
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
