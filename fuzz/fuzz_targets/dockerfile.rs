//! Dockerfiles, read and printed, and lists of what is ignored: `cargo +nightly fuzz run dockerfile`.

#![no_main]

use dhow_dockerfile::{Dockerfile, IgnoreFile};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(read) = Dockerfile::parse("Dockerfile", text) {
        assert!(!read.to_string().is_empty());
    }
    if let Ok(file) = IgnoreFile::parse(".dockerignore", text) {
        let _ = file.ignores("a/b/c.d/aaaaaaaaaaaaaaaaaaaaaaaa");
    }
});
