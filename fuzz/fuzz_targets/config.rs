//! config.json from the parser to the printed plan and the compiled filter, as `dhow-runtime create --dry-run` takes it.
//!
//! `cargo +nightly fuzz run config fuzz/corpus/config runtime/tests/configs`

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    // Whether it is refused does not matter, only that it is by an error.
    let _ = dhow_runtime::plan::trial::config(text);
});
