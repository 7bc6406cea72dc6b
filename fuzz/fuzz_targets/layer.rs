//! Tars of layers, unpacked by root in a place that shows what is written outside of it: `cargo +nightly fuzz run layer`.

#![no_main]

#[path = "../unpacked.rs"]
mod unpacked;

use std::path::Path;
use std::sync::LazyLock;

use tempfile::TempDir;
use unpacked::Guarded;

static PLACE: LazyLock<(TempDir, Guarded)> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let place = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    let place = place.expect("a place");
    let guarded = Guarded::new(place.path());
    (place, guarded)
});

libfuzzer_sys::fuzz_target!(|tar: &[u8]| {
    PLACE.1.try_one(tar);
});
