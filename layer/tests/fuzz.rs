//! Tars changed by chance: each is unpacked or refused, nothing is written outside of the tree, and what was unpacked is packed
//! to the same bytes again and again. `fuzz/` tries the same with a fuzzer that watches the code.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../fuzz/chance.rs"]
mod chance;
mod kit;
#[path = "../../fuzz/unpacked.rs"]
mod unpacked;

use std::path::Path;

use kit::{file, pax, raw, tar};
use tar::EntryType;
use unpacked::Guarded;

/// Tars with something of everything, and with ways out to `outside`.
fn seeds(outside: &Path) -> Vec<Vec<u8>> {
    let way = outside.to_str().unwrap();
    let ways = tar(|tar| {
        raw(tar, EntryType::Directory, "d/", "", b"");
        raw(tar, EntryType::Symlink, "d/up", "../../way", b"");
        file(tar, "d/up/x", b"1");
        raw(tar, EntryType::Symlink, "l", "..", b"");
        raw(tar, EntryType::Link, "l/outside", "l/../outside", b"");
        raw(tar, EntryType::Symlink, "abs", way, b"");
        file(tar, "abs/x", b"2");
        raw(tar, EntryType::Symlink, "d", way, b"");
        file(tar, "d/y", b"3");
    });
    let kinds = tar(|tar| {
        raw(tar, EntryType::Directory, "./", "", b"");
        file(tar, "a/.wh.gone", b"");
        file(tar, "a/.wh..wh..opq", b"");
        file(tar, "f", &[b'x'; 1000]);
        raw(tar, EntryType::Link, "a/g", "f", b"");
        raw(tar, EntryType::Fifo, "p", "", b"");
        raw(tar, EntryType::Char, "c", "", b"");
        raw(tar, EntryType::Block, "b", "", b"");
        file(tar, ".wh.f", b"");
    });
    let extended = tar(|tar| {
        raw(
            tar,
            EntryType::GNULongName,
            "././@LongLink",
            "",
            "long/".repeat(30).as_bytes(),
        );
        file(tar, "short", b"12345");
        pax(
            tar,
            &[
                ("path", b"pax/name"),
                ("size", b"3"),
                ("mtime", b"-1.5"),
                ("uid", b"3000000000"),
                ("SCHILY.xattr.user.a%3Db", b"value"),
                ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ],
        );
        file(tar, "x", b"123");
        pax(
            tar,
            &[
                ("GNU.sparse.size", b"9000"),
                ("GNU.sparse.map", b"0,3,8000,2"),
            ],
        );
        file(tar, "sparse", b"12345");
    });
    vec![ways, kinds, extended]
}

#[test]
fn no_tar_gets_out_of_its_tree() {
    if !rustix::process::geteuid().is_root() {
        // Without, next to nothing of these is unpacked.
        return;
    }
    let memory = Path::new("/dev/shm");
    let place = match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    let guarded = Guarded::new(place.path());
    let seeds = seeds(&place.path().join("way"));
    for seed in &seeds {
        guarded.try_one(seed);
    }
    let words = [
        "..",
        "../",
        "way",
        "outside",
        "l/",
        "d/up",
        ".wh.",
        "ustar",
        "\0\0\0\0",
        "0000644\0",
    ];
    let tried = chance::try_many(&seeds, &words, 1_500, |tar| guarded.try_one(tar));
    assert!(tried.taken > 0 && tried.refused > 0);
}
