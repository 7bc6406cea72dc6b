//! `dhow image copy` between registries, OCI layouts, archives and the store, with skopeo as the other who reads and writes them.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use dhow_integration_tests::registry::{self, Registry};
use dhow_integration_tests::{Gate, Ran, Sandbox, ran};
use serde_json::Value;

fn platforms() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let layer = |name: &str, size| registry::tar(name, &vec![b'x'; size]);
    vec![
        (
            "arm64",
            vec![layer("shared", 70_000), layer("arm64", 9_000)],
        ),
        (
            "amd64",
            vec![layer("shared", 70_000), layer("amd64", 5_000)],
        ),
    ]
}

#[track_caller]
fn skopeo(args: &[&str]) -> Ran {
    let mut command = Command::new("skopeo");
    command.args(args);
    ran(command, b"")
}

/// Copies with skopeo, all platforms.
#[track_caller]
fn skopeo_copies(from: &str, to: &str) {
    let plain = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    let mut args = vec!["copy", "-q", "--all", "--preserve-digests"];
    args.extend(plain);
    args.extend([from, to]);
    skopeo(&args).ok();
}

/// Copies with dhow, all platforms; the digest that it prints.
#[track_caller]
fn copies(sandbox: &Sandbox, from: &str, to: &str) -> String {
    sandbox.dhow(["image", "copy", "-q", "-a", from, to]).ok()
}

fn at(registry: &Registry, name: &str) -> String {
    format!("docker://{}/{name}", registry.address())
}

fn place(transport: &str, sandbox: &Sandbox, name: &str) -> String {
    format!("{transport}:{}", sandbox.path(name).display())
}

/// The index under a name of a registry.
#[track_caller]
fn index_at(registry: &Registry, repository: &str, tag: &str) -> Vec<u8> {
    let path = format!("/v2/{repository}/manifests/{tag}");
    let found = registry.ask("GET", &path, &[("Accept", registry::INDEX)], b"");
    found.expect(200);
    found.body
}

/// The file of a blob in a layout.
fn blob(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs").join(digest.replace(':', "/"))
}

#[test]
fn an_image_goes_everywhere_with_the_same_digests() {
    let (from, to) = (Registry::embedded(), Registry::embedded());
    let (index, digest) = from.push_index("app", "1", &platforms());
    let sandbox = Sandbox::new();
    let layout = place("oci", &sandbox, "layout:one");
    let archive = place("oci-archive", &sandbox, "archive.tar:two");
    let second = place("oci", &sandbox, "second:three");
    let way = [
        at(&from, "app:1"),
        layout.clone(),
        archive.clone(),
        "store:kept:1".to_owned(),
        second,
        at(&to, "team/app:2"),
    ];
    for step in way.windows(2) {
        assert_eq!(copies(&sandbox, &step[0], &step[1]), digest, "{step:?}");
    }
    assert_eq!(index_at(&to, "team/app", "2"), index);
    assert_eq!(sandbox.dhow(["system", "check"]).ok(), "0 damaged, 0 left");
    // In the store it is as if it had been pulled; nothing was unpacked.
    let trees = fs_err::read_dir(sandbox.path("root/trees")).expect("trees");
    assert_eq!(trees.count(), 0);
    let row = sandbox.dhow(["images", "--digests"]).ok();
    assert!(row.contains(&digest), "{row}");

    // skopeo reads what was written on the way.
    for (number, place) in [layout, archive].iter().enumerate() {
        let name = format!("skopeo:{number}");
        skopeo_copies(place, &at(&to, &name));
        assert_eq!(index_at(&to, "skopeo", &number.to_string()), index);
    }
}

#[test]
fn what_skopeo_wrote_is_read() {
    let (from, to) = (Registry::embedded(), Registry::embedded());
    let (index, digest) = from.push_index("app", "1", &platforms());
    let sandbox = Sandbox::new();
    let source = at(&from, "app:1");
    for (number, transport) in ["oci", "oci-archive"].iter().enumerate() {
        let place = format!("{}:v1", place(transport, &sandbox, transport));
        skopeo_copies(&source, &place);
        let name = format!("app:{number}");
        assert_eq!(copies(&sandbox, &place, &at(&to, &name)), digest);
        assert_eq!(index_at(&to, "app", &number.to_string()), index);
    }
    // Compressed archives, too.
    let file = sandbox.path("oci-archive");
    let gzip = Command::new("gzip").arg("-k").arg(&file).status();
    assert!(gzip.expect("gzip").success());
    let zipped = format!("{}:v1", place("oci-archive", &sandbox, "oci-archive.gz"));
    assert_eq!(copies(&sandbox, &zipped, "store:app:1"), digest);
}

#[test]
fn one_platform_is_chosen_unless_all_are_wanted() {
    let registry = Registry::embedded();
    let (index, _) = registry.push_index("app", "1", &platforms());
    let index: Value = serde_json::from_slice(&index).expect("an index");
    let sandbox = Sandbox::new();
    let source = at(&registry, "app:1");
    let layout = place("oci", &sandbox, "layout");
    for (platform, entry) in [("linux/arm64", 0), ("linux/amd64", 1)] {
        let to = format!("{layout}:{entry}");
        let args = ["image", "copy", "-q", "--platform", platform, &source, &to];
        let digest = sandbox.dhow(args).ok();
        assert_eq!(index["manifests"][entry]["digest"], digest.as_str());
    }
    let plain = sandbox
        .dhow(["image", "copy", "-q", &source, "store:own"])
        .ok();
    assert_eq!(index["manifests"][1]["digest"], plain.as_str());
    let args = [
        "image",
        "copy",
        "--platform",
        "linux/s390x",
        &source,
        "store:no",
    ];
    let said = sandbox.dhow(args).fails(125);
    assert!(
        said.contains("it is for linux/arm64, linux/amd64"),
        "{said}"
    );
}

#[test]
fn dockers_archives_are_written_and_read() {
    let registry = Registry::embedded();
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    let name = format!("{}/busybox:1", registry.address());
    sandbox.dhow(["tag", "busybox", &name]).ok();
    // Pushed compressed, written uncompressed.
    sandbox.dhow(["push", "-q", &name]).ok();
    let manifest = registry.get("/v2/busybox/manifests/1").json();
    let archive = place("docker-archive", &sandbox, "docker.tar");
    let named = format!("{archive}:app:1");
    let said = sandbox.dhow(["image", "copy", &name, &named]).ok();
    assert!(said.contains("not compressed"), "{said}");
    let raw = skopeo(&["inspect", "--raw", &archive]).ok();
    let raw: Value = serde_json::from_str(&raw).expect("a manifest");
    assert_eq!(raw["config"]["digest"], manifest["config"]["digest"]);

    // Back again the image is the same, by its id.
    sandbox
        .dhow(["image", "copy", "-q", &archive, "store:back:1"])
        .ok();
    let id = |name: &str| sandbox.dhow(["inspect", "-f", "{{.Id}}", name]).ok();
    assert_eq!(id("back:1"), id("busybox"));
    sandbox.dhow(["run", "--rm", "back:1", "true"]).ok();
    let theirs = place("docker-archive", &sandbox, "theirs.tar");
    skopeo(&["copy", "-q", &archive, &format!("{theirs}:their/app:2")]).ok();
    let wrong = format!("{theirs}:other:1");
    let said = sandbox
        .dhow(["image", "copy", &wrong, "store:x"])
        .fails(125);
    assert!(
        said.contains("it has their/app:2") || said.contains("their/app:2"),
        "{said}"
    );
    let right = format!("{theirs}:their/app:2");
    sandbox
        .dhow(["image", "copy", "-q", &right, "store:their"])
        .ok();
    assert_eq!(id("their"), id("busybox"));

    registry.push_index("many", "1", &platforms());
    let many = at(&registry, "many:1");
    let said = sandbox
        .dhow(["image", "copy", "-a", &many, &archive])
        .fails(125);
    assert!(said.contains("one platform only"), "{said}");
    // What was there is there still.
    skopeo(&["inspect", "--raw", &archive]).ok();
}

#[test]
fn a_registry_is_asked_for_what_it_lacks_and_sent_no_more() {
    let (from, to) = (Registry::embedded(), Registry::debian());
    from.push_index("app", "1", &platforms());
    let sandbox = Sandbox::new();
    let (source, target) = (at(&from, "app:1"), at(&to, "app:1"));
    let first = sandbox.dhow(["image", "copy", "-a", &source, &target]);
    assert!(first.stderr.contains(": pushed"), "{}", first.stderr);
    first.ok();
    let again = sandbox.dhow(["image", "copy", "-a", &source, &target]).ok();
    assert!(again.contains("sent 0 B in 1 request"), "{again}");
    let one_each = again.lines().filter(|line| line.ends_with(" in 1 request"));
    assert_eq!(one_each.count(), 2, "{again}");
    // From one repository of a registry to another nothing is sent but documents.
    let other = at(&to, "team/other:1");
    let mounted = sandbox.dhow(["image", "copy", "-a", &target, &other]);
    assert!(
        mounted.stderr.contains("mounted from app"),
        "{}",
        mounted.stderr
    );
    assert!(!mounted.stderr.contains(": pushed"), "{}", mounted.stderr);
    mounted.ok();
    let third = sandbox.dhow(["image", "copy", "-a", &source, &at(&to, "app:2")]);
    assert!(!third.stderr.contains(": pushed"), "{}", third.stderr);
    third.ok();
}

#[test]
fn a_copy_goes_on_where_it_was_broken_off() {
    let registry = Registry::embedded();
    let layer = registry::tar("large", &vec![b'x'; 3_000_000]);
    registry.push_image("app", "1", std::slice::from_ref(&layer));
    let sandbox = Sandbox::new();
    let digest = registry::sha256(&layer);
    let part = format!("layout/.partial/{}", digest.replace(':', "-"));
    sandbox.write("layout/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    sandbox.write(&part, &layer[..2_900_000]);
    let layout = place("oci", &sandbox, "layout:1");
    let said = sandbox
        .dhow(["image", "copy", &at(&registry, "app:1"), &layout])
        .ok();
    let received = said.lines().find(|line| line.starts_with("Received "));
    assert!(
        received.is_some_and(|line| line.contains(" kB in ")),
        "{said}"
    );
    let copied = fs_err::read(blob(&sandbox.path("layout"), &digest)).expect("the blob");
    assert_eq!(copied, layer);
    assert!(!sandbox.path("layout/.partial").exists());

    // A part that is not the blob's beginning is found out, and fetched anew.
    fs_err::remove_file(blob(&sandbox.path("layout"), &digest)).expect("remove");
    sandbox.write(&part, vec![b'?'; 1_000_000]);
    sandbox
        .dhow(["image", "copy", "-q", &at(&registry, "app:1"), &layout])
        .ok();
    let copied = fs_err::read(blob(&sandbox.path("layout"), &digest)).expect("the blob");
    assert_eq!(copied, layer);
}

/// How many megabytes a copy says to have received.
#[track_caller]
fn received(said: &str) -> f64 {
    let line = said.lines().find(|line| line.starts_with("Received "));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    let (number, _) = line["Received ".len()..]
        .split_once(" MB")
        .expect("megabytes");
    number.parse().expect("a number")
}

#[test]
fn a_copy_between_registries_goes_on_where_either_connection_broke() {
    let from = Registry::embedded();
    let layers = [1, 2].map(|seed| registry::tar("large", &registry::noise(seed, 4_000_000)));
    from.push_image("app", "1", &layers);
    let sandbox = Sandbox::new();
    let assert_there = |to: &Registry| {
        for layer in &layers {
            let digest = registry::sha256(layer);
            let found = to.get(&format!("/v2/app/blobs/{digest}"));
            assert_eq!(registry::sha256(&found.expect(200).body), digest);
        }
        let accept = [("Accept", registry::MANIFEST)];
        let found = to.ask("GET", "/v2/app/manifests/1", &accept, b"");
        found.expect(200);
    };
    // Where it came from: nothing comes twice.
    let to = Registry::debian();
    let source = format!("{}/app:1", Gate::breaking(from.address(), 5_000_000));
    let said = sandbox
        .dhow(["image", "copy", &source, &at(&to, "app:1")])
        .ok();
    assert!((8.0..8.1).contains(&received(&said)), "{said}");
    assert_there(&to);
    // Where it went to: the blob is sent anew.
    let to = Registry::debian();
    let target = format!("{}/app:1", Gate::breaking(to.address(), 5_000_000));
    let said = sandbox
        .dhow(["image", "copy", &at(&from, "app:1"), &target])
        .ok();
    assert!((8.0..12.1).contains(&received(&said)), "{said}");
    assert_there(&to);
}

#[test]
fn a_copy_between_registries_that_was_killed_is_taken_up_by_the_next() {
    let (from, to) = (Registry::embedded(), Registry::embedded());
    let small = [1, 2, 3].map(|seed| registry::tar("small", &[seed]));
    let large = registry::tar("large", &registry::noise(9, 12_000_000));
    let mut layers = small.to_vec();
    layers.push(large.clone());
    from.push_image("app", "1", &layers);
    let sandbox = Sandbox::new();
    let (address, gate) = Gate::before(from.address(), 6_000_000);
    let (source, target) = (format!("{address}/app:1"), at(&to, "app:1"));
    let has = |layer: &[u8]| {
        let path = format!("/v2/app/blobs/{}", registry::sha256(layer));
        to.ask("HEAD", &path, &[], b"").status == 200
    };
    let begun = std::time::Instant::now();
    gate.kill_when_stalled(sandbox.command(["image", "copy", &source, &target]), || {
        // The small ones are there long before; but where the machine takes its time, fewer will do.
        small.iter().all(|layer| has(layer)) || begun.elapsed().as_secs() > 20
    });
    to.get("/v2/app/manifests/1").expect(404);
    assert!(!has(&large));
    let there = small.iter().filter(|layer| has(layer)).count();
    gate.open();
    let copied = sandbox.dhow(["image", "copy", &source, &target]);
    let found = copied.stderr.matches(": already there").count();
    // The config may have come, too, and what was on its way when we looked.
    assert!((there..=4).contains(&found), "{there}: {}", copied.stderr);
    copied.ok();
    assert!(layers.iter().all(|layer| has(layer)));
    to.get("/v2/app/manifests/1").expect(200);
}

#[test]
fn a_copy_that_is_killed_leaves_the_layout_as_it_was() {
    let registry = Registry::embedded();
    let layer = |name: &str| registry::tar(name, &vec![b'x'; 2_000_000]);
    registry.push_image("old", "1", &[layer("old")]);
    registry.push_image("new", "1", &[layer("a"), layer("b"), layer("c")]);
    let sandbox = Sandbox::new();
    let (old, new) = (
        place("oci", &sandbox, "layout:old"),
        place("oci", &sandbox, "layout:new"),
    );
    sandbox
        .dhow(["image", "copy", "-q", &at(&registry, "old:1"), &old])
        .ok();
    for delay in 0..12 {
        let source = at(&registry, "new:1");
        let mut command = sandbox.command(["image", "copy", "-q", &source, &new]);
        let mut child = command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("dhow");
        std::thread::sleep(std::time::Duration::from_millis(delay * 4));
        // It may have ended by itself.
        let _ = child.kill();
        child.wait().expect("wait");
        skopeo(&["inspect", "--raw", &old]).ok();
        let index = fs_err::read(sandbox.path("layout/index.json")).expect("the index");
        let index: Value = serde_json::from_slice(&index).expect("an index");
        for entry in index["manifests"].as_array().expect("manifests") {
            let digest = entry["digest"].as_str().expect("a digest");
            let bytes = fs_err::read(blob(&sandbox.path("layout"), digest)).expect("a manifest");
            assert_eq!(registry::sha256(&bytes), digest);
        }
    }
    sandbox
        .dhow(["image", "copy", "-q", &at(&registry, "new:1"), &new])
        .ok();
    for (place, name) in [(&old, "o"), (&new, "n")] {
        let back = at(&registry, &format!("back/{name}:1"));
        sandbox.dhow(["image", "copy", "-q", place, &back]).ok();
    }
    assert!(!sandbox.path("layout/.partial").exists());
}

#[test]
fn other_tags_of_a_layout_stay() {
    let registry = Registry::embedded();
    let layer = |name: &str| registry::tar(name, name.as_bytes());
    let one = registry.push_image("app", "1", &[layer("one")]);
    let two = registry.push_image("app", "2", &[layer("two")]);
    let sandbox = Sandbox::new();
    let layout = place("oci", &sandbox, "layout");
    let copy = |from: &str, to: &str| {
        let (from, to) = (at(&registry, from), format!("{layout}:{to}"));
        sandbox.dhow(["image", "copy", "-q", &from, &to]).ok()
    };
    skopeo_copies(&at(&registry, "app:1"), &format!("{layout}:s"));
    assert_eq!(copy("app:1", "a"), one);
    assert_eq!(copy("app:1", "b"), one);
    assert_eq!(copy("app:2", "b"), two);
    for (tag, digest) in [("s", &one), ("a", &one), ("b", &two)] {
        let raw = skopeo(&["inspect", "--raw", &format!("{layout}:{tag}")]).stdout;
        assert_eq!(registry::sha256(raw.as_bytes()), *digest, "{tag}");
    }
    let said = sandbox
        .dhow(["image", "copy", &layout, "store:x"])
        .fails(125);
    assert!(said.contains("several images"), "{said}");
    let said = sandbox
        .dhow(["image", "copy", &format!("{layout}:c"), "store:x"])
        .fails(125);
    assert!(
        said.contains("no image with the tag \"c\"; it has s, a, b"),
        "{said}"
    );
    let elsewhere = sandbox.write("full/file", "mine");
    let full = place("oci", &sandbox, "full:1");
    let said = sandbox
        .dhow(["image", "copy", &at(&registry, "app:1"), &full])
        .fails(125);
    assert!(
        said.contains("is not empty and no OCI image layout"),
        "{said}"
    );
    assert_eq!(fs_err::read(elsewhere).expect("the file"), b"mine");
}

#[test]
fn artifacts_go_as_they_are_and_not_into_the_store() {
    let (from, to) = (Registry::embedded(), Registry::embedded());
    let image = from.push_image("app", "1", &[registry::tar("a", b"a")]);
    let manifest = from.get("/v2/app/manifests/1").body;
    let statement = b"a statement";
    from.push_blob("app", statement);
    from.push_blob("app", b"{}");
    let subject = registry::descriptor(registry::MANIFEST, &manifest);
    let artifact = registry::artifact(statement, &subject);
    let kind = [("Content-Type", registry::MANIFEST)];
    from.ask("PUT", "/v2/app/manifests/sig", &kind, &artifact)
        .expect(201);
    let sandbox = Sandbox::new();
    let layout = place("oci", &sandbox, "layout:sig");
    let digest = copies(&sandbox, &at(&from, "app:sig"), &layout);
    assert_eq!(digest, registry::sha256(&artifact));
    assert_eq!(copies(&sandbox, &layout, &at(&to, "app:sig")), digest);
    assert_eq!(to.get("/v2/app/manifests/sig").body, artifact);
    // The registry has been told to what it refers.
    let referrers = to.get(&format!("/v2/app/referrers/{image}")).json();
    assert_eq!(referrers["manifests"][0]["digest"], digest.as_str());
    let said = sandbox
        .dhow(["image", "copy", &layout, "store:x"])
        .fails(125);
    assert!(said.contains("no image but an artifact"), "{said}");
}

/// A layout with one image, by hand; its directory and the layer's digest.
fn layout_by_hand(sandbox: &Sandbox, name: &str) -> (PathBuf, String) {
    let layer = registry::tar("hello", b"hello");
    let (config, manifest) = registry::image(std::slice::from_ref(&layer));
    for bytes in [&layer, &config, &manifest] {
        let digest = registry::sha256(bytes);
        sandbox.write(&format!("{name}/blobs/{}", digest.replace(':', "/")), bytes);
    }
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [registry::descriptor(registry::MANIFEST, &manifest)],
    });
    sandbox.write(&format!("{name}/index.json"), index.to_string());
    sandbox.write(
        &format!("{name}/oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    );
    (sandbox.path(name), registry::sha256(&layer))
}

#[test]
fn what_is_wrong_with_a_layout_is_named() {
    let registry = Registry::embedded();
    let sandbox = Sandbox::new();
    let refused = |name: &str, says: &str| {
        let target = at(&registry, &format!("{name}:1"));
        let layout = place("oci", &sandbox, name);
        for to in [
            target,
            format!("store:{name}"),
            place("oci", &sandbox, "out:1"),
            place("oci-archive", &sandbox, "out.tar"),
        ] {
            let said = sandbox
                .dhow(["image", "copy", "-q", &layout, &to])
                .fails(125);
            assert!(said.contains(says), "{name} to {to}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        registry.get(&format!("/v2/{name}/manifests/1")).expect(404);
        assert_eq!(sandbox.dhow(["images", "-q"]).ok(), "");
        assert!(!sandbox.path("out/index.json").exists());
        assert!(!sandbox.path("out.tar").exists());
    };
    let (dir, layer) = layout_by_hand(&sandbox, "flipped");
    let mut bytes = fs_err::read(blob(&dir, &layer)).expect("the layer");
    bytes[600] ^= 1;
    fs_err::write(blob(&dir, &layer), &bytes).expect("write");
    refused(
        "flipped",
        &format!("{layer} is damaged: its bytes have the digest"),
    );

    let (dir, layer) = layout_by_hand(&sandbox, "short");
    fs_err::write(blob(&dir, &layer), &bytes[..512]).expect("write");
    refused("short", "it has 512 bytes, not");

    let (dir, layer) = layout_by_hand(&sandbox, "missing");
    fs_err::remove_file(blob(&dir, &layer)).expect("remove");
    refused("missing", &format!("has no blob {layer}"));

    let (dir, _) = layout_by_hand(&sandbox, "garbled");
    fs_err::write(dir.join("index.json"), "{").expect("write");
    refused("garbled", "index.json");

    let (dir, _) = layout_by_hand(&sandbox, "future");
    fs_err::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).expect("write");
    refused("future", "version \"2.0.0\"");

    let (dir, _) = layout_by_hand(&sandbox, "unmarked");
    fs_err::remove_file(dir.join("oci-layout")).expect("remove");
    refused("unmarked", "is no OCI image layout");
}

#[test]
fn a_hostile_layout_leads_nowhere() {
    let registry = Registry::embedded();
    let sandbox = Sandbox::new();
    let secret = sandbox.write("secret", "nobody's business");
    let source = |name: &str| place("oci", &sandbox, name);

    // A digest that is a path.
    let (dir, _) = layout_by_hand(&sandbox, "dots");
    let entry = serde_json::json!({
        "mediaType": registry::MANIFEST, "digest": "sha256:../../../secret", "size": 17,
    });
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [entry] });
    fs_err::write(dir.join("index.json"), index.to_string()).expect("write");
    sandbox
        .dhow(["image", "copy", &source("dots"), "store:x"])
        .fails(125);

    // Links to the outside: a blob, the directory of blobs, the index.
    for (name, what) in [
        ("file", "blob"),
        ("directory", "blobs"),
        ("index", "index.json"),
    ] {
        let (dir, layer) = layout_by_hand(&sandbox, name);
        let path = match what {
            "blob" => blob(&dir, &layer),
            other => dir.join(other),
        };
        let moved = sandbox.path(format!("moved-{name}"));
        fs_err::rename(&path, &moved).expect("rename");
        symlink(&moved, &path).expect("link");
        let said = sandbox
            .dhow(["image", "copy", &source(name), "store:x"])
            .fails(125);
        assert!(said.contains("leads out of the layout"), "{name}: {said}");
    }
    // A pipe would be waited for.
    let (dir, layer) = layout_by_hand(&sandbox, "pipe");
    fs_err::remove_file(blob(&dir, &layer)).expect("remove");
    let made = Command::new("mkfifo").arg(blob(&dir, &layer)).status();
    assert!(made.expect("mkfifo").success());
    let said = sandbox
        .dhow(["image", "copy", &source("pipe"), "store:x"])
        .fails(125);
    assert!(said.contains("it is no file"), "{said}");

    // Into one whose directories lead out nothing is written.
    registry.push_image("app", "1", &[registry::tar("a", b"a")]);
    fs_err::create_dir(sandbox.path("outside")).expect("mkdir");
    for inner in ["blobs", ".partial"] {
        sandbox.write("trap/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        symlink(sandbox.path("outside"), sandbox.path("trap").join(inner)).expect("link");
        let said = sandbox
            .dhow(["image", "copy", &at(&registry, "app:1"), &source("trap:1")])
            .fails(125);
        assert!(said.contains("leads out of the layout"), "{inner}: {said}");
        fs_err::remove_dir_all(sandbox.path("trap")).expect("remove");
    }
    let outside = fs_err::read_dir(sandbox.path("outside")).expect("list");
    assert_eq!(outside.count(), 0);
    assert_eq!(
        fs_err::read(secret).expect("the secret"),
        b"nobody's business"
    );
}

#[test]
fn places_that_are_none_are_told_from_those_that_are() {
    let sandbox = Sandbox::new();
    for (from, to, says) in [
        (
            "containers-storage:app",
            "store:x",
            "dhow knows no containers-storage:",
        ),
        ("oci:", "store:x", "names nothing"),
        ("store:nothing", "oci:dir", "no such image"),
        ("oci:/nowhere/at/all", "store:x", "/nowhere/at/all"),
        (
            "docker-archive:/dev/null",
            "store:x",
            "it has no manifest.json",
        ),
    ] {
        let said = sandbox.dhow(["image", "copy", from, to]).fails(125);
        assert!(said.contains(says), "{from} {to}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
