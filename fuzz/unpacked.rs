//! Hostile tars in a place that shows what is written outside of it: for the fuzz target and the layer's own tests, which take
//! this file in by its path.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use dhow_layer::{PackOptions, UnpackOptions, XattrFlavour, pack, remove_tree, unpack};

/// A directory with a tree in it, and beside the tree what must not be touched.
pub(crate) struct Guarded {
    dir: PathBuf,
}

const UNTOUCHED: &str = "untouched";

impl Guarded {
    pub(crate) fn new(dir: &Path) -> Self {
        std::fs::write(dir.join("outside"), UNTOUCHED).expect("write");
        std::fs::create_dir(dir.join("way")).expect("a directory");
        Self {
            dir: dir.to_owned(),
        }
    }

    /// Unpacks; what was unpacked is packed, and that unpacked and packed again to the same bytes. Says whether it was taken.
    pub(crate) fn try_one(&self, tar: &[u8]) -> bool {
        let mut tar = tar.to_vec();
        seal(&mut tar);
        let taken = self.unpacked("tree", &tar);
        if taken {
            let first = self.packed("tree");
            // What is too long for a path, behind a link, is packed and cannot be unpacked by its whole name.
            if let Some(first) = first
                && self.unpacked("again", &first)
            {
                assert!(self.packed("again").as_ref() == Some(&first), "another tar");
            }
        }
        let outside = std::fs::read_to_string(self.dir.join("outside")).expect("what is outside");
        assert_eq!(outside, UNTOUCHED);
        let way = std::fs::read_dir(self.dir.join("way"))
            .expect("list")
            .count();
        assert_eq!(way, 0, "something was written outside");
        let parent = File::open(&self.dir).expect("open");
        for name in ["tree", "again"] {
            remove_tree(parent.as_fd(), name.as_bytes()).expect("remove");
        }
        assert_eq!(std::fs::read_dir(&self.dir).expect("list").count(), 2);
        taken
    }

    fn unpacked(&self, name: &str, tar: &[u8]) -> bool {
        let tree = self.dir.join(name);
        std::fs::create_dir(&tree).expect("a directory");
        let root = File::open(&tree).expect("open");
        let flavour = XattrFlavour::Trusted;
        unpack(tar, root.as_fd(), &UnpackOptions { flavour }).is_ok()
    }

    fn packed(&self, name: &str) -> Option<Vec<u8>> {
        let root = File::open(self.dir.join(name)).expect("open");
        // Nobody waits for a file of a terabyte of holes.
        if has_huge_file(&self.dir.join(name)) {
            return None;
        }
        let mut bytes = Vec::new();
        let options = PackOptions {
            flavour: XattrFlavour::Trusted,
            normalise: true,
            lowers: &[],
        };
        pack(root.as_fd(), &mut bytes, &options).expect("what was unpacked can be packed");
        Some(bytes)
    }
}

fn has_huge_file(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return true;
    };
    entries.flatten().any(|entry| {
        let Ok(found) = entry.path().symlink_metadata() else {
            return true;
        };
        match found.is_dir() {
            true => has_huge_file(&entry.path()),
            false => found.is_file() && found.len() > 1 << 20,
        }
    })
}

/// Gives every header its checksum, without which a changed one is refused at once.
fn seal(tar: &mut [u8]) {
    for block in tar.chunks_exact_mut(512) {
        if &block[257..262] != b"ustar" {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
