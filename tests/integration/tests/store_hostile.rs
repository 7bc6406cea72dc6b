//! Layers that are made to do harm, through a real pull and a real load: bombs on a small disk, windows beyond all memory, names and links
//! that lead out of the tree; and layers that are not to be distributed within indexes.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use dhow_integration_tests::registry::{
    INDEX, MANIFEST, Registry, descriptor, image_for, noise, sha256, tar,
};
use dhow_integration_tests::{Disk, Sandbox};
use serde_json::{Value, json};

const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// The largest block of zstd.
const BLOCK: usize = 128 << 10;

/// A zstd frame: so large a window, some bytes, so many blocks of one byte repeated, and more bytes.
fn frame(window_log: u8, before: &[u8], repeated: (u8, usize), after: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (window_log - 10) << 3];
    let mut block = |kind: u32, last: bool, length: usize, content: &[u8]| {
        let length = u32::try_from(length).expect("a block's size");
        let header = u32::from(last) | kind << 1 | length << 3;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.extend_from_slice(content);
    };
    block(0, false, before.len(), before);
    for _ in 0..repeated.1 {
        block(1, false, BLOCK, &[repeated.0]);
    }
    block(0, true, after.len(), after);
    frame
}

/// The header of a file of this size, and the end of its tar.
fn around(size: usize) -> (Vec<u8>, Vec<u8>) {
    let mut header = tar::Header::new_ustar();
    header.set_path("bomb").expect("a name");
    header.set_size(size as u64);
    header.set_mode(0o644);
    header.set_cksum();
    (header.as_bytes().to_vec(), vec![0; 1024])
}

/// Pushes an image of one layer, past dhow.
fn push(registry: &Registry, name: &str, media_type: &str, blob: &[u8], diff_id: &str) {
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    });
    let config = config.to_string().into_bytes();
    registry.push_blob(name, &config);
    registry.push_blob(name, blob);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor(media_type, blob)],
    });
    let path = format!("/v2/{name}/manifests/1");
    let kind = [("Content-Type", MANIFEST)];
    let bytes = manifest.to_string().into_bytes();
    registry.ask("PUT", &path, &kind, &bytes).expect(201);
}

fn count(sandbox: &Sandbox, directory: &str) -> usize {
    let entries = fs_err::read_dir(sandbox.path("root").join(directory)).expect("list");
    entries.count()
}

#[track_caller]
fn whole(sandbox: &Sandbox) {
    let checked = sandbox.dhow(["system", "check"]).ok();
    assert_eq!(checked, "0 damaged, 0 left");
}

#[test]
fn a_bomb_on_a_small_disk_leaves_nothing_and_harms_nothing() {
    let registry = Registry::embedded();
    registry.push_image("good", "1", &[tar("file", &noise(1, 1 << 20))]);
    // A gigabyte in 32 KiB; no zeros, which would take no room.
    let blocks = 8192;
    let (before, after) = around(blocks * BLOCK);
    let bomb = frame(20, &before, (1, blocks), &after);
    assert!(bomb.len() < 64 << 10);
    push(&registry, "bomb", ZSTD, &bomb, &sha256(b"whatever"));
    let sandbox = Sandbox::new();
    let archive = sandbox.path("bomb.oci").display().to_string();
    let bomb = format!("{}/bomb:1", registry.address());
    let (from, to) = (
        format!("docker://{bomb}"),
        format!("oci-archive:{archive}:bomb"),
    );
    sandbox.dhow(["image", "copy", "-q", &from, &to]).ok();

    let _disk = Disk::make("ext4", 48, &sandbox.path("disk.img"), &sandbox.path("root"));
    let good = format!("{}/good:1", registry.address());
    sandbox.dhow(["pull", "-q", &good]).ok();
    for words in [
        vec!["pull", "-q", bomb.as_str()],
        vec!["load", "-q", "-i", archive.as_str()],
    ] {
        let said = sandbox.dhow(&words).fails(125);
        assert!(
            said.contains("No space left on device"),
            "{words:?}: {said}"
        );
        assert_eq!(said.trim_end().lines().count(), 1, "{words:?}: {said}");
        assert_eq!(count(&sandbox, "ingest"), 0, "{words:?}");
        assert_eq!(count(&sandbox, "trees"), 1, "{words:?}");
        let listed = sandbox.dhow(["images"]).ok();
        assert!(!listed.contains("bomb"), "{words:?}: {listed}");
        whole(&sandbox);
        sandbox.dhow(["save", "-o", "/dev/null", &good]).ok();
    }
}

#[test]
fn a_window_beyond_all_memory_is_refused_and_a_large_one_is_not() {
    let registry = Registry::embedded();
    let blocks = 64;
    let (before, after) = around(blocks * BLOCK);
    // The largest that zstd's own levels make takes 128 MiB.
    for (name, window_log, byte) in [("large", 27, 7), ("boundless", 41, 8)] {
        let plain = [&before[..], &vec![byte; blocks * BLOCK], &after].concat();
        let blob = frame(window_log, &before, (byte, blocks), &after);
        push(&registry, name, ZSTD, &blob, &sha256(&plain));
    }
    let sandbox = Sandbox::new();
    let large = format!("{}/large:1", registry.address());
    sandbox.dhow(["pull", "-q", &large]).ok();
    let boundless = format!("{}/boundless:1", registry.address());
    let said = sandbox.dhow(["pull", "-q", &boundless]).fails(125);
    assert!(said.to_lowercase().contains("memory"), "{said}");
    assert_eq!(count(&sandbox, "ingest"), 0);
    whole(&sandbox);
}

/// A tar with an entry of any name and link.
fn entries(list: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, target) in list {
        let mut header = tar::Header::new_ustar();
        // As the bytes are: the kind functions refuse some of these.
        let bytes = header.as_mut_bytes();
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes[157..157 + target.len()].copy_from_slice(target.as_bytes());
        let content: &[u8] = match kind {
            tar::EntryType::Regular => b"harm",
            _ => b"",
        };
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o666);
        header.set_cksum();
        builder.append(&header, content).expect("append");
    }
    builder.into_inner().expect("the tar")
}

#[test]
fn no_pulled_layer_reaches_beyond_its_tree() {
    use tar::EntryType::{Link, Regular, Symlink};
    let registry = Registry::embedded();
    let sandbox = Sandbox::new();
    let secret = sandbox.write("outside/secret", "secret");
    let outside = sandbox.path("outside").display().to_string();
    let up = "../".repeat(12);
    let absolute = format!("{outside}/harm");
    let relative = format!("{up}{}", absolute.trim_start_matches('/'));
    let (file, far) = (
        secret.display().to_string(),
        format!("{up}{}", &outside[1..]),
    );
    let layers = [
        entries(&[(&relative, Regular, "")]),
        entries(&[(&absolute, Regular, "")]),
        entries(&[("x", Symlink, &outside), ("x/harm", Regular, "")]),
        entries(&[("x", Symlink, &far), ("x/harm", Regular, "")]),
        entries(&[("x", Symlink, &file), ("x", Regular, "")]),
        entries(&[("x", Link, &file), ("x", Regular, "")]),
        entries(&[("y", Symlink, &outside), ("x", Link, "y/secret")]),
        entries(&[
            ("a", Symlink, "/"),
            ("a/b", Symlink, &outside),
            ("b/harm", Regular, ""),
        ]),
    ];
    let mut refused = 0;
    for (at, layer) in layers.iter().enumerate() {
        registry.push_image("hostile", &at.to_string(), std::slice::from_ref(layer));
        let name = format!("{}/hostile:{at}", registry.address());
        let pulled = sandbox.dhow(["pull", "-q", &name]);
        match pulled.status {
            0 => {}
            125 => refused += 1,
            other => panic!("{at}: {other}: {}", pulled.stderr),
        }
        let names = fs_err::read_dir(Path::new(&outside)).expect("list");
        assert_eq!(names.count(), 1, "{at}");
        assert_eq!(fs_err::read(&secret).expect("read"), b"secret", "{at}");
        assert_eq!(fs_err::metadata(&secret).expect("look").nlink(), 1, "{at}");
        assert_eq!(count(&sandbox, "ingest"), 0, "{at}");
    }
    assert!(refused > 0 && refused < layers.len(), "{refused}");
    whole(&sandbox);
}

#[test]
fn layers_that_are_not_to_be_distributed_stay_out_of_whole_indexes() {
    let (home, other) = (Registry::embedded(), Registry::embedded());
    let own = tar("own", b"own");
    let (config, manifest) = image_for("s390x", &[tar("base", b"base"), own.clone()]);
    let mut manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    let foreign = &mut manifest["layers"][0];
    foreign["mediaType"] = "application/vnd.oci.image.layer.nondistributable.v1.tar".into();
    foreign["urls"] = json!(["https://127.0.0.1:1/base"]);
    let manifest = manifest.to_string().into_bytes();
    let (host_config, host) = image_for("amd64", std::slice::from_ref(&own));
    for blob in [&config, &host_config, &own] {
        home.push_blob("app", blob);
    }
    let put = |name: &str, kind: &str, bytes: &[u8]| {
        let path = format!("/v2/app/manifests/{name}");
        home.ask("PUT", &path, &[("Content-Type", kind)], bytes)
            .expect(201);
    };
    let mut listed = Vec::new();
    for (architecture, bytes) in [("s390x", &manifest), ("amd64", &host)] {
        put(&sha256(bytes), MANIFEST, bytes);
        let mut entry = descriptor(MANIFEST, bytes);
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        listed.push(entry);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": listed });
    let index = index.to_string().into_bytes();
    put("1", INDEX, &index);

    let sandbox = Sandbox::new();
    let name = format!("{}/app:1", home.address());
    let pull = ["pull", "--all-platforms", &name];
    sandbox.dhow(pull).ok();
    whole(&sandbox);
    let again = sandbox.dhow(pull).ok();
    assert!(again.contains("up to date"), "{again}");
    let copy = format!("{}/copy:1", other.address());
    sandbox.dhow(["tag", &name, &copy]).ok();
    sandbox.dhow(["push", "-q", "--all-platforms", &copy]).ok();
    let found = other.ask("GET", "/v2/copy/manifests/1", &[("Accept", INDEX)], b"");
    assert!(found.expect(200).body == index);
    let archive = sandbox.path("app.oci").display().to_string();
    sandbox.dhow(["save", "-o", &archive, &name]).ok();
    let reader = Sandbox::new();
    reader.dhow(["load", "-q", "-i", &archive]).ok();
    whole(&reader);
    let format = "{{.Architecture}} {{.Index.digest}}";
    let shown = reader.dhow(["inspect", "-f", format, &name]).ok();
    assert_eq!(shown, format!("amd64 {}", sha256(&index)));
}
