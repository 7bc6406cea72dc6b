//! What `dhow registry serve` does beside the protocol: passwords, TLS, reading alone, collecting, and standing before another registry.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dhow_integration_tests::certificates::Authority;
use dhow_integration_tests::registry::{
    INDEX, MANIFEST, Registry, artifact, closing, descriptor, manifest, noise, sha256,
};
use dhow_integration_tests::{PATIENCE, Ran, Sandbox, ran};

/// `me:secret` as htpasswd's bcrypt form has it.
const ME: &str = "me:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
/// The same as a header.
const BASIC: (&str, &str) = ("Authorization", "Basic bWU6c2VjcmV0");

fn skopeo(args: &[&str]) -> Ran {
    let mut command = std::process::Command::new("skopeo");
    command.args(args);
    ran(command, b"")
}

#[test]
fn only_who_knows_the_password_comes_in() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("htpasswd", ME).display().to_string();
    let registry = Registry::embedded_with(Sandbox::new(), &["--htpasswd", &file]);
    for path in ["/v2/", "/v2/_catalog", "/v2/app/manifests/1"] {
        let refused = registry.get(path);
        refused.expect_error(401, "UNAUTHORIZED");
        assert!(
            refused
                .header("www-authenticate")
                .starts_with("Basic realm=")
        );
    }
    let wrong = ("Authorization", "Basic bWU6d3Jvbmc=");
    registry
        .ask("GET", "/v2/", &[wrong], b"")
        .expect_error(401, "UNAUTHORIZED");
    registry
        .ask("POST", "/v2/app/blobs/uploads/", &[], b"")
        .expect_error(401, "UNAUTHORIZED");
    registry.ask("GET", "/v2/", &[BASIC], b"").expect(200);
    let directory = sandbox.path("image").display().to_string();
    image(&sandbox, &directory);
    let to = format!("docker://{}/app:1", registry.address());
    let from = format!("oci:{directory}:1");
    let copy = ["copy", "-q", "--dest-tls-verify=false"];
    skopeo(&[&copy[..], &[&from, &to]].concat()).fails(1);
    skopeo(&[&copy[..], &["--dest-creds", "me:secret", &from, &to]].concat()).ok();
}

/// Writes an image as an OCI layout by skopeo, from a registry of its own.
fn image(sandbox: &Sandbox, directory: &str) {
    let registry = Registry::embedded();
    let place = Sandbox::new();
    place.import_busybox();
    let name = format!("{}/app:1", registry.address());
    place.dhow(["tag", "busybox", &name]).ok();
    place.dhow(["push", "-q", &name]).ok();
    let from = format!("docker://{name}");
    skopeo(&[
        "copy",
        "-q",
        "--src-tls-verify=false",
        &from,
        &format!("oci:{directory}:1"),
    ])
    .ok();
    assert!(sandbox.path("image").join("index.json").exists());
}

#[test]
fn it_proves_who_it_is() {
    let sandbox = Sandbox::new();
    let authority = Authority::new(&sandbox);
    let (certificate, key) = authority.issue("server");
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let registry = Registry::embedded_with(
        Sandbox::new(),
        &["--tls-cert", &certificate, "--tls-key", &key],
    );
    let person = Sandbox::new();
    person.import_busybox();
    let name = format!("{}/app:1", registry.address());
    person.dhow(["tag", "busybox", &name]).ok();
    let unknown = person.dhow(["push", "-q", &name]).fails(125);
    assert!(unknown.contains("is not trusted"), "{unknown}");
    let certs = authority.certificate();
    let certs = certs.parent().expect("a directory");
    fs_err::create_dir(certs.join("trusted")).expect("create");
    fs_err::copy(authority.certificate(), certs.join("trusted/ca.crt")).expect("copy");
    let trusted = certs.join("trusted").display().to_string();
    person
        .dhow(["push", "-q", "--cert-dir", &trusted, &name])
        .ok();
    skopeo(&[
        "inspect",
        "--cert-dir",
        &trusted,
        &format!("docker://{name}"),
    ])
    .ok();
}

#[test]
fn a_certificate_without_its_key_is_refused() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("cert.pem", "nothing").display().to_string();
    let said = sandbox
        .dhow([
            "registry",
            "serve",
            "--addr",
            "127.0.0.1:0",
            "--tls-cert",
            &file,
            "--tls-key",
            &file,
        ])
        .fails(125);
    assert!(said.contains("cert.pem"), "{said}");
    let said = sandbox
        .dhow([
            "registry",
            "serve",
            "--addr",
            "127.0.0.1:0",
            "--htpasswd",
            &file,
        ])
        .fails(125);
    assert!(said.contains("line 1"), "{said}");
}

#[test]
fn it_can_only_be_read_from() {
    let mut registry = Registry::embedded();
    let (bytes, digest) = registry.push_manifest("app", "1", b"{}", &[b"layer"]);
    registry.restart_with(&["--read-only"]);
    assert_eq!(registry.get("/v2/app/manifests/1").expect(200).body, bytes);
    let path = format!("/v2/app/manifests/{digest}");
    registry
        .ask("DELETE", &path, &[], b"")
        .expect_error(405, "UNSUPPORTED");
    registry
        .ask("POST", "/v2/app/blobs/uploads/", &[], b"")
        .expect_error(405, "UNSUPPORTED");
    let kind = [("Content-Type", MANIFEST)];
    registry
        .ask("PUT", "/v2/app/manifests/2", &kind, &bytes)
        .expect_error(405, "UNSUPPORTED");
}

#[test]
fn what_nobody_names_goes_and_what_is_pushed_meanwhile_stays() {
    let registry = Registry::embedded_with(Sandbox::new(), &["--keep-unused", "5"]);
    let (kept, _) = registry.push_manifest("kept", "1", b"{}", &[b"layer"]);
    let orphan = registry.push_blob("app", b"orphan");
    // A manifest that is deleted leaves its layer to nobody.
    let (_, deleted) = registry.push_manifest("app", "old", b"{\"a\":1}", &[b"its layer"]);
    let path = format!("/v2/app/manifests/{deleted}");
    registry.ask("DELETE", &path, &[], b"").expect(202);
    let upload = registry.ask("POST", "/v2/app/blobs/uploads/", &[], b"");
    let abandoned = upload.header("location").to_owned();
    let over = AtomicBool::new(false);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        // Pushers whose blobs are shared with what goes, all the time while it is collected.
        for pusher in 0..2 {
            let (registry, over) = (&registry, &over);
            scope.spawn(move || {
                let mut round = 0;
                while !over.load(Ordering::Relaxed) {
                    round += 1;
                    let layer = noise(round % 7, 3_000);
                    let config = format!("{{\"round\":{round}}}");
                    let repository = format!("pusher{pusher}");
                    let (_, digest) =
                        registry.push_manifest(&repository, "1", config.as_bytes(), &[&layer]);
                    let path = format!("/v2/{repository}/blobs/{}", sha256(&layer));
                    assert!(
                        registry.get(&path).expect(200).body == layer,
                        "round {round}"
                    );
                    let path = format!("/v2/{repository}/manifests/{digest}");
                    registry.ask("DELETE", &path, &[], b"").expect(202);
                }
                assert!(round > 3, "only {round} rounds");
            });
        }
        let gone = [orphan, sha256(b"its layer")];
        let is_gone = |digest: &String| {
            let (_, hex) = digest.split_once(':').expect("a digest");
            !registry
                .path("root/registry/blobs/sha256")
                .join(hex)
                .exists()
        };
        let uploads = registry.path("root/registry/repositories/app/_uploads");
        let is_forgotten = || fs_err::read_dir(&uploads).map_or(0, Iterator::count) == 0;
        // The upload is younger than the blobs, so that it may outlive the collection that takes them.
        while !(gone.iter().all(is_gone) && is_forgotten()) && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_secs(2));
        over.store(true, Ordering::Relaxed);
        for digest in &gone {
            assert!(is_gone(digest), "{digest}");
            registry.get(&format!("/v2/app/blobs/{digest}")).expect(404);
        }
    });
    assert_eq!(registry.get("/v2/kept/manifests/1").expect(200).body, kept);
    let path = format!("/v2/kept/blobs/{}", sha256(b"layer"));
    registry.get(&path).expect(200);
    registry
        .ask("PUT", &closing(&abandoned, &sha256(b"x")), &[], b"x")
        .expect_error(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn it_stands_before_another_registry_and_keeps_what_was_asked_for() {
    let mut home = Registry::debian();
    let layer = noise(5, 2_000_000);
    let (bytes, digest) = home.push_manifest("team/app", "1", b"{}", &[&layer]);
    let url = format!("http://{}", home.address());
    let proxy = Registry::embedded_with(Sandbox::new(), &["--proxy", &url]);
    let get = |path: &str| proxy.ask("GET", path, &[("Accept", MANIFEST)], b"");
    let got = get("/v2/team/app/manifests/1");
    assert_eq!(got.expect(200).body, bytes);
    assert_eq!(got.header("docker-content-digest"), digest);
    let blob = format!("/v2/team/app/blobs/{}", sha256(&layer));
    // Many at once: it is fetched once, and each has the whole.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(get(&blob).expect(200).body == layer));
        }
    });
    get(&format!("/v2/team/app/blobs/{}", sha256(b"none"))).expect_error(404, "BLOB_UNKNOWN");
    get("/v2/team/app/manifests/2").expect_error(404, "MANIFEST_UNKNOWN");
    proxy
        .ask("POST", "/v2/app/blobs/uploads/", &[], b"")
        .expect_error(405, "UNSUPPORTED");
    // A tag that moves is seen to move.
    let second = manifest(b"{}", &[]);
    let kind = [("Content-Type", MANIFEST)];
    home.ask("PUT", "/v2/team/app/manifests/1", &kind, &second)
        .expect(201);
    assert_eq!(get("/v2/team/app/manifests/1").expect(200).body, second);
    // While the other is away, what was asked for before is still to be had.
    home.stop();
    assert_eq!(get("/v2/team/app/manifests/1").expect(200).body, second);
    assert_eq!(
        get(&format!("/v2/team/app/manifests/{digest}"))
            .expect(200)
            .body,
        bytes
    );
    let range = proxy.ask("GET", &blob, &[("Range", "bytes=10-19")], b"");
    assert!(range.expect(206).body == layer[10..20]);
    get("/v2/team/app/manifests/other").expect(502);
    get(&format!("/v2/team/app/blobs/{}", sha256(b"none"))).expect(502);
}

#[test]
fn a_proxy_lists_the_tags_that_the_other_registry_has() {
    let mut home = Registry::embedded();
    for tag in ["b", "a", "c"] {
        home.push_manifest("team/app", tag, b"{}", &[]);
    }
    let url = format!("http://{}", home.address());
    let proxy = Registry::embedded_with(Sandbox::new(), &["--proxy", &url]);
    let tags = |path: &str| proxy.get(path).expect(200).json()["tags"].to_string();
    // Nothing of it is kept yet.
    assert_eq!(tags("/v2/team/app/tags/list"), r#"["a","b","c"]"#);
    let page = proxy.get("/v2/team/app/tags/list?n=2");
    assert_eq!(page.expect(200).json()["tags"].to_string(), r#"["a","b"]"#);
    assert!(page.header("link").contains("last=b"), "{:?}", page.headers);
    proxy
        .get("/v2/team/none/tags/list")
        .expect_error(404, "NAME_UNKNOWN");
    // While it is away, what is kept is listed.
    proxy.get("/v2/team/app/manifests/c").expect(200);
    home.stop();
    assert_eq!(tags("/v2/team/app/tags/list"), r#"["c"]"#);
    proxy.get("/v2/team/none/tags/list").expect(502);
}

#[test]
fn a_proxy_lists_what_refers_to_a_manifest_there() {
    // One that keeps the list itself, and one of before that interface, where a tag has it.
    for mut home in [Registry::embedded(), Registry::debian()] {
        let (subject, digest) = home.push_manifest("team/app", "1", b"{}", &[]);
        home.push_blob("team/app", b"signed");
        let statement = artifact(b"signed", &descriptor(MANIFEST, &subject));
        let named = sha256(&statement);
        let kind = [("Content-Type", MANIFEST)];
        let path = format!("/v2/team/app/manifests/{named}");
        home.ask("PUT", &path, &kind, &statement).expect(201);
        if home.get(&format!("/v2/team/app/referrers/{digest}")).status == 404 {
            let mut entry = descriptor(MANIFEST, &statement);
            entry["artifactType"] = "application/vnd.example.statement".into();
            let list =
                serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
            let path = format!("/v2/team/app/manifests/{}", digest.replace(':', "-"));
            let kind = [("Content-Type", INDEX)];
            home.ask("PUT", &path, &kind, list.to_string().as_bytes())
                .expect(201);
        }
        let url = format!("http://{}", home.address());
        let proxy = Registry::embedded_with(Sandbox::new(), &["--proxy", &url]);
        let listed = |query: &str| {
            let answer = proxy.get(&format!("/v2/team/app/referrers/{digest}{query}"));
            assert_eq!(answer.expect(200).header("content-type"), INDEX);
            answer.json()["manifests"].clone()
        };
        let found = listed("");
        assert_eq!(found[0]["digest"], named, "{found}");
        assert_eq!(
            found[0]["artifactType"],
            "application/vnd.example.statement"
        );
        assert_eq!(
            listed("?artifactType=application/vnd.example.other"),
            serde_json::json!([])
        );
        // While it is away, what is kept is listed.
        let accept = [("Accept", MANIFEST)];
        proxy.ask("GET", &path, &accept, b"").expect(200);
        home.stop();
        assert_eq!(listed("")[0]["digest"], named);
    }
}

/// The most memory that a process has had, in bytes.
fn most_memory(registry: &Registry) -> u64 {
    let pid = registry.process().as_raw_nonzero();
    let status = fs_err::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let line = line.expect("VmHWM").trim().trim_end_matches(" kB");
    line.parse::<u64>().expect("a number") * 1024
}

#[test]
fn memory_does_not_grow_with_blobs() {
    let content = noise(9, 200 << 20);
    let home = Registry::embedded();
    let digest = home.push_blob("app", &content);
    home.push_manifest("app", "1", b"{}", &[]);
    let path = format!("/v2/app/blobs/{digest}");
    let url = format!("http://{}", home.address());
    let proxy = Registry::embedded_with(Sandbox::new(), &["--proxy", &url]);
    for registry in [&home, &proxy] {
        assert!(registry.get(&path).expect(200).body == content);
        let most = most_memory(registry);
        assert!(most < 64 << 20, "{most} bytes");
    }
}
