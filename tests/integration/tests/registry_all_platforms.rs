//! Images for several platforms as wholes: pulled, kept, named, pushed, saved and loaded with `--all-platforms`.

use dhow_integration_tests::registry::{self, Registry};
use dhow_integration_tests::{Sandbox, base_image};
use serde_json::Value;

/// Images for two platforms that tell which they are.
fn platforms() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let base = fs_err::read(base_image("busybox")).expect("busybox");
    let which = |name: &str| registry::tar("which", name.as_bytes());
    vec![
        ("arm64", vec![base.clone(), which("arm64")]),
        ("amd64", vec![base, which("amd64")]),
    ]
}

/// Images of small layers.
fn small() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let layer = |name: &str| registry::tar(name, &[b'x'; 20_000]);
    vec![
        ("s390x", vec![layer("shared"), layer("s390x")]),
        ("amd64", vec![layer("shared"), layer("amd64")]),
        ("riscv64", vec![layer("riscv64")]),
    ]
}

/// Asserts that a registry has all that an index of another names, byte for byte.
#[track_caller]
fn same_everywhere(from: &Registry, to: &Registry, repository: &str, index: &[u8]) {
    let index: Value = serde_json::from_slice(index).expect("an index");
    for entry in index["manifests"].as_array().expect("manifests") {
        let digest = entry["digest"].as_str().expect("a digest");
        let path = format!("/v2/{repository}/manifests/{digest}");
        let found = to.ask("GET", &path, &[("Accept", registry::MANIFEST)], b"");
        found.expect(200);
        assert_eq!(
            found.body,
            from.get(&format!("/v2/app/manifests/{digest}")).body
        );
        let manifest = found.json();
        let layers = manifest["layers"].as_array().expect("layers").iter();
        for blob in layers.chain([&manifest["config"]]) {
            let digest = blob["digest"].as_str().expect("a digest");
            let found = to.get(&format!("/v2/{repository}/blobs/{digest}"));
            assert_eq!(registry::sha256(&found.expect(200).body), digest);
        }
    }
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}

#[test]
fn all_platforms_come_and_go_byte_for_byte() {
    let (from, to) = (Registry::embedded(), Registry::debian());
    let (index, digest) = from.push_index("app", "1", &small());
    let sandbox = Sandbox::new();
    let name = format!("{}/app:1", from.address());
    let pulled = sandbox.dhow(["pull", "--all-platforms", &name]).ok();
    assert!(pulled.contains(&format!("Digest: {digest}")), "{pulled}");
    let again = sandbox.dhow(["pull", "--all-platforms", &name]).ok();
    assert!(again.contains("up to date"), "{again}");
    // A plain pull finds its own platform's image and leaves the others alone.
    let plain = sandbox.dhow(["pull", &name]).ok();
    assert!(plain.contains("up to date"), "{plain}");

    let row = sandbox.dhow(["images", "--format", "json"]).ok();
    let row: Value = serde_json::from_str(&row).expect("one row");
    assert_eq!(row["Digest"], digest.as_str());
    let all = ["linux/s390x", "linux/amd64", "linux/riscv64"];
    assert_eq!(row["Platforms"], serde_json::json!(all));
    let format = "{{.Architecture}} {{.Index.digest}}";
    let shown = sandbox.dhow(["inspect", "-f", format, &name]).ok();
    assert_eq!(shown, format!("amd64 {digest}"));

    // Another name stands for all of it, too, and outlives the first.
    let other = format!("{}/team/app:2", to.address());
    sandbox.dhow(["tag", &name, &other]).ok();
    sandbox.dhow(["rmi", &name]).ok();
    sandbox.dhow(["system", "prune", "-f"]).ok();
    assert_eq!(sandbox.dhow(["system", "check"]).ok(), "0 damaged, 0 left");
    let pushed = sandbox.dhow(["push", "--all-platforms", &other]).ok();
    assert!(pushed.contains(&format!("2: digest: {digest}")), "{pushed}");
    let found = to.ask(
        "GET",
        "/v2/team/app/manifests/2",
        &[("Accept", registry::INDEX)],
        b"",
    );
    assert_eq!(found.body, index);
    same_everywhere(&from, &to, "team/app", &index);
    let again = sandbox.dhow(["push", "--all-platforms", &other]).ok();
    assert!(last_line(&again).ends_with(" in 1 request"), "{again}");

    // Within one registry blobs are mounted.
    let third = format!("{}/third:1", to.address());
    sandbox.dhow(["tag", &other, &third]).ok();
    let pushed = sandbox.dhow(["push", "--all-platforms", &third]);
    assert!(
        pushed.stderr.contains("mounted from team/app"),
        "{}",
        pushed.stderr
    );
    assert!(!pushed.stderr.contains(": pushed"), "{}", pushed.stderr);
    pushed.ok();

    // Without the last name all of it goes.
    sandbox.dhow(["rmi", &other, &third]).ok();
    // Its own collection runs beside us.
    sandbox.dhow(["system", "prune", "-f"]).ok();
    let left = fs_err::read_dir(sandbox.path("root/blobs/sha256")).expect("blobs");
    assert_eq!(left.count(), 0);
}

#[test]
fn what_is_pulled_for_one_platform_is_pushed_for_one() {
    let (from, to) = (Registry::embedded(), Registry::embedded());
    from.push_index("app", "1", &small());
    let sandbox = Sandbox::new();
    let name = format!("{}/app:1", from.address());
    let other = format!("{}/app:1", to.address());
    sandbox.dhow(["pull", "-q", &name]).ok();
    sandbox.dhow(["tag", &name, &other]).ok();
    let pushed = sandbox.dhow(["push", "-a", &other]);
    assert!(
        pushed.stderr.contains("is here for linux/amd64 only"),
        "{}",
        pushed.stderr
    );
    pushed.ok();
    let manifest = to.get("/v2/app/manifests/1").json();
    assert_eq!(manifest["mediaType"], registry::MANIFEST);

    // And of all platforms one goes where all are not asked for.
    sandbox.dhow(["pull", "-q", "--all-platforms", &name]).ok();
    sandbox.dhow(["tag", &name, &other]).ok();
    let pushed = sandbox.dhow(["push", &other]);
    assert!(
        pushed.stderr.contains("--all-platforms takes all"),
        "{}",
        pushed.stderr
    );
    pushed.ok();
    assert_eq!(to.get("/v2/app/manifests/1").json(), manifest);
}

#[test]
fn a_build_stands_on_the_image_of_its_own_platform() {
    let mut registry = Registry::embedded();
    registry.push_index("app", "1", &platforms());
    let sandbox = Sandbox::new();
    let name = format!("{}/app:1", registry.address());
    let pull = ["pull", "-q", "--platform", "linux/arm64", &name];
    sandbox.dhow(pull).ok();
    sandbox.write(
        "context/Dockerfile",
        format!("FROM {name}\nRUN cp /which /seen\n"),
    );
    let context = sandbox.path("context").display().to_string();
    let built = sandbox.dhow(["build", "-t", "built", &context]);
    let told = format!("{name} is here for linux/arm64 only; fetching it for linux/amd64");
    assert!(built.stderr.contains(&told), "{}", built.stderr);
    built.ok();
    let seen = ["run", "--rm", "--network=none", "built", "cat", "/seen"];
    assert_eq!(sandbox.dhow(seen).ok(), "amd64");
    // The name stands for what it stood for.
    let format = "{{.Architecture}}";
    let shown = || sandbox.dhow(["inspect", "-f", format, &name]).ok();
    assert_eq!(shown(), "arm64");
    let run = ["run", "--rm", "--platform", "linux/amd64", &name, "true"];
    let said = sandbox.dhow(run).fails(125);
    let told = format!("{name} is here for linux/arm64 only; `dhow pull --platform linux/amd64");
    assert!(said.contains(&told), "{said}");
    // Where it cannot be had it is refused.
    registry.stop();
    let said = sandbox.dhow(["build", "--no-cache", &context]).fails(125);
    assert!(said.contains("it cannot be had for linux/amd64"), "{said}");
    assert_eq!(sandbox.dhow(["system", "check"]).ok(), "0 damaged, 0 left");
}

#[test]
fn a_build_believes_the_index_more_than_what_an_image_says_of_itself() {
    let registry = Registry::embedded();
    let sandbox = Sandbox::new();
    let put = |name: &str, kind: &str, bytes: &[u8]| {
        let path = format!("/v2/app/manifests/{name}");
        let kind = [("Content-Type", kind)];
        registry.ask("PUT", &path, &kind, bytes).expect(201);
    };
    let layers = [registry::tar("file", b"x")];
    registry.push_blob("app", &layers[0]);
    let context = |name: &str| {
        let image = format!("FROM {}/app:{name}\nLABEL a=b\n", registry.address());
        sandbox.write(&format!("{name}/Dockerfile"), image);
        sandbox.path(name).display().to_string()
    };
    for (at, said) in ["", "x86_64", "s390x"].iter().enumerate() {
        let (config, manifest) = registry::image_for(said, &layers);
        registry.push_blob("app", &config);
        put(&format!("lone{at}"), registry::MANIFEST, &manifest);
        let mut entry = registry::descriptor(registry::MANIFEST, &manifest);
        entry["platform"] = serde_json::json!({ "os": "linux", "architecture": "amd64" });
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": registry::INDEX, "manifests": [entry],
        });
        let tag = format!("index{at}");
        put(&tag, registry::INDEX, index.to_string().as_bytes());
        sandbox.dhow(["build", "-q", &context(&tag)]).ok();
    }
    // Without an index there is nothing but what it says of itself.
    for name in ["lone0", "lone1"] {
        sandbox.dhow(["build", "-q", &context(name)]).ok();
    }
    let refused = sandbox.dhow(["build", "-q", &context("lone2")]).fails(125);
    let told = "its registry has it for linux/s390x";
    assert!(refused.contains(told), "{refused}");
}

#[test]
fn containers_run_the_platform_that_is_asked_for() {
    let registry = Registry::embedded();
    registry.push_index("app", "1", &platforms());
    let sandbox = Sandbox::new();
    let name = format!("{}/app:1", registry.address());
    sandbox.dhow(["pull", "-q", "--all-platforms", &name]).ok();
    // The kernel runs both: busybox is this machine's in each.
    let own = sandbox.dhow(["run", "--rm", &name, "cat", "/which"]).ok();
    assert_eq!(own, "amd64");
    let platform = ["run", "--rm", "--platform", "linux/arm64"];
    let args = platform.iter().copied().chain([&*name, "cat", "/which"]);
    assert_eq!(sandbox.dhow(args).ok(), "arm64");
    let args = ["create", "--platform", "linux/s390x", &name];
    let said = sandbox.dhow(args).fails(125);
    assert!(
        said.contains("it is for linux/arm64, linux/amd64"),
        "{said}"
    );
    assert_eq!(sandbox.dhow(["system", "check"]).ok(), "0 damaged, 0 left");
}

#[test]
fn an_image_for_other_machines_alone_is_kept_and_sent() {
    let (from, to) = (Registry::embedded(), Registry::embedded());
    let (index, _) = from.push_index("app", "1", &small()[..1]);
    let sandbox = Sandbox::new();
    let name = format!("{}/app:1", from.address());
    let other = format!("{}/app:1", to.address());
    sandbox.dhow(["pull", "-q", &name]).fails(125);
    sandbox.dhow(["pull", "-q", "--all-platforms", &name]).ok();
    sandbox.dhow(["tag", &name, &other]).ok();
    sandbox.dhow(["push", "-q", "-a", &other]).ok();
    assert_eq!(to.get("/v2/app/manifests/1").body, index);
    same_everywhere(&from, &to, "app", &index);
}

#[test]
fn archives_keep_all_platforms() {
    let (from, to) = (Registry::embedded(), Registry::embedded());
    let (index, digest) = from.push_index("app", "1", &small());
    let (first, second) = (Sandbox::new(), Sandbox::new());
    let name = format!("{}/app:1", from.address());
    first.dhow(["pull", "-q", "--all-platforms", &name]).ok();
    let file = first.path("all.tar").display().to_string();
    first.dhow(["save", "-o", &file, &name]).ok();
    let said = second.dhow(["load", "-q", "-i", &file]).ok();
    assert_eq!(said, format!("Loaded image: {name}"));
    let row = second.dhow(["images", "--format", "json"]).ok();
    assert!(row.contains(&digest), "{row}");
    let other = format!("{}/app:1", to.address());
    second.dhow(["tag", &name, &other]).ok();
    second.dhow(["push", "-q", "-a", &other]).ok();
    same_everywhere(&from, &to, "app", &index);
    assert_eq!(second.dhow(["system", "check"]).ok(), "0 damaged, 0 left");
}

#[test]
fn one_platform_and_all_cannot_both_be_meant() {
    let sandbox = Sandbox::new();
    let both = ["--all-platforms", "--platform", "linux/amd64"];
    for words in [&["pull", "a"][..], &["image", "copy", "a", "b"]] {
        let said = sandbox.dhow(words.iter().chain(&both)).fails(125);
        assert!(
            said.contains("--all-platforms") && said.contains("--platform"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_layer_of_another_platform_that_is_lost_is_told() {
    let registry = Registry::embedded();
    let images = small();
    registry.push_index("app", "1", &images);
    let sandbox = Sandbox::new();
    let name = format!("{}/app:1", registry.address());
    sandbox.dhow(["pull", "-q", "--all-platforms", &name]).ok();
    let lost = registry::sha256(&images[2].1[0]);
    let blob = format!("root/blobs/{}", lost.replace(':', "/"));
    fs_err::remove_file(sandbox.path(blob)).expect("remove");
    // Another pull brings it back.
    let pulled = sandbox.dhow(["pull", "--all-platforms", &name]);
    assert!(pulled.stderr.contains(": pulled"), "{}", pulled.stderr);
    pulled.ok();
    assert_eq!(sandbox.dhow(["system", "check"]).ok(), "0 damaged, 0 left");
}

#[test]
fn what_is_mended_or_dropped_keeps_all_platforms() {
    let (registry, other) = (Registry::embedded(), Registry::embedded());
    let (index, digest) = registry.push_index("app", "1", &platforms());
    let sandbox = Sandbox::new();
    let name = format!("{}/app:1", registry.address());
    sandbox.dhow(["pull", "-q", "--all-platforms", &name]).ok();
    // The image that is run here is mended by a pull for this platform alone.
    let lost = registry::sha256(&registry::tar("which", b"amd64")).replace(':', "-");
    let records = fs_err::read_dir(sandbox.path("root/layers")).expect("list");
    let mut removed = 0;
    for record in records.map(|record| record.expect("an entry").path()) {
        if record.to_string_lossy().contains(&lost) {
            fs_err::remove_file(record).expect("remove");
            removed += 1;
        }
    }
    assert_eq!(removed, 1);
    let mended = sandbox.dhow(["pull", &name]);
    assert!(mended.stderr.contains("repairing it"), "{}", mended.stderr);
    mended.ok();
    let row = sandbox
        .dhow(["images", "--digests", "--format", "json"])
        .ok();
    assert!(row.contains(&digest), "{row}");
    // Once another platform is unpacked, too, its blobs can be dropped, and an archive brings them back.
    let which = [
        "run",
        "--rm",
        "--network",
        "none",
        "--platform",
        "linux/arm64",
        &name,
    ];
    let seen = sandbox.dhow(which.iter().chain(&["cat", "/which"])).ok();
    assert_eq!(seen, "arm64");
    sandbox.dhow(["image", "prune", "--blobs", "-f"]).ok();
    let archive = sandbox.path("app.tar");
    let archive = archive.to_str().expect("a path");
    sandbox.dhow(["save", "-q", "-o", archive, &name]).ok();
    let second = Sandbox::new();
    second.dhow(["load", "-q", "-i", archive]).ok();
    let there = format!("{}/app:1", other.address());
    second.dhow(["tag", &name, &there]).ok();
    second.dhow(["push", "-q", "-a", &there]).ok();
    same_everywhere(&registry, &other, "app", &index);
}

#[test]
fn what_only_another_platform_lacks_for_good_does_not_stop_a_pull() {
    let registry = Registry::embedded();
    let mut images = small();
    let (_, digest) = registry.push_index("app", "1", &images);
    let sandbox = Sandbox::new();
    let name = format!("{}/app:1", registry.address());
    sandbox.dhow(["pull", "-q", "--all-platforms", &name]).ok();
    let lost = registry::sha256(&images[2].1[0]);
    let blob = format!("root/blobs/{}", lost.replace(':', "/"));
    fs_err::remove_file(sandbox.path(blob)).expect("remove");
    let gone = format!("/v2/app/blobs/{lost}");
    registry.ask("DELETE", &gone, &[], b"").expect(202);
    let pull_warns = || {
        let pulled = sandbox.dhow(["pull", &name]);
        let warning = format!("warning: the registry does not have all of {digest}");
        assert!(pulled.stderr.contains(&warning), "{}", pulled.stderr);
        pulled.ok();
        let row = sandbox
            .dhow(["images", "--digests", "--format", "json"])
            .ok();
        assert!(row.contains(&digest), "{row}");
    };
    pull_warns();
    // The name may stand for another index by now, which has the same image for this platform.
    images.remove(2);
    registry.push_index("app", "1", &images);
    pull_warns();
    // A pull for all platforms takes what there is.
    sandbox.dhow(["pull", "-q", "--all-platforms", &name]).ok();
    assert_eq!(sandbox.dhow(["system", "check"]).ok(), "0 damaged, 0 left");
}
