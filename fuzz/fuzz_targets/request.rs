//! Conversations with the embedded registry, requests with the byte 0x1e between them: `cargo +nightly fuzz run request`.

#![no_main]

#[path = "../asked.rs"]
mod asked;

use std::cell::RefCell;
use std::path::Path;

use asked::Asked;
use tempfile::TempDir;

/// After so many conversations a new registry begins, since they leave things behind.
const CONVERSATIONS: u32 = 20_000;

fn begin() -> (Asked, TempDir, u32) {
    let memory = Path::new("/dev/shm");
    let place = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    let place = place.expect("a place");
    (Asked::new(&place.path().join("registry")), place, 0)
}

thread_local! {
    static REGISTRY: RefCell<(Asked, TempDir, u32)> = RefCell::new(begin());
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    REGISTRY.with_borrow_mut(|registry| {
        if registry.2 == CONVERSATIONS {
            *registry = begin();
        }
        registry.2 += 1;
        registry.0.try_one(input);
    });
});
