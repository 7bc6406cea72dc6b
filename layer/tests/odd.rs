//! Tars whose headers lie, names and sizes without measure, and what stands where it cannot stand.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::{Duration, Instant};

use dhow_layer::UnpackError;
use kit::{Place, file, header, pax, raw, record, tar};
use tar::{Builder, EntryType};

/// Unpacks, and expects a refusal with this word in it.
#[track_caller]
fn refused(tar: &[u8], word: &str) {
    let error = Place::new().unpack(tar).unwrap_err();
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(&error) {
        text = format!("{text}: {source}");
    }
    assert!(text.contains(word), "{word:?} is not in {text:?}");
    assert!(!text.contains('\n'), "{text:?}");
}

/// A header whose size field has these bytes.
fn sized(size: [u8; 12]) -> Vec<u8> {
    let mut header = header(EntryType::Regular, 0);
    header.as_old_mut().name[0] = b'f';
    header.as_old_mut().size = size;
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn sizes_without_measure_are_refused() {
    // Base 256: 2^63 - 1, 2^63, -1, all bits.
    let near = [
        0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    ];
    refused(&sized(near), "ends in the middle");
    let over = [0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0];
    refused(&sized(over), "is no number");
    refused(&sized([0xff; 12]), "negative size");
    refused(&sized(*b"-00000000001"), "negative size");
    refused(&sized(*b"99999999999\0"), "is no number");
    for (size, word) in [
        ("18446744073709551615", "ends in the middle"),
        ("18446744073709551616", "damaged pax record"),
        ("-1", "damaged pax record"),
        ("1e3", "damaged pax record"),
    ] {
        let tar = tar(|tar| {
            pax(tar, &[("size", size.as_bytes())]);
            file(tar, "f", b"");
        });
        refused(&tar, word);
    }
    // The same of what is passed over: a link's size is none, and nothing of it is read.
    let tar = tar(|tar| {
        pax(tar, &[("size", b"18446744073709551615")]);
        raw(tar, EntryType::Symlink, "l", "target", b"");
        file(tar, "f", b"content");
    });
    let place = Place::new();
    place.unpack(tar.as_slice()).unwrap();
    assert_eq!(place.text("f"), "content");
}

#[test]
fn a_pax_size_counts_and_a_global_header_does_not() {
    let mut long = header(EntryType::Regular, 3);
    long.as_old_mut().name[0] = b'f';
    long.set_cksum();
    let place = Place::new();
    let tar = tar(|tar| {
        let records = [record("path", "everywhere"), record("uid", "12")].concat();
        raw(tar, EntryType::XGlobalHeader, "g", "", &records);
        pax(tar, &[("size", b"7")]);
        tar.append(&long, &b"content"[..]).unwrap();
        file(tar, "after", b"after");
    });
    // The header of size 3 is followed by a block, as one of size 7 is.
    place.unpack(tar.as_slice()).unwrap();
    assert_eq!(place.text("f"), "content");
    assert_eq!(place.text("after"), "after");
    assert!(!place.tree().join("everywhere").exists());
}

#[test]
fn an_empty_pax_value_takes_back_what_was_said() {
    let place = Place::new();
    let tar = tar(|tar| {
        let fields = ["path", "linkpath", "size", "uid", "gid", "mtime"];
        pax(tar, &[("path", b"other"), ("size", b"2"), ("mtime", b"7")]);
        pax(tar, &fields.map(|key| (key, &b""[..])));
        file(tar, "f", b"content");
        pax(tar, &fields.map(|key| (key, &b""[..])));
        raw(tar, EntryType::Symlink, "l", "target", b"");
    });
    place.unpack(tar.as_slice()).unwrap();
    assert_eq!(place.text("f"), "content");
    let found = place.tree().join("f").metadata().unwrap();
    assert_eq!(found.mtime(), 1_000_000);
    let link = std::fs::read_link(place.tree().join("l")).unwrap();
    assert_eq!(link, std::path::Path::new("target"));
}

#[test]
fn holes_of_any_size_cost_nothing_or_are_refused() {
    let begin = Instant::now();
    for size in [
        "1099511627776",
        "4611686018427387904",
        "18446744073709551615",
    ] {
        let place = Place::new();
        let tar = tar(|tar| {
            pax(
                tar,
                &[
                    ("GNU.sparse.size", size.as_bytes()),
                    ("GNU.sparse.map", b"0,1"),
                ],
            );
            file(tar, "f", b"x");
        });
        match place.unpack(tar.as_slice()) {
            Ok(_) => assert!(place.tree().join("f").metadata().unwrap().blocks() < 64),
            Err(error) => assert!(matches!(error, UnpackError::Write { .. }), "{error}"),
        }
    }
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn names_are_as_long_as_the_kernel_takes_them() {
    let named = |name: &str| {
        tar(|tar| {
            pax(tar, &[("path", name.as_bytes())]);
            file(tar, "x", b"content");
        })
    };
    let place = Place::new();
    let longest = format!(
        "{}/{}",
        vec!["d".repeat(254); 14].join("/"),
        "f".repeat(255)
    );
    place.unpack(named(&longest).as_slice()).unwrap();
    assert_eq!(place.text(&longest), "content");
    refused(&named(&"f".repeat(256)), "too long");
    refused(&named(&"d/".repeat(2500)), "too long");
    // A hundred thousand levels.
    refused(&named(&format!("{}f", "d/".repeat(100_000))), "too long");
    // The same as GNU's long name, with and without an end, and one that holds nothing.
    let gnu = |content: &[u8]| {
        tar(|tar| {
            raw(tar, EntryType::GNULongName, "././@LongLink", "", content);
            file(tar, "x", b"content");
        })
    };
    for end in ["", "\0", "\0ignored"] {
        let place = Place::new();
        place
            .unpack(gnu(format!("n{end}").as_bytes()).as_slice())
            .unwrap();
        assert_eq!(place.text("n"), "content");
    }
    refused(&gnu(&vec![b'n'; 1 << 20]), "too long");
    refused(&gnu(&vec![b'n'; (1 << 20) + 1]), "1 MiB");
    refused(&gnu(b""), "the root can only be a directory");
}

#[test]
fn names_are_bytes() {
    let name = b"not \xff\xfe UTF-8 \x1b[2J\n";
    let place = Place::new();
    place
        .unpack(tar(|tar| file(tar, name, b"content")).as_slice())
        .unwrap();
    let path = place.tree().join(OsStr::from_bytes(name));
    assert_eq!(std::fs::read(path).unwrap(), b"content");
    // A NUL ends no name of a record, it makes it none.
    let tar = tar(|tar| {
        pax(tar, &[("path", b"a\0b")]);
        file(tar, "x", b"");
    });
    refused(&tar, "NUL");
}

#[test]
fn the_root_is_a_directory_of_any_name() {
    for name in ["/", ".", "./", "//./"] {
        let place = Place::new();
        let mut own = header(EntryType::Directory, 0);
        own.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        own.set_mode(0o1711);
        own.set_mtime(77);
        own.set_cksum();
        let tar = tar(|tar| {
            tar.append(&own, &b""[..]).unwrap();
            file(tar, "f", b"");
        });
        let unpacked = place.unpack(tar.as_slice()).unwrap();
        assert!(unpacked.implied.is_empty(), "{name}");
        let meta = place.tree().metadata().unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o1711, 77), "{name}");
        for kind in [EntryType::Symlink, EntryType::Fifo, EntryType::Regular] {
            // Before POSIX, a file whose name ends in a slash was a directory.
            if kind != EntryType::Regular || !name.ends_with('/') {
                let tar = self::tar(|tar| raw(tar, kind, name, "/etc", b""));
                refused(&tar, "the root can only be a directory");
            }
        }
        let tar = self::tar(|tar| raw(tar, EntryType::Link, "l", name, b""));
        Place::new().unpack(tar.as_slice()).unwrap_err();
    }
}

#[test]
fn modes_are_kept_whole() {
    let place = Place::new();
    let mut with = header(EntryType::Regular, 0);
    let mut tar = Builder::new(Vec::new());
    for (name, kind, mode) in [
        ("suid", EntryType::Regular, 0o4755),
        ("sgid", EntryType::Regular, 0o2710),
        ("dir", EntryType::Directory, 0o7000),
        ("fifo", EntryType::Fifo, 0o1000),
    ] {
        with.as_old_mut().name = [0; 100];
        with.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        with.set_entry_type(kind);
        with.set_mode(mode | 0o170_000);
        with.set_cksum();
        tar.append(&with, &b""[..]).unwrap();
    }
    place.unpack(tar.into_inner().unwrap().as_slice()).unwrap();
    for (name, mode) in [
        ("suid", 0o4755),
        ("sgid", 0o2710),
        ("dir", 0o7000),
        ("fifo", 0o1000),
    ] {
        let meta = place.tree().join(name).symlink_metadata().unwrap();
        assert_eq!(meta.mode() & 0o7777, mode, "{name}");
    }
}

#[test]
fn entries_take_each_others_places_inside_the_root() {
    let place = Place::new();
    let tar = tar(|tar| {
        // A directory that becomes a way out, between two entries below it.
        raw(tar, EntryType::Directory, "d", "", b"");
        file(tar, "d/before", b"before");
        raw(tar, EntryType::Symlink, "d", "../..", b"");
        file(tar, "d/outside", b"inside");
        // And the way out is exchanged once more.
        raw(tar, EntryType::Symlink, "d", "other", b"");
        raw(tar, EntryType::Directory, "other", "", b"");
        file(tar, "d/last", b"last");
        // A fifo, a link and a file where directories were.
        file(tar, "a/b/c", b"");
        raw(tar, EntryType::Fifo, "a/b", "", b"");
        raw(tar, EntryType::Link, "a", "outside", b"");
        raw(tar, EntryType::Directory, "a", "", b"");
    });
    place.unpack(tar.as_slice()).unwrap();
    assert_eq!(place.text("outside"), "inside");
    assert_eq!(place.text("other/last"), "last");
    assert!(place.tree().join("a").metadata().unwrap().is_dir());
    assert_eq!(
        std::fs::read_dir(place.tree().join("a")).unwrap().count(),
        0
    );
    // What cannot be a parent says so.
    let tar = self::tar(|tar| {
        file(tar, "f", b"");
        file(tar, "f/below", b"");
    });
    refused(&tar, "no directory");
}

#[test]
fn hard_links_lead_to_files() {
    let place = Place::new();
    let tar = tar(|tar| {
        raw(tar, EntryType::Symlink, "s", "/etc/passwd", b"");
        raw(tar, EntryType::Link, "t", "s", b"");
        raw(tar, EntryType::Directory, "out", "", b"");
        raw(tar, EntryType::Symlink, "way", "../../..", b"");
        file(tar, "in", b"in");
        raw(tar, EntryType::Link, "linked", "way/in", b"");
        // A whiteout of one name of a file takes no other.
        file(tar, ".wh.linked", b"");
    });
    place.unpack(tar.as_slice()).unwrap();
    let link = place.tree().join("t").symlink_metadata().unwrap();
    assert!(link.is_symlink() && link.nlink() == 2);
    assert_eq!(place.text("in"), "in");
    assert_eq!(place.text("linked"), "in");
    let tar = self::tar(|tar| {
        raw(tar, EntryType::Directory, "d", "", b"");
        raw(tar, EntryType::Link, "l", "d", b"");
    });
    refused(&tar, "hard link");
    let tar = self::tar(|tar| {
        raw(tar, EntryType::Symlink, "way", "/proc/self/cwd", b"");
        raw(tar, EntryType::Link, "l", "way/Cargo.toml", b"");
    });
    refused(&tar, "not there");
    if rustix::process::geteuid().is_root() {
        let tar = self::tar(|tar| {
            file(tar, ".wh.gone", b"");
            raw(tar, EntryType::Link, "l", "gone", b"");
        });
        refused(&tar, "not there");
    }
}

#[test]
fn whiteouts_are_of_one_name_and_no_directories() {
    for name in [".wh.a/b", "d/.wh.a/b/c", ".wh.a/.wh.b"] {
        refused(&tar(|tar| file(tar, name, b"")), "whiteout");
    }
    // What AUFS kept for itself.
    let place = Place::new();
    let tar = tar(|tar| {
        file(tar, ".wh..wh.aufs", b"");
        raw(tar, EntryType::Directory, ".wh..wh.plnk", "", b"");
        file(tar, ".wh..wh.plnk/12.34", b"content");
        raw(tar, EntryType::Directory, ".wh..wh.orph/", "", b"");
        file(tar, "f", b"f");
    });
    place.unpack(tar.as_slice()).unwrap();
    assert_eq!(std::fs::read_dir(place.tree()).unwrap().count(), 1);
    assert_eq!(place.text("f"), "f");
}

#[test]
fn a_device_is_no_whiteout_by_mistake() {
    let device = |major: &[u8; 8], minor: &[u8; 8]| {
        let mut header = header(EntryType::Char, 0);
        header.as_old_mut().name[0] = b'c';
        let ustar = header.as_ustar_mut().unwrap();
        (ustar.dev_major, ustar.dev_minor) = (*major, *minor);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    // 4096:0 and 0:1048576 would be 0:0 to mknod(2).
    refused(&device(b"0010000\0", b"0000000\0"), "major number");
    refused(&device(b"0000000\0", b"4000000\0"), "minor number");
    refused(&device(b"rubbish\0", b"0000000\0"), "major number");
    refused(&device(&[0xff; 8], b"0000000\0"), "major number");
    if rustix::process::geteuid().is_root() {
        let place = Place::new();
        let largest = device(b"0007777\0", b"3777777\0");
        place.unpack(largest.as_slice()).unwrap();
        let meta = place.tree().join("c").metadata().unwrap();
        assert!(meta.file_type().is_char_device());
        assert_eq!(meta.rdev(), rustix::fs::makedev(4095, (1 << 20) - 1));
    }
}

/// Attributes that belong to the machine never come out of a layer; what is kept has the name that it had.
#[test]
fn attributes_of_other_name_spaces_are_left_out() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let foreign = [
        "security.selinux",
        "security.evm",
        "security.ima",
        "security.apparmor",
        "security.other",
        "trusted.own",
        "trusted.overlay.redirect",
        "user.overlay.metacopy",
        "system.nfs4_acl",
        "none",
        "",
    ];
    let kept = [
        "user.plain",
        "user.a%3Db%25",
        "user.line\nfeed",
        "user.100%",
    ];
    let tar = tar(|tar| {
        let keys = foreign.iter().chain(&kept);
        let keys: Vec<String> = keys.map(|name| format!("SCHILY.xattr.{name}")).collect();
        let mut records: Vec<(&str, &[u8])> = Vec::new();
        for key in &keys {
            records.push((key, b"va=l\nue\0"));
        }
        pax(tar, &records);
        file(tar, "f", b"");
    });
    let place = Place::new();
    place.unpack(tar.as_slice()).unwrap();
    let mut names = vec![0; 4096];
    let length = rustix::fs::listxattr(place.tree().join("f"), names.as_mut_slice()).unwrap();
    let mut found: Vec<&[u8]> = names[..length].split(|b| *b == 0).collect();
    found.sort_unstable();
    let expected: [&[u8]; 5] = [
        b"",
        b"user.100%",
        b"user.a=b%",
        b"user.line\nfeed",
        b"user.plain",
    ];
    assert_eq!(found, expected);
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(place.tree().join("f"), "user.plain", &mut value[..]);
    assert_eq!(&value[..length.unwrap()], b"va=l\nue\0");
}

#[test]
fn replacing_directories_again_and_again_ends_soon() {
    let tar = tar(|tar| {
        for i in 0..1_500 {
            raw(tar, EntryType::Directory, format!("d{i}"), "", b"");
        }
        for _ in 0..1_500 {
            raw(tar, EntryType::Directory, "x", "", b"");
            file(tar, "x", b"");
        }
    });
    let begin = Instant::now();
    Place::new().unpack(tar.as_slice()).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(60));
}
