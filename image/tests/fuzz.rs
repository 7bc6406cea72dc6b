//! Names changed by chance: what is read is written and read again as the same, all else is refused.

#[path = "../../fuzz/chance.rs"]
mod chance;

use dhow_image::{Digest, ImageReference, Platform};

#[test]
fn names_are_read_as_they_are_written() {
    let digest = Digest::of(b"").to_string();
    let seeds = [
        "busybox",
        "docker.io/library/busybox:1.36",
        "localhost:5000/team/app__x/y-z.w:Tag_1.2",
        "[2001:db8::1]:443/a/b@sha256:",
        "linux/arm64/v8",
        &digest,
        &format!("example.org/a@{digest}"),
    ];
    let seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    let words = [
        "/",
        ":",
        "@",
        "sha256:",
        "sha512:",
        "localhost",
        "latest",
        ".",
        "__",
        "--",
        "A",
    ];
    let tried = chance::try_many(&seeds, &words, 100_000, |text| {
        let Ok(text) = std::str::from_utf8(text) else {
            return false;
        };
        if let Ok(digest) = text.parse::<Digest>() {
            assert_eq!(digest.to_string(), text);
            assert!(!digest.hex().contains(['/', '.']));
        }
        if let Ok(platform) = text.parse::<Platform>() {
            assert_eq!(
                platform.to_string().parse::<Platform>().as_ref(),
                Ok(&platform)
            );
        }
        let Ok(reference) = text.parse::<ImageReference>() else {
            return false;
        };
        assert_eq!(
            reference.to_string().parse().as_ref(),
            Ok(&reference),
            "{text:?}"
        );
        assert_eq!(
            reference.familiar().parse().as_ref(),
            Ok(&reference),
            "{text:?}"
        );
        // It becomes a path in the store and in addresses.
        let parts = [reference.registry(), reference.repository()];
        let mut names = parts.iter().flat_map(|part| part.split('/'));
        assert!(
            names.all(|name| !matches!(name, "" | "." | "..")),
            "{text:?}"
        );
        true
    });
    assert!(tried.taken > 0 && tried.refused > 0);
}
