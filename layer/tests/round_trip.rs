//! A tree that is packed and unpacked again is the same tree, and packs to the same bytes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

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
    Attribute(Vec<u8>),
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
        (0u32..4000, 1u32..100_000).prop_map(|(major, minor)| Node::Device(major, minor)),
        Just(Node::Whiteout),
        Just(Node::Capability),
        proptest::collection::vec(any::<u8>(), 1..100).prop_map(Node::Attribute),
    ]
}

#[derive(Clone, Debug)]
struct Entry {
    path: Vec<String>,
    node: Node,
    owner: (u32, u32),
    mtime: i64,
}

fn entry() -> impl Strategy<Value = Entry> {
    let name = prop_oneof!["[a-c]{1,2}", "[a-zA-Z0-9 ._é\n-]{1,60}", "[x]{90,120}"]
        .prop_filter("no dots, no whiteouts", |n| {
            n != "." && n != ".." && !n.starts_with(".wh.")
        });
    let owner = prop_oneof![Just((0, 0)), (0u32..70_000, 0u32..4_000_000_000)];
    let mtime = prop_oneof![0i64..2_000_000_000, -5i64..0, Just(9_000_000_000)];
    (proptest::collection::vec(name, 1..5), node(), owner, mtime).prop_map(
        |(path, node, owner, mtime)| Entry {
            path,
            node,
            owner,
            mtime,
        },
    )
}

/// Makes what can be made; what stands in the way of something else is left as it is.
fn build(root: &Path, entries: &[Entry]) {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut times = Vec::new();
    for entry in entries {
        let path = entry.path.iter().fold(root.to_owned(), |p, n| p.join(n));
        if std::fs::create_dir_all(path.parent().unwrap()).is_err()
            || path.symlink_metadata().is_ok()
        {
            continue;
        }
        let made = match &entry.node {
            Node::File(content, _) => std::fs::write(&path, content),
            Node::Zeros(size) => std::fs::write(&path, vec![0; *size]),
            Node::Link(target) => symlink(target, &path),
            Node::Directory(_) | Node::Opaque => std::fs::create_dir(&path),
            Node::HardLink(which) => match files.get(*which) {
                Some(file) => std::fs::hard_link(file, &path),
                None => continue,
            },
            Node::Fifo => {
                rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).map_err(Into::into)
            }
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
            Node::Capability | Node::Attribute(_) => std::fs::write(&path, b"#!"),
        };
        made.unwrap();
        dress(&path, entry);
        if matches!(entry.node, Node::File(..)) {
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
        Node::Attribute(value) => set("user.test", value),
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

/// All that a tree is, as text; files that share an inode name its first path.
fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut described = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let mut paths = vec![root.to_owned()];
    let mut all = Vec::new();
    while let Some(path) = paths.pop() {
        if path.symlink_metadata().unwrap().is_dir() {
            paths.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
        all.push(path);
    }
    all.sort();
    for path in all {
        let meta = path.symlink_metadata().unwrap();
        let inner = path.strip_prefix(root).unwrap().to_owned();
        let whiteout = !meta.is_file()
            && !meta.is_dir()
            && meta.rdev() == 0
            && meta.mode() & 0o170_000 == 0o020_000;
        let text = if whiteout {
            "whiteout".to_owned()
        } else {
            let first = inodes
                .entry(meta.ino())
                .or_insert_with(|| inner.clone())
                .clone();
            let content = if meta.is_file() {
                dhow_image::Digest::of(&std::fs::read(&path).unwrap()).to_string()
            } else if meta.is_symlink() {
                format!("{:?}", std::fs::read_link(&path).unwrap())
            } else {
                String::new()
            };
            let size = if meta.is_file() { meta.len() } else { 0 };
            format!(
                "{:o} {}:{} {} {size} {} {first:?} {content} {}",
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.mtime(),
                meta.rdev(),
                if meta.is_symlink() {
                    String::new()
                } else {
                    xattrs(&path)
                }
            )
        };
        described.insert(inner, text);
    }
    described
}

fn xattrs(path: &Path) -> String {
    let mut names = vec![0; 4096];
    let Ok(length) = rustix::fs::llistxattr(path, names.as_mut_slice()) else {
        return String::new();
    };
    let mut found = Vec::new();
    for name in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let mut value = vec![0; 4096];
        let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap();
        found.push(format!(
            "{}={:?}",
            String::from_utf8_lossy(name),
            &value[..length]
        ));
    }
    found.sort();
    found.join(",")
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
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn tree_equals_unpacked_packed_tree(entries in proptest::collection::vec(entry(), 0..30)) {
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
        prop_assert_eq!(describe(&before), describe(&after));
        let (second, again) = packed(&after);
        prop_assert_eq!(first, second);
        prop_assert!(bytes == again);
        // GNU tar reads it too.
        let listed = std::process::Command::new("tar").arg("-tf").arg("-")
            .stdin(write_out(place.path(), &bytes)).output().unwrap();
        prop_assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    }
}

fn write_out(place: &Path, bytes: &[u8]) -> File {
    let path = place.join(std::ffi::OsStr::from_bytes(b"tar"));
    std::fs::write(&path, bytes).unwrap();
    File::open(path).unwrap()
}
