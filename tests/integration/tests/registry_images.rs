//! `dhow registry serve --images`: the store's own images, served without a copy; and blobs that store and registry share.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use dhow_integration_tests::registry::{Registry, noise, sha256, tar};
use dhow_integration_tests::{PATIENCE, Ran, Sandbox, base_image};
use serde_json::Value;

/// A store with busybox, and on it an image that was built here, with a large file and a small one.
fn store_with_app() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    sandbox.write("context/large", noise(7, 3_000_000));
    let dockerfile =
        "FROM busybox\nCOPY large /large\nRUN echo small >/small\nCMD [\"cat\", \"/small\"]\n";
    sandbox.write("context/Dockerfile", dockerfile);
    let context = sandbox.path("context");
    sandbox
        .dhow([
            "build",
            "-q",
            "-t",
            "team/app:1",
            context.to_str().expect("a path"),
        ])
        .ok();
    sandbox
}

/// All files below a directory.
fn files(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut ahead = vec![directory.to_owned()];
    while let Some(directory) = ahead.pop() {
        for entry in fs_err::read_dir(directory).expect("list") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                ahead.push(path);
            } else {
                found.insert(path.to_str().expect("a path").to_owned());
            }
        }
    }
    found
}

fn manifest(registry: &Registry, path: &str) -> Value {
    let answer = registry.get(path);
    answer.expect(200);
    assert_eq!(answer.header("docker-content-digest"), sha256(&answer.body));
    answer.json()
}

fn digests(manifest: &Value) -> Vec<(String, usize)> {
    let layers = manifest["layers"].as_array().expect("layers").iter();
    let blobs = layers.chain([&manifest["config"]]);
    let digest = |blob: &Value| {
        let size = blob["size"].as_u64().expect("a size");
        let size = usize::try_from(size).expect("a size");
        (blob["digest"].as_str().expect("a digest").to_owned(), size)
    };
    blobs.map(digest).collect()
}

#[test]
fn what_the_store_holds_is_pulled_from_it_without_a_copy() {
    let registry = Registry::embedded_with(store_with_app(), &["--images"]);
    let store = registry.sandbox();
    let root = store.path("root");
    let before = files(&root);
    let id = store
        .dhow(["inspect", "--format", "{{.Id}}", "team/app:1"])
        .ok();

    let other = Sandbox::new();
    let name = format!("{}/team/app:1", registry.address());
    other.dhow(["pull", "-q", &name]).ok();
    assert_eq!(
        other.dhow(["inspect", "--format", "{{.Id}}", &name]).ok(),
        id
    );
    assert_eq!(
        other.dhow(["run", "--rm", "--network=none", &name]).ok(),
        "small"
    );
    assert_eq!(other.dhow(["system", "check"]).ok(), "0 damaged, 0 left");

    // Each blob has its digest and size, whole and in parts, each time.
    for (digest, size) in digests(&manifest(&registry, "/v2/team/app/manifests/1")) {
        let path = format!("/v2/team/app/blobs/{digest}");
        let head = registry.ask("HEAD", &path, &[], b"");
        assert_eq!(head.header("content-length"), size.to_string());
        let whole = registry.get(&path);
        assert_eq!((sha256(&whole.body), whole.body.len()), (digest, size));
        let range = format!("bytes={}-{}", size / 2, size - 2);
        let part = registry.ask("GET", &path, &[("Range", &range)], b"");
        part.expect(206);
        assert_eq!(part.body, whole.body[size / 2..size - 1]);
        let range = format!("bytes={size}-");
        registry
            .ask("GET", &path, &[("Range", &range)], b"")
            .expect(416);
    }
    // Only leases come and go.
    let is_lease = |path: &String| path.contains("/leases/");
    let after: BTreeSet<String> = files(&root)
        .into_iter()
        .filter(|path| !is_lease(path))
        .collect();
    assert_eq!(
        after,
        before.into_iter().filter(|path| !is_lease(path)).collect()
    );
    assert!(!root.join("registry").exists());
}

#[test]
fn other_programs_pull_from_it_and_find_its_lists() {
    let sandbox = store_with_app();
    for name in ["quay.io/team/tool:2", "team/app:new"] {
        sandbox.dhow(["tag", "team/app:1", name]).ok();
    }
    let registry = Registry::embedded_with(sandbox, &["--images"]);
    let host = registry.address().to_string();
    let own = format!("{host}/own/name:3");
    registry.sandbox().dhow(["tag", "team/app:1", &own]).ok();
    assert_eq!(
        registry.get("/v2/_catalog").json()["repositories"],
        serde_json::json!(["busybox", "own/name", "quay.io/team/tool", "team/app"])
    );
    assert_eq!(
        registry.get("/v2/team/app/tags/list").json()["tags"],
        serde_json::json!(["1", "new"])
    );
    for name in ["busybox:latest", "quay.io/team/tool:2", "own/name:3"] {
        let target = registry.path(format!("copy-{}", name.replace(['/', ':'], "-")));
        let copied = Command::new("skopeo")
            .args(["copy", "-q", "--src-tls-verify=false"])
            .arg(format!("docker://{host}/{name}"))
            .arg(format!("oci:{}", target.display()))
            .output()
            .expect("skopeo");
        Ran::from(copied).ok();
    }
    registry
        .get("/v2/nothing/tags/list")
        .expect_error(404, "NAME_UNKNOWN");
    registry
        .get("/v2/team/app/manifests/9")
        .expect_error(404, "MANIFEST_UNKNOWN");
    let nothing = format!("/v2/team/app/blobs/{}", sha256(b"nothing"));
    registry.get(&nothing).expect_error(404, "BLOB_UNKNOWN");
    // A blob of another repository is none of this one's.
    let (large, _) = digests(&manifest(&registry, "/v2/team/app/manifests/1")).remove(1);
    registry
        .get(&format!("/v2/busybox/blobs/{large}"))
        .expect_error(404, "BLOB_UNKNOWN");
    let begun = registry.ask("POST", "/v2/team/app/blobs/uploads/", &[], b"");
    begun.expect_error(405, "UNSUPPORTED");
}

#[test]
fn a_blob_that_was_dropped_comes_back_with_the_same_bytes_where_they_are_ours() {
    let sandbox = store_with_app();
    let foreign = Registry::embedded();
    let target = format!("{}/team/app:1", foreign.address());
    sandbox.dhow(["tag", "team/app:1", &target]).ok();
    // From now on the manifest names compressed blobs.
    sandbox.dhow(["push", "-q", &target]).ok();
    let registry = Registry::embedded_with(sandbox, &["--images"]);
    let blobs = digests(&manifest(&registry, "/v2/team/app/manifests/1"));
    let (large, size) = &blobs[1];
    let path = format!("/v2/team/app/blobs/{large}");
    let kept = registry
        .path("root/blobs/sha256")
        .join(large.trim_start_matches("sha256:"));
    fs_err::remove_file(&kept).expect("remove");
    let head = registry.ask("HEAD", &path, &[], b"");
    assert_eq!(head.header("content-length"), size.to_string());
    for _ in 0..2 {
        let again = registry.get(&path);
        assert_eq!(
            (sha256(&again.body), again.body.len()),
            (large.clone(), *size)
        );
    }
    assert!(!kept.exists());
}

/// Reads an answer slowly: the head and the first bytes now, the rest when it is asked for.
struct Slow {
    stream: TcpStream,
    body: Vec<u8>,
}

impl Slow {
    fn get(registry: &Registry, path: &str) -> Self {
        let mut stream = TcpStream::connect(registry.address()).expect("connect");
        let timeout = Some(PATIENCE);
        stream.set_read_timeout(timeout).expect("timeout");
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            registry.address()
        );
        stream.write_all(head.as_bytes()).expect("write");
        let mut seen = Vec::new();
        let mut byte = [0];
        while !seen.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("read");
            seen.push(byte[0]);
        }
        Self {
            stream,
            body: Vec::new(),
        }
    }

    fn rest(mut self) -> Vec<u8> {
        self.stream.read_to_end(&mut self.body).expect("read");
        self.body
    }
}

#[test]
fn a_collection_beside_a_download_loses_nothing_of_it() {
    let sandbox = Sandbox::new();
    // Zeros: much to send, of which little is on disk; no socket's buffers hold all of it.
    sandbox.write("context/zeros", vec![0; 100_000_000]);
    sandbox.write(
        "context/Dockerfile",
        "FROM scratch\nCOPY zeros /zeros\nCOPY zeros /more\n",
    );
    let context = sandbox.path("context");
    sandbox
        .dhow([
            "build",
            "-q",
            "--no-cache",
            "-t",
            "zeros",
            context.to_str().expect("a path"),
        ])
        .ok();
    fs_err::remove_dir_all(context).expect("remove");
    let registry = Registry::embedded_with(sandbox, &["--images"]);
    let blobs = digests(&manifest(&registry, "/v2/zeros/manifests/latest"));
    let path = |at: usize| format!("/v2/zeros/blobs/{}", blobs[at].0);
    let slow = Slow::get(&registry, &path(0));
    registry.sandbox().dhow(["rmi", "zeros"]).ok();
    registry.sandbox().dhow(["system", "prune", "-f"]).ok();
    registry.get("/v2/zeros/manifests/latest").expect(404);
    assert_eq!(sha256(&slow.rest()), blobs[0].0);
    // What the manifest names is still there for who has asked for it.
    for (at, blob) in blobs.iter().enumerate() {
        assert_eq!(sha256(&registry.get(&path(at)).body), blob.0);
    }
    let status = format!("/proc/{}/status", registry.process().as_raw_nonzero());
    let status = fs_err::read_to_string(status).expect("status");
    let most = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("VmHWM");
    let most: u64 = most
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    assert!(most < 64 * 1024, "{most} kB");
}

#[test]
fn a_blob_that_store_and_registry_have_becomes_one_file() {
    let registry = Registry::embedded_with(store_with_app(), &[]);
    let store = registry.sandbox();
    let target = format!("{}/team/app:1", registry.address());
    store.dhow(["tag", "team/app:1", &target]).ok();
    store.dhow(["push", "-q", &target]).ok();
    // What is pulled from the registry that has it already, too.
    let pushed = registry.push_image("other", "1", &[tar("file", &noise(5, 100_000))]);
    assert!(pushed.starts_with("sha256:"));
    let other = format!("{}/other:1", registry.address());
    store.dhow(["pull", "-q", &other]).ok();
    let mut blobs = digests(&manifest(&registry, "/v2/team/app/manifests/1"));
    blobs.extend(digests(&manifest(&registry, "/v2/other/manifests/1")));
    let end = Instant::now() + PATIENCE;
    for (digest, _) in blobs {
        let hex = digest.trim_start_matches("sha256:");
        let inode = |directory: &str| {
            let path = registry.path(directory).join("sha256").join(hex);
            fs_err::metadata(path).expect("the blob").ino()
        };
        while inode("root/blobs") != inode("root/registry/blobs") {
            assert!(Instant::now() < end, "{digest} is kept twice");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    assert_eq!(store.dhow(["system", "check"]).ok(), "0 damaged, 0 left");
    // Each goes its own way: what the store removes stays in the registry.
    for name in [&target, &other, "team/app:1"] {
        store.dhow(["rmi", name]).ok();
    }
    store.dhow(["system", "prune", "-f"]).ok();
    let elsewhere = Sandbox::new();
    elsewhere.dhow(["pull", "-q", &target]).ok();
    assert_eq!(
        elsewhere
            .dhow(["run", "--rm", "--network=none", &target])
            .ok(),
        "small"
    );
}

#[test]
fn a_layer_whose_root_is_opaque_hides_all_below_it() {
    let registry = Registry::embedded();
    let busybox = fs_err::read(base_image("busybox")).expect("busybox");
    let below = tar("below", b"from below");
    // One empty file's header, and then busybox's entries.
    let mark = tar(".wh..wh..opq", b"");
    let opaque = [&mark[..512], &busybox].concat();
    let above = tar("above", b"");
    registry.push_image("app", "1", &[below.clone(), opaque, above]);
    registry.push_image("app", "2", &[below, busybox]);
    let sandbox = Sandbox::new();
    let seen = |tag: &str| {
        let name = format!("{}/app:{tag}", registry.address());
        sandbox.dhow(["pull", "-q", &name]).ok();
        let listed = sandbox.dhow(["run", "--rm", "--network", "none", &name, "ls", "/"]);
        listed.ok()
    };
    let hidden = seen("1");
    assert!(
        hidden.contains("above") && hidden.contains("bin"),
        "{hidden}"
    );
    assert!(!hidden.contains("below"), "{hidden}");
    assert!(seen("2").contains("below"));
}
