//! `COPY` and `ADD`: what is copied, where to, and as what.

#![allow(clippy::unwrap_used)] // What fails in a test is to stop it.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use dhow_integration_tests::Sandbox;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    sandbox
}

/// Builds `FROM scratch` with these lines and gives the image's files without its root.
#[track_caller]
fn files(sandbox: &Sandbox, lines: &str) -> Vec<String> {
    sandbox.dockerfile(&format!("FROM scratch\n{lines}\n"));
    sandbox.build(["-q", "-t", "copied"]).ok();
    sandbox.files_of("copied").split_off(1)
}

#[test]
fn directories_files_and_slashes() {
    let sandbox = sandbox();
    sandbox.write("context/d/a", "a");
    sandbox.write("context/d/e/b", "b");
    sandbox.write("context/x.txt", "x");
    sandbox.write("context/y.txt", "y");
    assert_eq!(
        files(&sandbox, "COPY d /to"),
        [
            "./to directory 755 0:0",
            "./to/a regular file 644 0:0",
            "./to/e directory 755 0:0",
            "./to/e/b regular file 644 0:0"
        ]
    );
    assert_eq!(
        files(&sandbox, "COPY x.txt /to")[0],
        "./to regular file 644 0:0"
    );
    assert_eq!(
        files(&sandbox, "COPY x.txt to/")[1],
        "./to/x.txt regular file 644 0:0"
    );
    assert_eq!(
        files(&sandbox, "WORKDIR /w\nCOPY *.txt d/e ./")[1..],
        [
            "./w/b regular file 644 0:0",
            "./w/x.txt regular file 644 0:0",
            "./w/y.txt regular file 644 0:0"
        ]
    );
    assert_eq!(files(&sandbox, "COPY x.txt /a\nCOPY y.txt /a").len(), 1);
    assert_eq!(
        files(&sandbox, "COPY [\"x.txt\", \"/with space/\"]")[1],
        "./with space/x.txt regular file 644 0:0"
    );
    assert_eq!(files(&sandbox, "COPY ?.none /a").len(), 0);
    assert_eq!(
        files(&sandbox, "COPY --chmod=600 --chown=7:8 d /to")[..2],
        ["./to directory 755 7:8", "./to/a regular file 600 7:8"]
    );
    assert_eq!(
        files(&sandbox, "COPY --exclude=d/e --exclude=*.txt . /to").len(),
        4
    );
}

#[test]
fn modes_links_and_names_are_kept() {
    let sandbox = sandbox();
    let program = sandbox.write("context/d/program", "p");
    fs_err::set_permissions(&program, std::fs::Permissions::from_mode(0o4755)).unwrap();
    symlink("program", sandbox.path("context/d/link")).unwrap();
    symlink("/nowhere/at/all", sandbox.path("context/d/dangling")).unwrap();
    fs_err::hard_link(&program, sandbox.path("context/d/same")).unwrap();
    let copied = files(&sandbox, "COPY d /to\nCOPY d/link /file");
    assert_eq!(
        copied,
        [
            "./file regular file 4755 0:0",
            "./to directory 755 0:0",
            "./to/dangling symbolic link 777 0:0",
            "./to/link symbolic link 777 0:0",
            "./to/program regular file 4755 0:0",
            "./to/same regular file 4755 0:0"
        ]
    );
    let inodes = sandbox.inspect_files("copied", "stat -c file:%i to/program to/same");
    assert_eq!(inodes[0], inodes[1]);
}

#[test]
fn names_of_owners_are_the_images_own() {
    let sandbox = sandbox();
    sandbox.write("context/x", "x");
    sandbox.dockerfile("FROM busybox\nRUN echo 'me:x:4321:99::/:/bin/sh' >> /etc/passwd\nCOPY --chown=me x /a\nCOPY --chown=me:nogroup x /b\n");
    sandbox.build(["-q", "-t", "owned"]).ok();
    let owners = sandbox.inspect_files("owned", "stat -c file:%u:%g a b");
    assert_eq!(owners, ["4321:99", "4321:65534"]);
    sandbox.dockerfile("FROM busybox\nCOPY --chown=nobodyatall x /a\n");
    let said = sandbox.build([]).fails(125);
    assert!(
        said.contains("Dockerfile:2: COPY --chown=nobodyatall x /a: no user \"nobodyatall\""),
        "{said}"
    );
}

#[test]
fn from_a_stage_or_an_image_owners_are_kept() {
    let sandbox = sandbox();
    sandbox.dockerfile("FROM busybox AS a\nRUN mkdir -p /d/e && echo x > /d/e/f && chown -R 5:6 /d && chmod 700 /d/e\nFROM scratch\nCOPY --from=a /d /d\nCOPY --from=busybox /etc/passwd /p\n");
    sandbox.build(["-q", "-t", "copied"]).ok();
    assert_eq!(
        sandbox.files_of("copied")[1..],
        [
            "./d directory 755 0:0",
            "./d/e directory 700 5:6",
            "./d/e/f regular file 644 5:6",
            "./p regular file 644 0:0"
        ]
    );
}

/// What of the extended attributes stands in the tars of an image's layers: how often each key does.
fn keys_in(sandbox: &Sandbox, image: &str, keys: [&str; 3]) -> [usize; 3] {
    let saved = sandbox.path("saved.tar");
    sandbox
        .dhow(["save", "-o", saved.to_str().unwrap(), image])
        .ok();
    let bytes = std::fs::read(&saved).unwrap();
    keys.map(|key| {
        let key = format!(" SCHILY.xattr.{key}=");
        let windows = bytes.windows(key.len());
        windows.filter(|window| *window == key.as_bytes()).count()
    })
}

#[test]
fn attributes_and_acls_go_from_stage_to_stage() {
    let sandbox = Sandbox::new();
    // The user 1000 may read and write (acl(5), and the kernel's posix_acl_xattr.h).
    let entries = [(1_u16, 6_u16, u32::MAX), (2, 6, 1000), (4, 4, u32::MAX)];
    let entries = entries
        .into_iter()
        .chain([(0x10, 6, u32::MAX), (0x20, 0, u32::MAX)]);
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    let file = sandbox.write("context/from/d/f", "f");
    let directory = file.parent().unwrap();
    let keys = [
        "system.posix_acl_access",
        "system.posix_acl_default",
        "user.name",
    ];
    for (path, key, value) in [
        (file.as_path(), keys[0], acl.as_slice()),
        (directory, keys[1], acl.as_slice()),
        (directory, keys[2], b"of a directory".as_slice()),
    ] {
        rustix::fs::setxattr(path, key, value, rustix::fs::XattrFlags::empty()).unwrap();
    }
    let made = Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "-C"])
        .arg(sandbox.path("context/from"))
        .arg("-cf")
        .arg(sandbox.path("context/x.tar"))
        .arg("d")
        .status()
        .unwrap();
    assert!(made.success());
    sandbox.dockerfile("FROM scratch AS a\nADD x.tar /\nFROM scratch\nCOPY --from=a / /to/\n");
    sandbox.build(["-q", "-t", "stages"]).ok();
    assert_eq!(keys_in(&sandbox, "stages", keys), [1, 1, 1]);
    // An ACL would take the mode back that is asked for, and a context's names users of the host.
    sandbox.dockerfile(
        "FROM scratch AS a\nADD x.tar /\nFROM scratch\nCOPY --from=a --chmod=600 / /to/\n",
    );
    sandbox.build(["-q", "-t", "modes"]).ok();
    assert_eq!(keys_in(&sandbox, "modes", keys), [0, 1, 1]);
    sandbox.dockerfile("FROM scratch\nCOPY from /to/\n");
    sandbox.build(["-q", "-t", "context"]).ok();
    assert_eq!(keys_in(&sandbox, "context", keys), [0, 0, 1]);
}

#[test]
fn links_in_the_destination_are_followed_inside_the_root() {
    let sandbox = sandbox();
    sandbox.write("context/x", "new");
    sandbox.dockerfile(
        "FROM busybox\nRUN mkdir /real && ln -s /real /link && ln -s ../../../../real/target /file && ln -s /made/later /dangling\nCOPY x /link/\nCOPY x /file\nCOPY x /dangling\n",
    );
    sandbox.build(["-q", "-t", "a"]).ok();
    for path in ["real/x", "real/target", "made/later"] {
        assert_eq!(sandbox.text_of("a", path), "new");
    }
    sandbox.dockerfile("FROM busybox\nRUN ln -s /etc /d\nCOPY x /d\nCOPY . /d\n");
    sandbox.write("context/passwd/x", "");
    let said = sandbox.build([]).fails(125);
    assert!(
        said.contains("is no directory, and a directory cannot replace it"),
        "{said}"
    );
    sandbox.dockerfile("FROM busybox\nCOPY x /tmp/etc\nRUN mkdir /y\nCOPY --from=busybox /etc/passwd /y/z/\nCOPY x /y/z/passwd\nRUN rm /y/z/passwd && mkdir /y/z/x\nCOPY x /y/z/\n");
    let said = sandbox.build([]).fails(125);
    assert!(
        said.contains("is a directory, which a file cannot replace"),
        "{said}"
    );
}

#[test]
fn the_context_ends_at_its_root() {
    let sandbox = sandbox();
    let secret = sandbox.write("secret", "s");
    sandbox.write("context/in/x", "x");
    symlink(&secret, sandbox.path("context/absolute")).unwrap();
    symlink("../secret", sandbox.path("context/up")).unwrap();
    symlink("..", sandbox.path("context/dir")).unwrap();
    symlink("/in", sandbox.path("context/inside")).unwrap();
    for source in [
        "absolute",
        "up",
        "dir/secret",
        "../secret",
        "in/../../secret",
    ] {
        sandbox.dockerfile(&format!("FROM scratch\nCOPY {source} /s\n"));
        let said = sandbox.build([]).fails(125);
        assert!(said.contains("is not in the context"), "{source}: {said}");
    }
    assert_eq!(
        files(&sandbox, "COPY inside/x /x"),
        ["./x regular file 644 0:0"]
    );
}

#[test]
fn ignore_files() {
    let sandbox = sandbox();
    for file in [
        "a.o",
        "src/b.o",
        "src/main.c",
        "keep.o",
        "docs/x.md",
        "docs/y.txt",
    ] {
        sandbox.write(&format!("context/{file}"), "");
    }
    sandbox.write(
        "context/.dockerignore",
        "# no comment\n**/*.o\n!keep.o\ndocs\n!docs/*.txt\nDockerfile\n.dockerignore\n",
    );
    let copied = files(&sandbox, "COPY . /");
    let names: Vec<&str> = copied
        .iter()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(
        names,
        [
            "./docs",
            "./docs/y.txt",
            "./keep.o",
            "./src",
            "./src/main.c"
        ]
    );
    sandbox.dockerfile("FROM scratch\nCOPY a.o /\n");
    let said = sandbox.build([]).fails(125);
    assert!(
        said.contains("a.o is not in the context: ")
            && said.contains(".dockerignore leaves it out"),
        "{said}"
    );
    sandbox.write("context/.dockerignore", "[\n");
    let said = sandbox.build([]).fails(125);
    assert!(
        said.contains(".dockerignore:1: \"[\" is not a pattern"),
        "{said}"
    );
}

#[test]
fn archives_are_unpacked_by_add_alone() {
    let sandbox = sandbox();
    sandbox.write("context/tree/d/f", "f");
    for (options, name) in [("-cf", "plain.tar"), ("-czf", "zipped.tgz")] {
        let made = Command::new("tar")
            .args(["--owner=3", "--group=4", "-C"])
            .arg(sandbox.path("context/tree"))
            .arg(options)
            .arg(sandbox.path(format!("context/{name}")))
            .arg("d")
            .status()
            .unwrap();
        assert!(made.success());
    }
    sandbox.write("context/fake.tar", "this is no archive");
    assert_eq!(
        files(
            &sandbox,
            "ADD plain.tar /one/\nADD zipped.tgz /two\nADD fake.tar /three/\nADD --unpack=false plain.tar /four/\nCOPY plain.tar /five\nADD --chown=9:9 plain.tar /six"
        ),
        [
            "./five regular file 644 0:0",
            "./four directory 755 0:0",
            "./four/plain.tar regular file 644 0:0",
            "./one directory 755 0:0",
            "./one/d directory 755 3:4",
            "./one/d/f regular file 644 3:4",
            "./six directory 755 9:9",
            "./six/d directory 755 9:9",
            "./six/d/f regular file 644 9:9",
            "./three directory 755 0:0",
            "./three/fake.tar regular file 644 0:0",
            "./two directory 755 0:0",
            "./two/d directory 755 3:4",
            "./two/d/f regular file 644 3:4"
        ]
    );
    sandbox.write("context/x.tar.xz", b"\xfd7zXZ\0rest");
    sandbox.dockerfile("FROM scratch\nADD x.tar.xz /\n");
    assert!(sandbox.build([]).fails(125).contains("use gzip or zstd"));
}
