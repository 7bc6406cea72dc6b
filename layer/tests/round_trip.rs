//! A tree that is packed and unpacked again is the same tree, and packs to the same bytes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};

use kit::describe;

use dhow_layer::{PackOptions, Packed, UnpackOptions, XattrFlavour, pack, unpack};
use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, XattrFlags};

#[derive(Clone, Debug)]
enum Node {
    File(Vec<u8>, u32),
    Zeros(usize),
    Link(String),
    Directory(u32),
    Opaque,
    HardLink(usize),
    Fifo,
    Device(u32, u32),
    Whiteout,
    Capability,
    Attribute(String, Vec<u8>),
    /// Data at each of these places, and holes between them.
    Sparse(Vec<u32>),
    Socket,
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        (
            proptest::collection::vec(any::<u8>(), 0..2000),
            0u32..0o7777
        )
            .prop_map(|(content, mode)| Node::File(content, mode)),
        (0usize..40_000).prop_map(Node::Zeros),
        "[a-z./]{1,150}".prop_map(Node::Link),
        (0u32..0o7777).prop_map(Node::Directory),
        Just(Node::Opaque),
        (0usize..8).prop_map(Node::HardLink),
        Just(Node::Fifo),
        (0u32..4096, 1u32..1 << 20).prop_map(|(major, minor)| Node::Device(major, minor)),
        Just(Node::Whiteout),
        Just(Node::Capability),
        (
            "[a-z=%\n .]{1,20}",
            proptest::collection::vec(any::<u8>(), 0..300)
        )
            .prop_map(|(name, value)| Node::Attribute(name, value)),
        proptest::collection::vec(0u32..3_000_000, 0..5).prop_map(Node::Sparse),
        Just(Node::Socket),
    ]
}

#[derive(Clone, Debug)]
struct Entry {
    path: Vec<Vec<u8>>,
    node: Node,
    owner: (u32, u32),
    mtime: i64,
}

fn entry() -> impl Strategy<Value = Entry> {
    let bytes = proptest::collection::vec(any::<u8>(), 1..80);
    let name = prop_oneof![
        8 => "[a-c]{1,2}".prop_map(String::into_bytes),
        4 => "[a-zA-Z0-9 ._é\n-]{1,60}".prop_map(String::into_bytes),
        2 => "[x]{90,120}".prop_map(String::into_bytes),
        2 => bytes,
        1 => Just(vec![b'y'; 255]),
    ]
    .prop_filter("no dots, no whiteouts", |n: &Vec<u8>| {
        n != b"." && n != b".." && !n.starts_with(b".wh.") && !n.contains(&0) && !n.contains(&b'/')
    });
    let owner = prop_oneof![Just((0, 0)), (0u32..70_000, 0u32..4_000_000_000)];
    // What the file systems at hand keep: from 1901 to 2446, beyond the 33 bits that ustar has.
    let mtime = prop_oneof![
        0i64..2_000_000_000,
        -5i64..0,
        -2_147_483_648i64..0,
        8_589_934_590i64..8_589_934_600,
        Just(15_032_385_535),
    ];
    let depth = prop_oneof![6 => 1usize..5, 1 => 5usize..12];
    let path = depth.prop_flat_map(move |depth| proptest::collection::vec(name.clone(), depth));
    (path, node(), owner, mtime).prop_map(|(path, node, owner, mtime)| Entry {
        path,
        node,
        owner,
        mtime,
    })
}

/// Makes what can be made; what stands in the way of something else is left as it is.
fn build(root: &Path, entries: &[Entry]) {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut times = Vec::new();
    for entry in entries {
        let names = entry.path.iter().map(|n| OsStr::from_bytes(n));
        let path = names.fold(root.to_owned(), |p, n| p.join(n));
        if std::fs::create_dir_all(path.parent().unwrap()).is_err()
            || path.symlink_metadata().is_ok()
        {
            continue;
        }
        let made =
            match &entry.node {
                Node::File(content, _) => std::fs::write(&path, content),
                Node::Zeros(size) => std::fs::write(&path, vec![0; *size]),
                Node::Link(target) => symlink(target, &path),
                Node::Directory(_) | Node::Opaque => std::fs::create_dir(&path),
                Node::HardLink(which) => match files.get(*which) {
                    Some(file) => std::fs::hard_link(file, &path),
                    None => continue,
                },
                Node::Fifo => rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0)
                    .map_err(Into::into),
                Node::Device(major, minor) => rustix::fs::mknodat(
                    CWD,
                    &path,
                    FileType::CharacterDevice,
                    Mode::RUSR,
                    rustix::fs::makedev(*major, *minor),
                )
                .map_err(Into::into),
                Node::Whiteout => {
                    rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0)
                        .map_err(Into::into)
                }
                Node::Capability | Node::Attribute(..) => std::fs::write(&path, b"#!"),
                Node::Sparse(places) => sparse(&path, places),
                Node::Socket => rustix::fs::mknodat(CWD, &path, FileType::Socket, Mode::RUSR, 0)
                    .map_err(Into::into),
            };
        made.unwrap();
        dress(&path, entry);
        // Whatever can have a second name.
        if !path.is_dir() && !matches!(entry.node, Node::Whiteout | Node::Socket) {
            files.push(path.clone());
        }
        times.push((path, entry.mtime));
    }
    // Directories that were made on the way get whole seconds too.
    let mut all = vec![root.to_owned()];
    while let Some(directory) = all.pop() {
        for child in std::fs::read_dir(&directory).unwrap().flatten() {
            if child.file_type().unwrap().is_dir() {
                all.push(child.path());
            }
        }
        set_time(&directory, 1_000_000);
    }
    for (path, mtime) in times {
        set_time(&path, mtime);
    }
}

fn sparse(path: &Path, places: &[u32]) -> std::io::Result<()> {
    let file = File::create(path)?;
    for at in places {
        std::os::unix::fs::FileExt::write_at(&file, b"data", u64::from(*at))?;
    }
    file.set_len(3_000_010)
}

fn dress(path: &Path, entry: &Entry) {
    let (uid, gid) = entry.owner;
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
    let set = |name: &str, value: &[u8]| {
        rustix::fs::setxattr(path, name, value, XattrFlags::empty()).unwrap();
    };
    match &entry.node {
        Node::File(_, mode) | Node::Directory(mode) => {
            rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(*mode), AtFlags::empty()).unwrap();
        }
        Node::Opaque => set("trusted.overlay.opaque", b"y"),
        Node::Attribute(name, value) => set(&format!("user.{name}"), value),
        Node::Capability => set(
            "security.capability",
            &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        _ => {}
    }
}

fn set_time(path: &Path, seconds: i64) {
    let time = rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn packed(tree: &Path) -> (Packed, Vec<u8>) {
    let mut bytes = Vec::new();
    let options = PackOptions {
        flavour: XattrFlavour::Trusted,
        normalise: false,
        lowers: &[],
    };
    let packed = pack(File::open(tree).unwrap().as_fd(), &mut bytes, &options).unwrap();
    (packed, bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn tree_equals_unpacked_packed_tree(
        mut entries in proptest::collection::vec(entry(), 0..30),
        marks in any::<bool>(),
    ) {
        if !marks {
            entries.retain(|entry| !matches!(entry.node, Node::Whiteout | Node::Opaque));
        }
        if !rustix::process::geteuid().is_root() {
            // Owners, devices and capabilities are root's.
            return Ok(());
        }
        let place = tempfile::tempdir().unwrap();
        let (before, after) = (place.path().join("before"), place.path().join("after"));
        std::fs::create_dir(&before).unwrap();
        std::fs::create_dir(&after).unwrap();
        build(&before, &entries);
        let (first, bytes) = packed(&before);
        prop_assert_eq!(first.size, bytes.len() as u64);
        let options = UnpackOptions { flavour: XattrFlavour::Trusted };
        let unpacked = unpack(bytes.as_slice(), File::open(&after).unwrap().as_fd(), &options).unwrap();
        prop_assert_eq!(unpacked.entries, first.entries);
        prop_assert_eq!(unpacked.tar_size, first.size);
        prop_assert_eq!(&unpacked.implied, &Vec::<PathBuf>::new());
        let mut left = describe(&before);
        // A socket means nothing without who listens on it.
        left.retain(|path, _| !before.join(path).symlink_metadata().unwrap().file_type().is_socket());
        prop_assert_eq!(left, describe(&after));
        let (second, again) = packed(&after);
        prop_assert_eq!(first, second);
        prop_assert!(bytes == again);
        // GNU tar makes the same of it, where there is nothing of the overlay's in it.
        if marks {
            return Ok(());
        }
        let theirs = place.path().join("theirs");
        std::fs::create_dir(&theirs).unwrap();
        let said = std::process::Command::new("tar")
            .args(["--xattrs", "--xattrs-include=*", "--same-owner", "--numeric-owner", "-xpf", "-", "-C"])
            .arg(&theirs).stdin(write_out(place.path(), &bytes)).output().unwrap();
        prop_assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        prop_assert_eq!(describe(&theirs), describe(&after));
    }
}

/// What is packed goes out in pieces, which end anywhere; what follows a piece begins at a block all the same.
#[test]
fn a_long_name_follows_content_of_any_size() {
    let place = tempfile::tempdir().unwrap();
    for size in [1, 511, 513, 60_001, 100_001, 262_143, 262_145, 300_001] {
        let (before, after) = (place.path().join("before"), place.path().join("after"));
        std::fs::create_dir(&before).unwrap();
        std::fs::create_dir(&after).unwrap();
        for number in 0..20 {
            std::fs::write(before.join(format!("{number:02}-a")), vec![b'x'; size]).unwrap();
            let long = format!("{number:02}-b{}", "y".repeat(200));
            std::fs::write(before.join(long), b"long").unwrap();
        }
        for file in std::fs::read_dir(&before).unwrap() {
            set_time(&file.unwrap().path(), 1);
        }
        let (_, bytes) = packed(&before);
        assert_eq!(bytes.len() % 512, 0, "files of {size}");
        let options = UnpackOptions {
            flavour: XattrFlavour::Trusted,
        };
        unpack(
            bytes.as_slice(),
            File::open(&after).unwrap().as_fd(),
            &options,
        )
        .unwrap();
        set_time(&before, 0);
        set_time(&after, 0);
        assert!(describe(&before) == describe(&after), "files of {size}");
        std::fs::remove_dir_all(&before).unwrap();
        std::fs::remove_dir_all(&after).unwrap();
    }
}

/// Remembers the largest piece that is written.
struct Pieces(usize);

impl std::io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.max(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn many_entries_without_content_are_not_kept_in_memory() {
    let place = tempfile::tempdir().unwrap();
    for number in 0..6000 {
        File::create(place.path().join(number.to_string())).unwrap();
    }
    let mut pieces = Pieces(0);
    let options = PackOptions {
        flavour: XattrFlavour::Trusted,
        normalise: false,
        lowers: &[],
    };
    let tree = File::open(place.path()).unwrap();
    let packed = pack(tree.as_fd(), &mut pieces, &options).unwrap();
    assert!(packed.size > 3_000_000);
    assert!(pieces.0 < 1 << 20, "{}", pieces.0);
}

#[test]
fn a_directory_keeps_its_time_when_its_sockets_go() {
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("tree");
    std::fs::create_dir_all(tree.join("d")).unwrap();
    rustix::fs::mknodat(CWD, tree.join("d/s"), FileType::Socket, Mode::RUSR, 0).unwrap();
    for directory in [&tree.join("d"), &tree] {
        set_time(directory, 1_000_000);
    }
    let options = PackOptions {
        flavour: XattrFlavour::Trusted,
        normalise: true,
        lowers: &[],
    };
    let root = File::open(&tree).unwrap();
    let first = pack(root.as_fd(), std::io::sink(), &options).unwrap();
    let (second, _) = packed(&tree);
    assert_eq!(first, second);
    assert!(!tree.join("d/s").exists());
}

fn write_out(place: &Path, bytes: &[u8]) -> File {
    let path = place.join(std::ffi::OsStr::from_bytes(b"tar"));
    std::fs::write(&path, bytes).unwrap();
    File::open(path).unwrap()
}
