//! Answers of registries and files about them, changed by chance: each is read or refused.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../fuzz/chance.rs"]
mod chance;

use dhow_image::{Digest, ImageReference, Platform};
use dhow_registry_client::trial;

fn seeds<const N: usize>(texts: [&str; N]) -> Vec<Vec<u8>> {
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

fn reference() -> ImageReference {
    "example.org:5000/team/app:1".parse().unwrap()
}

#[test]
fn challenges() {
    let seeds = seeds([
        r#"Bearer realm="https://auth.example.org/token",service="r",scope="repository:a/b:pull,push""#,
        r#"Basic realm="a \"quoted\" b", Digest x=y,, Bearer realm=plain"#,
    ]);
    let words = [
        "Bearer ", "Basic", "realm=", "\"", "\\", ",", " ", "=", "scope=\"",
    ];
    let tried = chance::try_many(&seeds, &words, 50_000, |text| {
        trial::challenge(&String::from_utf8_lossy(text)).is_some()
    });
    assert!(tried.taken > 0 && tried.refused > 0);
}

#[test]
fn manifests_and_indexes() {
    let digest = Digest::of(b"");
    let descriptor = |kind: &str| {
        format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":12"#)
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{}}},"layers":[{}}},{},"urls":["https://x"]}}],"annotations":{{"a":"b"}}}}"#,
        descriptor("config.v1+json"),
        descriptor("layer.v1.tar+gzip"),
        descriptor("layer.nondistributable.v1.tar"),
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{},"platform":{{"os":"linux","architecture":"amd64","variant":"v1"}}}},{}}}]}}"#,
        descriptor("manifest.v1+json"),
        descriptor("index.v1+json"),
    );
    let words = [
        "null",
        "[]",
        "{}",
        "[[[[[[[[",
        "\"\"",
        "sha256:",
        "sha512:",
        "\\u0000",
        "-1",
        "1e400",
        "true",
        "\"manifests\":",
        "\"layers\":",
        "vnd.docker.distribution.manifest.v2+json",
    ];
    let said = [
        None,
        Some("application/vnd.oci.image.index.v1+json; charset=utf-8"),
        Some("text/html"),
    ];
    let platform: Platform = "linux/amd64".parse().unwrap();
    let read = |text: &[u8], said| trial::document(text, said, &reference(), &platform);
    let seeds = seeds([&manifest, &index]);
    for (seed, said) in seeds.iter().zip(said) {
        read(seed, said).unwrap();
    }
    let mut at = 0;
    let tried = chance::try_many(&seeds, &words, 50_000, |text| {
        at = (at + 1) % said.len();
        read(text, said[at]).is_ok()
    });
    assert!(tried.taken > 0 && tried.refused > 0);
    // Deeper than any stack.
    let deep = "[".repeat(1 << 20);
    assert!(read(deep.as_bytes(), None).is_err());
}

#[test]
fn registries_of_containers() {
    let seeds = seeds([
        "unqualified-search-registries = [\"example.org\", \"docker.io\"]\nshort-name-mode = \"enforcing\"\n[aliases]\n\"app\" = \"example.org/team/app\"\n",
        "[[registry]]\nprefix = \"example.org:5000/team\"\nlocation = \"mirror.local/x\"\ninsecure = true\n[[registry.mirror]]\nlocation = \"localhost:5001\"\npull-from-mirror = \"digest-only\"\n[[registry]]\nprefix = \"*.example.org\"\nblocked = true\n",
    ]);
    let words = [
        "[[registry]]\n",
        "[aliases]\n",
        "prefix = ",
        "location = ",
        "\"\"",
        "*.",
        "true",
        "[]",
        "=",
        "'''",
    ];
    let names = ["app", "example.org:5000/team/app:1", "a.example.org/x"];
    let mut at = 0;
    let tried = chance::try_many(&seeds, &words, 30_000, |text| {
        at = (at + 1) % names.len();
        trial::registries_conf(&String::from_utf8_lossy(text), names[at]).is_ok()
    });
    assert!(tried.taken > 0 && tried.refused > 0);
}

#[test]
fn hosts_of_containerd() {
    let seeds = seeds([
        "server = \"https://registry-1.docker.io\"\n[host.\"https://mirror.local:5000\"]\ncapabilities = [\"pull\", \"resolve\"]\nca = \"ca.crt\"\nclient = [[\"c\", \"k\"]]\n[host.\"https://mirror.local:5000\".header]\nx-a = [\"b\"]\n",
        "[host.\"http://localhost/v2\"]\noverride_path = true\nskip_verify = true\n",
    ]);
    let words = [
        "[host.\"",
        "://",
        "@",
        "server = ",
        "capabilities = ",
        "[\"push\"]",
        "true",
        "header",
        "\"\"",
        "\n",
    ];
    let tried = chance::try_many(&seeds, &words, 30_000, |text| {
        trial::hosts_toml(&String::from_utf8_lossy(text), &reference()).is_ok()
    });
    assert!(tried.taken > 0 && tried.refused > 0);
}

#[test]
fn files_of_logins() {
    let seeds = seeds([
        r#"{"auths":{"example.org:5000":{"auth":"dXNlcjpwYXNz"},"https://index.docker.io/v1/":{"identitytoken":"t"},"example.org:5000/team":{"username":"u","password":"p"}},"credsStore":"x"}"#,
        r#"{"credHelpers":{"example.org:5000":"pass","example.org:5000/team/app":"other"},"auths":{"example.org:5000":{}}}"#,
    ]);
    let words = [
        "{}",
        "[]",
        "null",
        "\"auth\":",
        "auths",
        "dTpw",
        "====",
        "\"\"",
        "\\ud800",
        "example.org:5000",
    ];
    let tried = chance::try_many(&seeds, &words, 20_000, |text| {
        trial::logins(text, "example.org:5000", "team/app").is_ok()
    });
    assert!(tried.taken > 0 && tried.refused > 0);
}
