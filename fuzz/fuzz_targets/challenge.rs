//! `WWW-Authenticate` headers: `cargo +nightly fuzz run challenge`.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let _ = dhow_registry_client::trial::challenge(&String::from_utf8_lossy(text));
});
