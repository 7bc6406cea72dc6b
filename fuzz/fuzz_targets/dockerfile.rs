//! Dockerfiles, read and printed, and lists of what is ignored: `cargo +nightly fuzz run dockerfile`.

#![no_main]

use dhow_dockerfile::{Dockerfile, IgnoreFile};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(read) = Dockerfile::parse("Dockerfile", text) {
        let printed = read.to_string();
        let again = Dockerfile::parse("printed", &printed).expect("what is printed can be read");
        assert_eq!(again.to_string(), printed);
    }
    if let Ok(file) = IgnoreFile::parse(".dockerignore", text) {
        let _ = file.ignores("a/b/c.d/aaaaaaaaaaaaaaaaaaaaaaaa");
    }
});
