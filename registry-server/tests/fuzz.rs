//! Requests changed by chance: each is answered, none as a fault of the server's, and at the end every blob is what its name says.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../../fuzz/asked.rs"]
mod asked;
#[path = "../../fuzz/chance.rs"]
mod chance;

use std::path::Path;

use asked::{Asked, NEXT};
use dhow_image::{Algorithm, Digest, Hasher};

fn seeds() -> Vec<Vec<u8>> {
    let blob = Digest::of(b"content");
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{blob}","size":7}},"layers":[],"subject":{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{blob}","size":7}}}}"#
    );
    let next = char::from(NEXT);
    [
        format!("POST /v2/a/b/blobs/uploads/?digest={blob}\n\ncontent{next}GET /v2/a/b/blobs/{blob}\nrange: bytes=1-3\n\n"),
        format!("POST /v2/a/blobs/uploads/\n\n{next}PATCH @\ncontent-range: 0-3\ncontent-length: 4\n\ncont{next}GET @\n\n{next}PUT @?digest={blob}\ncontent-range: 4-6\n\nent"),
        format!("POST /v2/c/blobs/uploads/?mount={blob}&from=a/b\n\n{next}HEAD /v2/c/blobs/{blob}\n\n{next}DELETE /v2/c/blobs/{blob}\n\n"),
        format!("POST /v2/a/b/blobs/uploads/?digest={blob}\n\ncontent{next}PUT /v2/a/b/manifests/t1?tag=t2\ncontent-type: application/vnd.oci.image.manifest.v1+json\n\n{manifest}{next}GET /v2/a/b/tags/list?n=1&last=t1\n\n{next}GET /v2/a/b/referrers/{blob}?artifactType=x\n\n{next}GET /v2/_catalog?n=2\n\n"),
        "GET /v2/\nauthorization: Basic dTpw\n\n".to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec()
}

#[test]
fn no_request_is_a_fault_of_the_registrys() {
    let memory = Path::new("/dev/shm");
    let place = match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    let root = place.path().join("registry");
    let mut asked = Asked::new(&root);
    let seeds = seeds();
    for seed in &seeds {
        assert!(asked.try_one(seed), "{}", String::from_utf8_lossy(seed));
    }
    let words = [
        "GET ",
        "HEAD ",
        "PUT ",
        "POST ",
        "PATCH ",
        "DELETE ",
        "OPTIONS ",
        "/v2/",
        "/blobs/",
        "uploads/",
        "/manifests/",
        "/tags/list",
        "/referrers/",
        "?n=",
        "&last=",
        "?digest=",
        "?mount=",
        "&from=",
        "sha256:",
        "sha512:",
        "digest-algorithm=sha512",
        "range: bytes=",
        "content-range: ",
        "content-type: ",
        "\n",
        "\n\n",
        "\u{1e}",
        "%2F",
        "@",
        "-",
    ];
    let tried = chance::try_many(&seeds, &words, 2_000, |input| asked.try_one(input));
    assert!(tried.taken > 0 && tried.refused > 0);
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
    let mut blobs = 0;
    for (algorithm, name) in [(Algorithm::Sha256, "sha256"), (Algorithm::Sha512, "sha512")] {
        for entry in std::fs::read_dir(root.join("blobs").join(name))
            .into_iter()
            .flatten()
            .flatten()
        {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(&std::fs::read(entry.path()).unwrap());
            assert_eq!(entry.file_name().to_str(), Some(hasher.finish().hex()));
            blobs += 1;
        }
    }
    assert!(blobs > 0);
}
