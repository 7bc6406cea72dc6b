//! What GNU tar makes of an archive, and what is made of it here: the same trees.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Command;

use kit::{Place, describe, file, header, pax, raw, record, tar};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat};
use tar::EntryType;

/// Unpacks an archive by GNU tar as root of the machine does.
fn by_gnu_tar(archive: &[u8], into: &Path) {
    let mut source = tempfile::NamedTempFile::new().unwrap();
    source.write_all(archive).unwrap();
    let done = Command::new("tar")
        .args([
            "--xattrs",
            "--xattrs-include=*",
            "--same-owner",
            "--numeric-owner",
            "-xpf",
        ])
        .arg(source.path())
        .arg("-C")
        .arg(into)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Both unpack it, and the trees are equal but for the roots, where the archive does not speak of its own.
#[track_caller]
fn equal(archive: &[u8], what: &str) {
    let place = Place::new();
    let unpacked = place
        .unpack(archive)
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let other = tempfile::tempdir().unwrap();
    by_gnu_tar(archive, other.path());
    let (mut ours, mut theirs) = (describe(&place.tree()), describe(other.path()));
    // Of what the archive leaves out, a layer's unpacking says so, and GNU tar makes something up.
    for path in &unpacked.implied {
        ours.remove(path);
        theirs.remove(path);
    }
    assert_eq!(ours, theirs, "{what}");
}

/// A tree of all that a tar can say.
fn everything(root: &Path) {
    let at = |name: &str| root.join(name);
    std::fs::create_dir_all(at("deep/er/and/deeper")).unwrap();
    std::fs::create_dir(at("empty")).unwrap();
    std::fs::write(at("plain"), "plain").unwrap();
    std::fs::write(at("nothing"), "").unwrap();
    std::fs::write(at("blocks"), vec![b'x'; 1024]).unwrap();
    std::fs::write(at("deep/er/and/deeper/file"), "deep").unwrap();
    std::fs::hard_link(at("plain"), at("deep/linked")).unwrap();
    symlink("../plain", at("deep/symbolic")).unwrap();
    symlink("x".repeat(180), at("long-target")).unwrap();
    let long = format!("{}/{}", "l".repeat(120), "m".repeat(200));
    std::fs::create_dir(at(&"l".repeat(120))).unwrap();
    std::fs::write(at(&long), "long").unwrap();
    std::fs::hard_link(at(&long), at("to-long")).unwrap();
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let device = |name: &str, kind, number| mknodat(CWD, at(name), kind, Mode::RUSR, number);
    device("char", FileType::CharacterDevice, makedev(5, 300)).unwrap();
    device("block", FileType::BlockDevice, makedev(259, 7)).unwrap();
    let sparse = File::create(at("sparse")).unwrap();
    sparse.write_at(b"data", 1 << 20).unwrap();
    sparse.set_len(5 << 20).unwrap();
    for (path, mode) in [("plain", 0o6751), ("empty", 0o1777), ("fifo", 0o640)] {
        rustix::fs::chmodat(
            CWD,
            at(path),
            Mode::from_raw_mode(mode),
            rustix::fs::AtFlags::empty(),
        )
        .unwrap();
    }
    for path in ["blocks", "char", "long-target"] {
        std::os::unix::fs::lchown(at(path), Some(1234), Some(4321)).unwrap();
    }
}

fn attributes(root: &Path) {
    let set = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::setxattr(root.join(path), name, value, XattrFlags::empty()).unwrap();
    };
    set("blocks", "user.a=b%3D", b"value\nof = bytes\0");
    set("empty", "user.on-directory", b"");
    let mut capability = [0; 20];
    (capability[0], capability[3], capability[5]) = (1, 2, 4);
    set(
        "deep/er/and/deeper/file",
        "security.capability",
        &capability,
    );
    // A second before 1970, and one that needs more than 33 bits, with fractions.
    for (path, seconds) in [("nothing", -1), ("blocks", 9_000_000_000)] {
        let time = rustix::fs::Timespec {
            tv_sec: seconds,
            tv_nsec: 250_000_000,
        };
        let times = rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, root.join(path), &times, rustix::fs::AtFlags::empty()).unwrap();
    }
}

#[test]
fn archives_of_tar_in_all_its_forms() {
    if !rustix::process::geteuid().is_root() {
        // Owners and devices are root's.
        return;
    }
    let source = tempfile::tempdir().unwrap();
    everything(source.path());
    let forms: [&[&str]; 9] = [
        &["--format=gnu"],
        &["--format=gnu", "--sparse"],
        &["--format=oldgnu"],
        &["--format=posix"],
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1"],
        &["--format=posix", "--sparse", "--sparse-version=1.0"],
        &["--format=posix", "--xattrs", "--xattrs-include=*"],
        &[
            "--format=posix",
            "--hard-dereference",
            "--pax-option=delete=atime,delete=ctime",
        ],
    ];
    for form in forms {
        if form.contains(&"--xattrs") {
            attributes(source.path());
        }
        let made = Command::new("tar")
            .args(form)
            .arg("-cf")
            .arg("-")
            .arg("-C")
            .arg(source.path())
            .arg(".")
            .output()
            .unwrap();
        assert!(made.status.success(), "{form:?}");
        equal(&made.stdout, &format!("{form:?}"));
        if !form.contains(&"--hard-dereference") && !form.contains(&"--format=gnu") {
            // And as it was before it was packed, apart from fractions that this form does not have.
            let place = Place::new();
            place.unpack(made.stdout.as_slice()).unwrap();
            if form.contains(&"--xattrs") {
                assert_eq!(describe(&place.tree()), describe(source.path()), "{form:?}");
            }
        }
    }
}

#[test]
fn archives_of_bsdtar_if_it_is_there() {
    let there = Command::new("bsdtar").arg("--version").output().is_ok();
    if !there || !rustix::process::geteuid().is_root() {
        return;
    }
    let source = tempfile::tempdir().unwrap();
    everything(source.path());
    attributes(source.path());
    // bsdtar writes a time before 1970 with its fraction counted the other way.
    let whole = ["-d", "@-7"].map(String::from);
    let touched = Command::new("touch")
        .args(whole)
        .arg(source.path().join("nothing"))
        .status();
    assert!(touched.unwrap().success());
    for form in ["pax", "gnutar"] {
        let made = Command::new("bsdtar")
            .args(["--format", form, "--no-acls", "-cf", "-", "-C"])
            .arg(source.path())
            .arg(".")
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{form}: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let place = Place::new();
        place.unpack(made.stdout.as_slice()).unwrap();
        if form == "pax" {
            assert_eq!(describe(&place.tree()), describe(source.path()));
        }
    }
}

#[test]
fn archives_that_are_odd() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut numbers = header(EntryType::Regular, 5);
    numbers.as_old_mut().name[0] = b'n';
    numbers.as_old_mut().size = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
    numbers.as_old_mut().mtime = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf0,
    ];
    numbers.as_old_mut().uid = [0x80, 0, 0, 0, 0, 0x30, 0, 0];
    numbers.set_cksum();
    let lone = [
        tar_of("a", b"a"),
        vec![0; 512],
        tar_of("b", b"b"),
        vec![0; 1024],
    ]
    .concat();
    let twice = [
        tar_of("a", b"a"),
        vec![0; 1024],
        tar_of("b", b"b"),
        vec![0; 1024],
    ]
    .concat();
    let cases: [(&str, Vec<u8>); 12] = [
        (
            "base 256",
            tar(|tar| tar.append(&numbers, &b"12345"[..]).unwrap()),
        ),
        ("one block of zeros in between", lone),
        ("something behind the end", twice),
        ("no end", tar_of("a", b"a")),
        (
            "rubbish behind the end",
            [tar_of("a", b"a"), vec![0; 1024], vec![7; 3000]].concat(),
        ),
        (
            "the same name again",
            tar(|tar| {
                file(tar, "a", b"first");
                file(tar, "a", b"second, and longer");
                raw(tar, EntryType::Link, "b", "a", b"");
                file(tar, "a", b"third");
            }),
        ),
        (
            "a directory as before POSIX",
            tar(|tar| {
                file(tar, "old/", b"");
                file(tar, "old/in", b"in");
            }),
        ),
        (
            "a contiguous file",
            tar(|tar| raw(tar, EntryType::Continuous, "c", "", b"content")),
        ),
        (
            "a size of pax",
            tar(|tar| {
                pax(
                    tar,
                    &[
                        ("size", b"7"),
                        ("mtime", b"1.5"),
                        ("comment", b"of no meaning"),
                    ],
                );
                let mut short = header(EntryType::Regular, 3);
                short.as_old_mut().name[0] = b's';
                short.set_cksum();
                tar.append(&short, &b"content"[..]).unwrap();
                file(tar, "after", b"after");
            }),
        ),
        (
            "pax over GNU over the header",
            tar(|tar| {
                raw(tar, EntryType::GNULongName, "././@LongLink", "", b"gnu\0");
                pax(tar, &[("path", b"first"), ("path", b"pax")]);
                file(tar, "header", b"");
            }),
        ),
        (
            "names with dots and slashes",
            tar(|tar| {
                file(tar, "./a//./b", b"");
                raw(tar, EntryType::Directory, "./a/", "", b"");
                raw(tar, EntryType::Link, "./c", "./a/b", b"");
            }),
        ),
        (
            "an attribute twice",
            tar(|tar| {
                let value = |value: &str| record("SCHILY.xattr.user.a", value);
                raw(
                    tar,
                    EntryType::XHeader,
                    "x",
                    "",
                    &[value("1"), value("2")].concat(),
                );
                file(tar, "a", b"");
            }),
        ),
    ];
    for (what, archive) in cases {
        equal(&archive, what);
    }
}

/// An archive of one file, without its end.
fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = tar(|tar| file(tar, name, content));
    bytes.truncate(bytes.len() - 1024);
    bytes
}
