//! Docker's `config.json` and containers' `auth.json`: `cargo +nightly fuzz run logins`.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let _ = dhow_registry_client::trial::logins(text, "example.org:5000", "team/app");
});
