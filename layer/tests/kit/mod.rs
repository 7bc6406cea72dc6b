//! Tars by hand, and places to unpack them in.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dhow_layer::{UnpackError, UnpackOptions, Unpacked, XattrFlavour, unpack};
use tar::{Builder, EntryType, Header};

pub(crate) fn header(kind: EntryType, size: usize) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(0o644);
    header.set_uid(u64::from(rustix::process::getuid().as_raw()));
    header.set_gid(u64::from(rustix::process::getgid().as_raw()));
    header.set_mtime(1_000_000);
    header
}

/// A pax record.
pub(crate) fn record(key: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    let rest = key.len() + value.as_ref().len() + 3;
    let length = (rest..).find(|l| rest + l.to_string().len() == *l).unwrap();
    let start = format!("{length} {key}=");
    [start.as_bytes(), value.as_ref(), b"\n"].concat()
}

/// A pax header with these records, for the entry that follows.
pub(crate) fn pax(tar: &mut Builder<Vec<u8>>, records: &[(&str, &[u8])]) {
    let records: Vec<Vec<u8>> = records.iter().map(|(k, v)| record(k, v)).collect();
    raw(tar, EntryType::XHeader, "x", "", &records.concat());
}

/// Appends an entry whose names are written as they are, which the tar crate's own calls would refuse.
pub(crate) fn raw(
    tar: &mut Builder<Vec<u8>>,
    kind: EntryType,
    name: impl AsRef<[u8]>,
    link: &str,
    content: &[u8],
) {
    let (name, mut header) = (name.as_ref(), header(kind, content.len()));
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

pub(crate) fn file(tar: &mut Builder<Vec<u8>>, name: impl AsRef<[u8]>, content: &[u8]) {
    raw(tar, EntryType::Regular, name, "", content);
}

pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tree")).unwrap();
        std::fs::write(dir.path().join("outside"), "untouched").unwrap();
        Self { dir }
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    pub(crate) fn unpack(&self, tar: impl Read) -> Result<Unpacked, UnpackError> {
        let tree = File::open(self.tree()).unwrap();
        let flavour = if rustix::process::geteuid().is_root() {
            XattrFlavour::Trusted
        } else {
            XattrFlavour::User
        };
        let unpacked = unpack(tar, tree.as_fd(), &UnpackOptions { flavour });
        let outside = std::fs::read_to_string(self.dir.path().join("outside")).unwrap();
        assert_eq!(outside, "untouched");
        assert_eq!(std::fs::read_dir(self.dir.path()).unwrap().count(), 2);
        unpacked
    }

    pub(crate) fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.tree().join(path)).unwrap()
    }
}

pub(crate) fn tar(fill: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    fill(&mut tar);
    tar.into_inner().unwrap()
}

/// All that a tree is, as text; files that share an inode name its first path.
pub(crate) fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
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
                "{:o} {}:{} {}.{} {size} {} {first:?} {content} {}",
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.mtime(),
                meta.mtime_nsec(),
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
