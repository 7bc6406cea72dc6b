//! ACLs, and directories that take over what the layers below have: each has its own, and nothing of what it happens to lie in.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use dhow_layer::{
    PackOptions, UnpackOptions, XattrFlavour, inherit, inherit_root, kept_attributes, pack, unpack,
};
use kit::{describe, pax, raw, tar};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, mknodat};
use tar::EntryType;

const DEFAULT: &str = "system.posix_acl_default";
const ACCESS: &str = "system.posix_acl_access";

/// An ACL by which the user 1000 may do everything, too (acl(5), and the kernel's posix_acl_xattr.h).
fn acl() -> Vec<u8> {
    let entry = |tag: u16, permissions: u16, id: u32| {
        let parts = [tag.to_le_bytes(), permissions.to_le_bytes()].concat();
        [parts, id.to_le_bytes().to_vec()].concat()
    };
    let nobody = u32::MAX;
    let entries = [
        entry(1, 7, nobody),
        entry(2, 7, 1000),
        entry(4, 5, nobody),
        entry(0x10, 7, nobody),
        entry(0x20, 5, nobody),
    ];
    [2_u32.to_le_bytes().to_vec(), entries.concat()].concat()
}

fn set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn set_time(path: &Path, seconds: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn pack_all(tree: &Path, normalise: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let options = PackOptions {
        flavour: XattrFlavour::Trusted,
        normalise,
        lowers: &[],
    };
    pack(File::open(tree).unwrap().as_fd(), &mut bytes, &options).unwrap();
    bytes
}

fn unpack_all(bytes: &[u8], into: &Path) -> Vec<std::path::PathBuf> {
    let options = UnpackOptions {
        flavour: XattrFlavour::Trusted,
    };
    let into = File::open(into).unwrap();
    unpack(bytes, into.as_fd(), &options).unwrap().implied
}

#[test]
fn what_lies_below_a_default_acl_has_only_its_own() {
    let place = tempfile::tempdir().unwrap();
    let (before, after) = (place.path().join("before"), place.path().join("after"));
    let at = |name: &str| before.join(name);
    std::fs::create_dir_all(at("d/sub/deeper")).unwrap();
    std::fs::create_dir(&after).unwrap();
    for name in ["d/plain", "d/shared", "d/sub/file"] {
        std::fs::write(at(name), name).unwrap();
    }
    mknodat(CWD, at("d/fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    set(&at("d/shared"), ACCESS, &acl());
    set(&at("d/sub/deeper"), ACCESS, &acl());
    // After their content is there, which would have taken it over.
    for name in ["", "d", "d/sub/deeper"] {
        set(&at(name), DEFAULT, &acl());
    }
    for name in ["d/sub/deeper", "d/sub", "d", ""] {
        set_time(&at(name), 1_000_000);
    }
    let bytes = pack_all(&before, true);
    assert!(unpack_all(&bytes, &after).is_empty());
    assert_eq!(describe(&before), describe(&after));
    assert!(pack_all(&after, false) == bytes);
}

#[test]
fn a_replaced_directorys_default_acl_goes_with_it() {
    let place = tempfile::tempdir().unwrap();
    let key = format!("SCHILY.xattr.{DEFAULT}");
    let bytes = tar(|tar| {
        pax(tar, &[(&key, &acl())]);
        raw(tar, EntryType::Directory, "d", "", b"");
        pax(tar, &[(&key, &acl())]);
        raw(tar, EntryType::Directory, "d/e", "", b"");
        raw(tar, EntryType::Regular, "d", "", b"now a file");
        raw(tar, EntryType::Regular, "d", "", b"again");
        raw(tar, EntryType::Directory, "d/", "", b"");
        raw(tar, EntryType::Directory, "d/e", "", b"");
    });
    unpack_all(&bytes, place.path());
    for name in ["d", "d/e"] {
        let directory = File::open(place.path().join(name)).unwrap();
        let kept = kept_attributes(directory.as_fd()).unwrap();
        assert!(kept.is_empty(), "{name}: {kept:?}");
    }
}

#[test]
fn left_out_directories_take_attributes_over() {
    let place = tempfile::tempdir().unwrap();
    let (below, above) = (place.path().join("below"), place.path().join("above"));
    std::fs::create_dir_all(below.join("d/e")).unwrap();
    std::fs::create_dir(&above).unwrap();
    for name in ["", "d", "d/e"] {
        set(&below.join(name), "user.name", name.as_bytes());
        set(&below.join(name), ACCESS, &acl());
        set(&below.join(name), DEFAULT, &acl());
        set_time(&below.join(name), 1_000_000);
    }
    let bytes = tar(|tar| raw(tar, EntryType::Regular, "d/e/f", "", b""));
    let implied = unpack_all(&bytes, &above);
    assert_eq!(implied, ["", "d", "d/e"].map(std::path::PathBuf::from));
    let lower = File::open(&below).unwrap();
    let tree = File::open(&above).unwrap();
    inherit(tree.as_fd(), &implied, &[lower.as_fd()]).unwrap();
    std::fs::remove_file(above.join("d/e/f")).unwrap();
    set_time(&above.join("d/e"), 1_000_000);
    assert_eq!(describe(&below), describe(&above));

    let fresh = place.path().join("fresh");
    std::fs::create_dir(&fresh).unwrap();
    let root = File::open(&fresh).unwrap();
    inherit_root(root.as_fd(), &[lower.as_fd()]).unwrap();
    assert_eq!(
        describe(&below)[Path::new("")],
        describe(&fresh)[Path::new("")]
    );
}
