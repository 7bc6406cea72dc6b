//! A tree that is deeper than any path is long, with few descriptors: alone in its program, whose limit it sets.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod kit;

use std::fs::File;
use std::os::fd::AsFd;

use dhow_layer::{PackOptions, XattrFlavour, pack, remove_tree};
use kit::{Place, file, pax, raw, tar};
use rustix::process::{Resource, Rlimit, setrlimit};
use tar::EntryType;

#[test]
fn a_tree_deeper_than_paths_and_descriptors_is_packed_and_removed() {
    let limit = Rlimit {
        current: Some(300),
        maximum: Some(300),
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    // Each link leads a thousand levels further down.
    let step = vec!["d"; 1000].join("/");
    let tar = tar(|tar| {
        file(tar, "f", b"");
        for link in 0..4 {
            let above = if link == 0 {
                String::new()
            } else {
                format!("l{}/", link - 1)
            };
            let path = format!("{above}{step}/f");
            pax(tar, &[("path", path.as_bytes())]);
            file(tar, "x", b"");
            pax(tar, &[("linkpath", format!("{above}{step}").as_bytes())]);
            raw(tar, EntryType::Symlink, format!("l{link}"), "x", b"");
        }
    });
    let place = Place::new();
    place.unpack(tar.as_slice()).unwrap();
    let options = PackOptions {
        flavour: XattrFlavour::Trusted,
        normalise: true,
        lowers: &[],
    };
    let tree = File::open(place.tree()).unwrap();
    let packed = pack(tree.as_fd(), std::io::sink(), &options).unwrap();
    // The root, the file in it, four links, and a thousand directories and a file for each.
    assert_eq!(packed.entries, 2 + 4 + 4 * 1001);
    let again = pack(tree.as_fd(), std::io::sink(), &options).unwrap();
    assert_eq!(again, packed);
    let parent = File::open(place.dir.path()).unwrap();
    remove_tree(parent.as_fd(), b"tree").unwrap();
}
