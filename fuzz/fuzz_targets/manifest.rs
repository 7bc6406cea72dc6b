//! Manifests and indexes as registries give them; the first byte chooses what the registry says that it is:
//! `cargo +nightly fuzz run manifest`.

#![no_main]

use std::sync::LazyLock;

use dhow_image::{ImageReference, Platform};

static REFERENCE: LazyLock<ImageReference> =
    LazyLock::new(|| "example.org:5000/team/app:1".parse().expect("a reference"));
static PLATFORM: LazyLock<Platform> = LazyLock::new(|| "linux/amd64".parse().expect("a platform"));

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((first, text)) = input.split_first() else {
        return;
    };
    let said = match first % 3 {
        0 => None,
        1 => Some("application/vnd.oci.image.index.v1+json; charset=utf-8"),
        _ => Some("text/html"),
    };
    let _ = dhow_registry_client::trial::document(text, said, &REFERENCE, &PLATFORM);
});
