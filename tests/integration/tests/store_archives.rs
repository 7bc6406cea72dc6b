//! Archives of images in Docker's own form: written by others and read here, written here and read by others.

use std::process::{Command, Stdio};

use dhow_integration_tests::registry::{self, Registry};
use dhow_integration_tests::{Ran, Sandbox, ran};
use serde_json::{Value, json};

/// A tar that is being written by hand.
struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn file(mut self, name: &str, content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        self.0
            .append_data(&mut header, name, content)
            .expect("append");
        self
    }

    fn link(mut self, name: &str, target: &str) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        self.0
            .append_link(&mut header, name, target)
            .expect("append");
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("the archive")
    }
}

/// An image of two layers as Docker wrote it before it knew the OCI layout: the second layer is another's, by a link.
fn docker_archive(layer: &[u8], names: &Value) -> Vec<u8> {
    let diff_id = registry::sha256(layer);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/hello"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id, diff_id]},
    });
    let manifest = json!([{
        "Config": "config.json", "RepoTags": names, "Layers": ["one/layer.tar", "two/layer.tar"],
    }]);
    Archive::new()
        .file("one/VERSION", b"1.0")
        .file("one/layer.tar", layer)
        .link("two/layer.tar", "../one/layer.tar")
        .file("config.json", config.to_string().as_bytes())
        .file("manifest.json", manifest.to_string().as_bytes())
        .bytes()
}

fn load(sandbox: &Sandbox, archive: &[u8]) -> Ran {
    let path = sandbox.write("archive.tar", archive);
    sandbox.dhow(["load", "-q", "-i", path.to_str().expect("a path")])
}

#[test]
fn dockers_archives_are_loaded_with_all_their_names() {
    let sandbox = Sandbox::new();
    let layer = registry::tar("hello", b"hello");
    let archive = docker_archive(&layer, &json!(["app:1", "team/app:2"]));
    let said = load(&sandbox, &archive).ok();
    assert_eq!(said, "Loaded image: app:1\nLoaded image: team/app:2");
    // The same through a pipe, compressed: nothing there can be read twice.
    let path = sandbox.path("archive.tar");
    let zipped = Command::new("gzip").arg("-c").arg(path).output();
    let mut command = sandbox.command(["load", "-q"]);
    command.stdin(Stdio::piped());
    let said = ran(command, &zipped.expect("gzip").stdout).ok();
    assert_eq!(said, "Loaded image: app:1\nLoaded image: team/app:2");
    let id = sandbox.dhow(["images", "-q", "--no-trunc", "app:1"]).ok();
    assert_eq!(
        sandbox
            .dhow(["images", "-q", "--no-trunc", "team/app:2"])
            .ok(),
        id
    );
    assert_eq!(sandbox.dhow(["system", "check"]).ok(), "0 damaged, 0 left");

    // Without a name it is kept, and told by its id.
    let said = load(&sandbox, &docker_archive(&layer, &Value::Null)).ok();
    assert_eq!(said, format!("Loaded image ID: {id}"));
}

#[test]
fn a_loaded_image_is_pushed_compressed() {
    let sandbox = Sandbox::new();
    let registry = Registry::embedded();
    let layer = registry::tar("hello", &[b'x'; 100_000]);
    let name = format!("{}/app:1", registry.address());
    load(&sandbox, &docker_archive(&layer, &json!([name]))).ok();
    sandbox.dhow(["push", "-q", &name]).ok();
    let manifest = registry.get("/v2/app/manifests/1").json();
    let pushed = &manifest["layers"][0];
    let media_type = pushed["mediaType"].as_str().expect("a media type");
    assert!(media_type.ends_with("+gzip"), "{manifest}");
    assert!(
        pushed["size"].as_u64().expect("a size") < 5_000,
        "{manifest}"
    );
}

#[test]
fn what_is_wrong_with_an_archive_is_named() {
    let sandbox = Sandbox::new();
    let layer = registry::tar("hello", b"hello");
    let other = registry::tar("hello", b"HELLO");
    let whole = docker_archive(&layer, &json!(["app:1"]));
    let manifest = |layers: &[&str]| {
        json!([{"Config": "config.json", "RepoTags": ["app:1"], "Layers": layers}]).to_string()
    };
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [registry::sha256(&layer)]},
    })
    .to_string();
    let with = |layer: &[u8], layers: &[&str]| {
        Archive::new()
            .file("l.tar", layer)
            .link("round", "round")
            .link("out", "/etc/passwd")
            .file("config.json", config.as_bytes())
            .file("manifest.json", manifest(layers).as_bytes())
            .bytes()
    };
    for (archive, word) in [
        (with(&other, &["l.tar"]), "digest"),
        (with(&layer, &["gone.tar"]), "gone.tar"),
        (with(&layer, &["round"]), "round"),
        (with(&layer, &["out"]), "no such file"),
        (with(&layer, &["../../../../../etc/passwd"]), "no such file"),
        (with(&layer, &["l.tar", "l.tar"]), "disagree"),
        (
            Archive::new().file("manifest.json", b"[{]").bytes(),
            "manifest.json",
        ),
        (Archive::new().file("other", b"x").bytes(), "manifest.json"),
        (
            Archive::new()
                .file("manifest.json", manifest(&["l.tar"]).as_bytes())
                .bytes(),
            "config.json",
        ),
        (whole[..2048].to_vec(), "archive"),
    ] {
        let said = load(&sandbox, &archive).fails(125);
        assert!(said.contains(word), "{word}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{word}: {said}");
    }
    assert_eq!(sandbox.dhow(["images", "-q"]).ok(), "");
    for directory in ["tmp", "leases"] {
        let left = fs_err::read_dir(sandbox.path("root").join(directory)).expect("list");
        assert_eq!(left.count(), 0, "{directory}");
    }
}

#[test]
fn others_read_what_is_saved_in_dockers_form() {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    let archive = sandbox.path("saved.tar");
    let archive = archive.to_str().expect("a path");
    let format = "--format=docker-archive";
    sandbox
        .dhow(["save", format, "-o", archive, "busybox"])
        .ok();
    let id = sandbox.dhow(["images", "-q", "--no-trunc", "busybox"]).ok();

    let copied = Command::new("skopeo")
        .args(["inspect", "--config", "--raw"])
        .arg(format!("docker-archive:{archive}"))
        .output()
        .expect("skopeo");
    let said = String::from_utf8_lossy(&copied.stderr);
    assert!(copied.status.success(), "{said}");
    assert_eq!(registry::sha256(&copied.stdout), id);

    let layout = sandbox.path("layout");
    let copied = Command::new("skopeo")
        .args(["copy", "-q"])
        .arg(format!("docker-archive:{archive}"))
        .arg(format!("dir:{}", layout.display()))
        .output()
        .expect("skopeo");
    let said = String::from_utf8_lossy(&copied.stderr);
    assert!(copied.status.success(), "{said}");

    // And what is read back is the same image.
    sandbox.dhow(["rmi", "busybox"]).ok();
    sandbox.dhow(["load", "-q", "-i", archive]).ok();
    assert_eq!(
        sandbox.dhow(["images", "-q", "--no-trunc", "busybox"]).ok(),
        id
    );
}

#[test]
fn the_history_tells_every_step() {
    let sandbox = Sandbox::new();
    sandbox.write("Dockerfile", "FROM scratch\nCOPY file /file\nLABEL a=b\n");
    sandbox.write("file", [b'x'; 3000]);
    let context = sandbox.path("").display().to_string();
    sandbox.dhow(["build", "-q", "-t", "app", &context]).ok();
    let listed = sandbox.dhow(["history", "app"]).ok();
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[0].starts_with("IMAGE ") && lines[0].contains("CREATED BY"));
    assert!(
        lines[1].contains("LABEL a=b") && lines[1].contains("0B"),
        "{listed}"
    );
    assert!(
        lines[2].starts_with("<missing>") && lines[2].contains("COPY file /file"),
        "{listed}"
    );
    assert_eq!(lines.len(), 3, "{listed}");
    let rows = sandbox
        .dhow(["image", "history", "--format=json", "--human=false", "app"])
        .ok();
    let row: Value =
        serde_json::from_str(rows.lines().nth(1).expect("a second row")).expect("JSON");
    let size: u64 = row["Size"]
        .as_str()
        .expect("a size")
        .parse()
        .expect("bytes");
    assert!(size >= 3000 && size.is_multiple_of(512), "{row}");
}
