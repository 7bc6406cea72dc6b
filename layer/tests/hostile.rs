//! Tars that were made to do harm, and tars that are only odd.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use dhow_layer::{ExtractOptions, UnpackError, extract};
use kit::{Place, file, header, raw, record, tar};
use tar::EntryType;

#[test]
fn names_with_dots_are_refused() {
    for name in ["../outside", "a/../../outside", "..", "./../outside"] {
        let place = Place::new();
        let error = place
            .unpack(tar(|tar| file(tar, name, b"!")).as_slice())
            .unwrap_err();
        assert!(
            matches!(error, UnpackError::Refused { .. }),
            "{name}: {error}"
        );
        assert!(error.to_string().contains(".."), "{error}");
    }
}

#[test]
fn an_absolute_name_lies_in_the_root() {
    let place = Place::new();
    place
        .unpack(tar(|tar| file(tar, "/etc/passwd", b"mine")).as_slice())
        .unwrap();
    assert_eq!(place.text("etc/passwd"), "mine");
}

#[test]
fn links_are_followed_inside_the_root_only() {
    for target in ["../..", "/", "..", "/../.."] {
        let place = Place::new();
        let made = place.unpack(
            tar(|tar| {
                raw(tar, EntryType::Symlink, "link", target, b"");
                file(tar, "link/outside", b"!");
            })
            .as_slice(),
        );
        made.unwrap();
        assert_eq!(place.text("outside"), "!", "{target}");
    }
    let place = Place::new();
    let tar = tar(|tar| {
        raw(tar, EntryType::Symlink, "loop", "loop", b"");
        file(tar, "loop/x", b"!");
    });
    place.unpack(tar.as_slice()).unwrap_err();
}

#[test]
fn a_file_is_not_written_through_a_link() {
    let place = Place::new();
    let outside = place.dir.path().join("outside");
    let outside = outside.to_str().unwrap().to_owned();
    let tar = tar(|tar| {
        raw(tar, EntryType::Symlink, "x", &outside, b"");
        file(tar, "x", b"a file now");
    });
    place.unpack(tar.as_slice()).unwrap();
    assert_eq!(place.text("x"), "a file now");
}

#[test]
fn hard_links_lead_to_what_the_layer_has() {
    for (name, target) in [("x", "../outside"), ("x", "nothing"), ("x", "x")] {
        let place = Place::new();
        let tar = tar(|tar| raw(tar, EntryType::Link, name, target, b""));
        let error = place.unpack(tar.as_slice()).unwrap_err();
        assert!(matches!(error, UnpackError::Refused { .. }), "{error}");
    }
    let place = Place::new();
    let tar = tar(|tar| {
        file(tar, "a/x", b"x");
        raw(tar, EntryType::Link, "b/y", "/a/x", b"");
    });
    place.unpack(tar.as_slice()).unwrap();
    assert_eq!(place.tree().join("b/y").metadata().unwrap().nlink(), 2);
}

#[test]
fn the_last_of_equal_names_counts() {
    let place = Place::new();
    let tar = tar(|tar| {
        file(tar, "a", b"first");
        file(tar, "a", b"second");
        file(tar, "d/x/y", b"");
        file(tar, "d", b"a file in place of a directory");
        raw(tar, EntryType::Symlink, "s", "a", b"");
        raw(tar, EntryType::Directory, "s", "", b"");
        file(tar, "s/in", b"in");
    });
    place.unpack(tar.as_slice()).unwrap();
    assert_eq!(place.text("a"), "second");
    assert_eq!(place.text("d"), "a file in place of a directory");
    assert_eq!(place.text("s/in"), "in");
}

#[test]
fn extension_headers_without_end_are_refused() {
    let place = Place::new();
    let many = tar(|tar| {
        for _ in 0..1000 {
            raw(tar, EntryType::XHeader, "x", "", b"11 path=ab\n");
        }
    });
    place.unpack(many.as_slice()).unwrap_err();
    // One that promises to be endless; no memory is taken for it.
    let mut huge = header(EntryType::XHeader, 0);
    huge.set_size(1 << 40);
    huge.set_cksum();
    let endless = io::repeat(b'x');
    let error = place.unpack(huge.as_bytes().chain(endless)).unwrap_err();
    assert!(error.to_string().contains("1 MiB"), "{error}");
}

#[test]
fn a_broken_stream_is_an_error() {
    let whole = tar(|tar| file(tar, "a", &[7; 5000]));
    for length in [1, 511, 513, 3000] {
        let place = Place::new();
        let error = place.unpack(&whole[..length]).unwrap_err();
        assert!(
            matches!(error, UnpackError::Malformed { .. }),
            "{length}: {error}"
        );
    }
}

#[test]
fn attributes_of_the_overlay_are_stripped() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = Place::new();
    let tar = tar(|tar| {
        let pax = ["trusted.overlay.opaque", "user.overlay.opaque", "user.kept"]
            .map(|name| record(&format!("SCHILY.xattr.{name}"), "y"))
            .concat();
        raw(tar, EntryType::XHeader, "x", "", &pax);
        raw(tar, EntryType::Directory, "d/", "", b"");
    });
    place.unpack(tar.as_slice()).unwrap();
    let mut names = vec![0; 1000];
    let length = rustix::fs::listxattr(place.tree().join("d"), names.as_mut_slice()).unwrap();
    assert_eq!(&names[..length], b"user.kept\0");
}

#[test]
fn whiteouts_become_the_overlays() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = Place::new();
    let tar = tar(|tar| {
        file(tar, "d/.wh.gone", b"");
        file(tar, "o/.wh..wh..opq", b"");
        file(tar, ".wh..wh.plnk", b"");
        file(tar, ".wh.replaced", b"");
        file(tar, "replaced/new", b"new");
        file(tar, "both/file", b"");
        file(tar, ".wh.both", b"");
    });
    let unpacked = place.unpack(tar.as_slice()).unwrap();
    let tree = place.tree();
    let gone = tree.join("d/gone").symlink_metadata().unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let opaque = |path: &str| {
        let mut value = [0; 8];
        let name = "trusted.overlay.opaque";
        rustix::fs::getxattr(tree.join(path), name, value.as_mut_slice()).is_ok()
    };
    assert!(opaque("o") && opaque("replaced") && opaque("both") && !opaque("d"));
    assert_eq!(place.text("replaced/new"), "new");
    assert!(!tree.join(".wh..wh.plnk").exists());
    let implied: Vec<&Path> = unpacked.implied.iter().map(PathBuf::as_path).collect();
    assert_eq!(implied, ["", "both", "d", "o", "replaced"].map(Path::new));
    for bad in [".wh.", ".wh..", ".wh...", "a/.wh.."] {
        let place = Place::new();
        let tar = self::tar(|tar| file(tar, bad, b""));
        place.unpack(tar.as_slice()).unwrap_err();
    }
}

#[test]
fn zeros_become_holes() {
    let place = Place::new();
    let mut content = vec![0; 4 << 20];
    content[2 << 20] = 1;
    place
        .unpack(tar(|tar| file(tar, "sparse", &content)).as_slice())
        .unwrap();
    assert_eq!(std::fs::read(place.tree().join("sparse")).unwrap(), content);
    let blocks = place.tree().join("sparse").metadata().unwrap().blocks();
    assert!(blocks * 512 < 1 << 20, "{blocks} blocks");
}

/// Every form in which GNU tar leaves holes out.
#[test]
fn sparse_files_of_gnu_tar() {
    let source = tempfile::tempdir().unwrap();
    let sparse = File::create(source.path().join("sparse")).unwrap();
    // More pieces than a header has room for, a hole at the end, and a name that needs an extension of its own.
    let mut content = vec![0; 8 << 20];
    for piece in 0..40 {
        let at = piece * 150_000 + 4096;
        std::os::unix::fs::FileExt::write_at(&sparse, b"piece", at as u64).unwrap();
        content[at..at + 5].copy_from_slice(b"piece");
    }
    sparse.set_len(8 << 20).unwrap();
    let long = "n".repeat(150);
    let copied = std::process::Command::new("cp")
        .arg("--sparse=always")
        .args([source.path().join("sparse"), source.path().join(&long)])
        .status();
    assert!(copied.unwrap().success());
    std::fs::write(source.path().join("whole"), "whole").unwrap();
    let forms: [&[&str]; 4] = [
        &["--format=gnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ];
    for form in forms {
        let tar = std::process::Command::new("tar")
            .args(form)
            .args(["--sparse", "--owner=0", "--group=0", "-cf", "-", "-C"])
            .arg(source.path())
            .args(["sparse", &long, "whole"])
            .output()
            .unwrap();
        assert!(tar.stdout.len() < 1 << 20, "{form:?} left no holes out");
        let place = Place::new();
        place.unpack(tar.stdout.as_slice()).unwrap();
        for name in ["sparse", &long] {
            let file = place.tree().join(name);
            assert!(std::fs::read(&file).unwrap() == content, "{form:?} {name}");
            assert!(file.metadata().unwrap().blocks() * 512 < 1 << 20);
        }
        assert_eq!(place.text("whole"), "whole");
        // Cut off anywhere it is refused, or is the same as far as it goes.
        for length in (0..tar.stdout.len().min(40_000)).step_by(512) {
            let _ = Place::new().unpack(&tar.stdout[..length]);
        }
    }
}

#[test]
fn sparse_maps_that_lie_are_refused() {
    let record = |key: &str, value: &str| record(&format!("GNU.sparse.{key}"), value);
    for (map, size, content) in [
        ("0,5,3,5", "100", "0123456789"),
        ("50,10", "55", "0123456789"),
        ("0,20", "100", "0123456789"),
        ("0", "100", ""),
        ("18446744073709551615,2", "100", "01"),
        ("0,x", "100", "0"),
    ] {
        let records = [record("size", size), record("map", map)].concat();
        let tar = tar(|tar| {
            raw(tar, EntryType::XHeader, "x", "", &records);
            file(tar, "f", content.as_bytes());
        });
        let error = Place::new().unpack(tar.as_slice()).unwrap_err();
        assert!(matches!(error, UnpackError::Malformed { .. }), "{error}");
    }
    // A map in the content that never ends.
    let records = [("major", "1"), ("minor", "0"), ("realsize", "10")];
    let records = records.map(|(key, value)| record(key, value)).concat();
    for content in ["9".repeat(600), "1\n".repeat(2 << 20), "2\n0\n1\n".into()] {
        let tar = tar(|tar| {
            raw(tar, EntryType::XHeader, "x", "", &records);
            file(tar, "f", content.as_bytes());
        });
        Place::new().unpack(tar.as_slice()).unwrap_err();
    }
}

#[test]
fn extracting_stays_in_the_root_and_merges() {
    let place = Place::new();
    let tree = place.tree();
    std::fs::create_dir_all(tree.join("srv/app/kept")).unwrap();
    symlink("/srv/app", tree.join("link")).unwrap();
    std::fs::write(tree.join("srv/app/old"), "old").unwrap();
    let bytes = tar(|tar| {
        file(tar, "kept/new", b"new");
        file(tar, "old", b"replaced");
        file(tar, ".wh.literal", b"a name like any other");
        raw(tar, EntryType::Directory, "./", "", b"");
    });
    let mode_of = |path: &str| tree.join(path).metadata().unwrap().permissions().mode() & 0o7777;
    let before = mode_of("srv/app");
    let options = ExtractOptions {
        destination: "/link".into(),
        mode: Some(0o600),
        ..ExtractOptions::default()
    };
    let root = File::open(&tree).unwrap();
    let extracted = extract(bytes.as_slice(), root.as_fd(), &options).unwrap();
    assert_eq!(extracted.entries, 4);
    assert_eq!(mode_of("srv/app"), before);
    assert_eq!(place.text("srv/app/kept/new"), "new");
    assert_eq!(place.text("srv/app/old"), "replaced");
    assert_eq!(place.text("srv/app/.wh.literal"), "a name like any other");
    assert_eq!(mode_of("srv/app/old"), 0o600);
    let options = ExtractOptions {
        destination: "made/on/the/way".into(),
        ..ExtractOptions::default()
    };
    extract(bytes.as_slice(), root.as_fd(), &options).unwrap();
    assert_eq!(place.text("made/on/the/way/old"), "replaced");
    let options = ExtractOptions {
        destination: "../..".into(),
        ..ExtractOptions::default()
    };
    extract(bytes.as_slice(), root.as_fd(), &options).unwrap_err();
}
