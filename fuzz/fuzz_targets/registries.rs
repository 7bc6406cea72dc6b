//! containers' `registries.conf` and containerd's `hosts.toml`, each asked for a name: `cargo +nightly fuzz run registries`.

#![no_main]

use std::sync::LazyLock;

use dhow_image::ImageReference;
use dhow_registry_client::trial;

static REFERENCE: LazyLock<ImageReference> =
    LazyLock::new(|| "example.org:5000/team/app:1".parse().expect("a reference"));

libfuzzer_sys::fuzz_target!(|text: &str| {
    for name in ["app", "example.org:5000/team/app:1"] {
        let _ = trial::registries_conf(text, name);
    }
    let _ = trial::hosts_toml(text, &REFERENCE);
});
