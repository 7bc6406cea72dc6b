//! Names of one image that stand for different manifests: each stays what it is, whoever asks.

use dhow_integration_tests::registry::{MANIFEST, Registry, image, sha256, tar};
use dhow_integration_tests::{Ran, Sandbox};
use serde_json::Value;

/// A registry with one image under two names, whose manifests differ; the digests of both.
fn twice() -> (Registry, [String; 2]) {
    let registry = Registry::embedded();
    let layers = [tar("file", b"content")];
    let first = registry.push_image("team/app", "1", &layers);
    let mut other: Value = serde_json::from_slice(&image(&layers).1).expect("a manifest");
    other["annotations"] = serde_json::json!({ "org.example.one": "more" });
    let other = other.to_string().into_bytes();
    let kind = [("Content-Type", MANIFEST)];
    registry
        .ask("PUT", "/v2/team/app/manifests/2", &kind, &other)
        .expect(201);
    (registry, [first, sha256(&other)])
}

/// A store with both.
fn pulled(registry: &Registry) -> (Sandbox, [String; 2]) {
    let sandbox = Sandbox::new();
    let names = ["1", "2"].map(|tag| format!("{}/team/app:{tag}", registry.address()));
    for name in &names {
        sandbox.dhow(["pull", "-q", name]).ok();
    }
    (sandbox, names)
}

fn digests(sandbox: &Sandbox) -> String {
    let format = "{{.Tag}} {{.Digest}}";
    let said = sandbox.dhow(["images", "--format", format, "*/team/app"]);
    let mut lines: Vec<String> = said.ok().lines().map(str::to_owned).collect();
    lines.sort();
    lines.join("\n")
}

#[test]
fn each_name_is_shown_with_its_own_digest() {
    let (registry, [first, second]) = twice();
    let (sandbox, names) = pulled(&registry);
    assert_eq!(digests(&sandbox), format!("1 {first}\n2 {second}"));
    let shown = |name: &str, format: &str| sandbox.dhow(["inspect", "-f", format, name]).ok();
    assert_eq!(shown(&names[0], "{{.Descriptor.digest}}"), first);
    assert_eq!(shown(&names[1], "{{.Descriptor.digest}}"), second);
    // By either digest it is found, too.
    let id = shown(&names[0], "{{.Id}}");
    assert_eq!(shown(&second, "{{.Id}}"), id);
    // What a person would pin it by: where it came from, and nothing of a name that no registry knows.
    sandbox.dhow(["tag", &names[0], "mine"]).ok();
    let repository = names[0].strip_suffix(":1").expect("a tag");
    let mut expected = [
        format!("{repository}@{first}"),
        format!("{repository}@{second}"),
    ];
    expected.sort();
    let format = "{{range .RepoDigests}}{{println .}}{{end}}";
    assert_eq!(shown("mine", format), expected.join("\n"));
    assert_eq!(shown("mine", "{{len .RepoTags}}"), "3");
    // A name with a digest is none with a tag.
    let pinned = format!("{}@{first}", names[0]);
    sandbox.dhow(["rmi", &names[0]]).ok();
    sandbox.dhow(["pull", "-q", &pinned]).ok();
    assert_eq!(digests(&sandbox), format!("2 {second}\n<none> {first}"));
    assert_eq!(shown(&pinned, "{{len .RepoDigests}}"), "2");
}

#[test]
fn each_is_saved_and_served_as_it_is() {
    let (registry, [first, second]) = twice();
    let (sandbox, names) = pulled(&registry);
    let id = sandbox.dhow(["inspect", "-f", "{{.Id}}", &names[0]]).ok();
    let archive = sandbox.path("both.tar");
    let archive = archive.to_str().expect("a path");
    sandbox.dhow(["save", "-q", "-o", archive, &id]).ok();
    let other = Sandbox::new();
    other.dhow(["load", "-q", "-i", archive]).ok();
    assert_eq!(digests(&other), format!("1 {first}\n2 {second}"));
    other.assert_whole();

    let view = Registry::embedded_with(sandbox, &["--images"]);
    let repository = names[0].replacen(&registry.address().to_string(), "x", 1);
    assert_eq!(repository, "x/team/app:1");
    for name in &names {
        let tag = name.rsplit(':').next().expect("a tag");
        let alias = format!("served:{tag}");
        view.sandbox().dhow(["tag", name, &alias]).ok();
    }
    for (tag, digest) in [("1", &first), ("2", &second)] {
        for manifest in [tag, digest] {
            let answer = view.get(&format!("/v2/served/manifests/{manifest}"));
            assert_eq!(sha256(&answer.expect(200).body), **digest, "{manifest}");
        }
    }
}

#[test]
fn room_is_counted_for_each() {
    let (registry, _) = twice();
    let (sandbox, names) = pulled(&registry);
    let bytes = |ran: Ran| ran.ok().lines().nth(1).map(str::to_owned).expect("a row");
    let both = bytes(sandbox.dhow(["system", "df"]));
    sandbox.dhow(["rmi", &names[1]]).ok();
    sandbox.dhow(["system", "prune", "-f"]).ok();
    let one = bytes(sandbox.dhow(["system", "df"]));
    assert_ne!(both, one, "the other manifest has bytes, too");
}

#[test]
fn who_gets_another_platforms_image_is_told() {
    let (registry, _) = twice();
    let sandbox = Sandbox::new();
    let name = format!("{}/team/app:1", registry.address());
    let asked = ["pull", "--platform", "linux/s390x", &name];
    let pulled = sandbox.dhow(asked);
    assert!(
        pulled
            .stderr
            .contains("is for linux/amd64, and not for linux/s390x"),
        "{}",
        pulled.stderr
    );
    pulled.ok();
    let pulled = sandbox.dhow(["pull", "--platform", "linux/amd64", &name]);
    assert!(!pulled.stderr.contains("not for"), "{}", pulled.stderr);
}
