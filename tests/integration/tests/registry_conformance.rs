//! One set of cases for every registry: the embedded one and Debian's. Section names are those of distribution-spec 1.1.

use dhow_integration_tests::registry::{
    INDEX, MANIFEST, Registry, closing, descriptor, manifest, noise, sha256, sha512,
};

macro_rules! against_every_registry {
    ($($case:ident),* $(,)?) => {
        mod embedded {
            use super::Registry;
            $(#[test] fn $case() { super::$case(&Registry::embedded()); })*
        }
        mod debian {
            use super::Registry;
            $(#[test] fn $case() { super::$case(&Registry::debian()); })*
        }
    };
}

against_every_registry!(
    it_says_that_it_is_a_registry,
    blobs_come_back_as_they_were,
    blobs_are_pushed_in_chunks,
    a_blob_with_another_digest_is_refused,
    uploads_can_be_given_up,
    blobs_are_mounted,
    ranges_of_blobs,
    manifests_come_back_as_they_were,
    manifests_over_missing_blobs_are_refused,
    manifests_that_are_none_are_refused,
    tags_move_and_are_listed,
    repositories_are_listed,
    what_is_not_there_is_not_found,
    manifests_are_deleted,
    blobs_are_deleted,
    indexes_name_manifests,
    names_that_climb_reach_nothing,
);

fn it_says_that_it_is_a_registry(registry: &Registry) {
    let version = registry.get("/v2/");
    version.expect(200);
    assert_eq!(
        version.header("docker-distribution-api-version"),
        "registry/2.0"
    );
}

fn blobs_come_back_as_they_were(registry: &Registry) {
    for content in [&b""[..], b"some content", &noise(1, 3_000_000)] {
        let digest = registry.push_blob("team/app", content);
        let path = format!("/v2/team/app/blobs/{digest}");
        let head = registry.ask("HEAD", &path, &[], b"");
        head.expect(200);
        assert_eq!(head.header("content-length"), content.len().to_string());
        assert_eq!(head.header("docker-content-digest"), digest);
        let got = registry.get(&path);
        got.expect(200);
        assert!(got.body == content, "{} bytes", content.len());
    }
}

fn blobs_are_pushed_in_chunks(registry: &Registry) {
    let content = noise(2, 1_000_000);
    let digest = sha256(&content);
    let begun = registry.ask("POST", "/v2/app/blobs/uploads/", &[], b"");
    begun.expect(202);
    let mut location = begun.header("location").to_owned();
    let mut sent = 0;
    for chunk in content.chunks(300_000).take(3) {
        let range = format!("{sent}-{}", sent + chunk.len() - 1);
        let headers = [
            ("Content-Range", range.as_str()),
            ("Content-Type", "application/octet-stream"),
        ];
        let taken = registry.ask("PATCH", &location, &headers, chunk);
        taken.expect(202);
        sent += chunk.len();
        assert_eq!(taken.header("range"), format!("0-{}", sent - 1));
        location = taken.header("location").to_owned();
    }
    let status = registry.get(&location);
    status.expect(204);
    assert_eq!(status.header("range"), format!("0-{}", sent - 1));
    location = status.header("location").to_owned();
    let headers = [("Content-Type", "application/octet-stream")];
    let done = registry.ask(
        "PUT",
        &closing(&location, &digest),
        &headers,
        &content[sent..],
    );
    done.expect(201);
    let got = registry.get(done.header("location"));
    assert!(got.expect(200).body == content);
}

fn a_blob_with_another_digest_is_refused(registry: &Registry) {
    let begun = registry.ask("POST", "/v2/app/blobs/uploads/", &[], b"");
    let digest = sha256(b"other");
    let location = closing(begun.header("location"), &digest);
    let refused = registry.ask("PUT", &location, &[], b"content");
    refused.expect_error(400, "DIGEST_INVALID");
    registry.get(&format!("/v2/app/blobs/{digest}")).expect(404);
}

fn uploads_can_be_given_up(registry: &Registry) {
    let begun = registry.ask("POST", "/v2/app/blobs/uploads/", &[], b"");
    let location = begun.header("location");
    registry.ask("DELETE", location, &[], b"").expect(204);
    let gone = registry.ask("PATCH", location, &[], b"content");
    gone.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
}

fn blobs_are_mounted(registry: &Registry) {
    let digest = registry.push_blob("from/here", b"shared");
    let mount = |digest: &str, from: &str| {
        let path = format!("/v2/to/there/blobs/uploads/?mount={digest}&from={from}");
        registry.ask("POST", &path, &[], b"")
    };
    let mounted = mount(&digest, "from/here");
    mounted.expect(201);
    registry.get(mounted.header("location")).expect(200);
    assert_eq!(
        registry.get(&format!("/v2/to/there/blobs/{digest}")).body,
        b"shared"
    );
    // What cannot be mounted begins an upload.
    let begun = mount(&sha256(b"nowhere"), "from/here");
    begun.expect(202);
    let location = closing(begun.header("location"), &sha256(b"nowhere"));
    registry.ask("PUT", &location, &[], b"nowhere").expect(201);
}

fn ranges_of_blobs(registry: &Registry) {
    let content = noise(3, 100_000);
    let digest = registry.push_blob("app", &content);
    let path = format!("/v2/app/blobs/{digest}");
    for (range, from, to) in [
        ("bytes=0-9", 0, 10),
        ("bytes=500-", 500, 100_000),
        ("bytes=-10", 99_990, 100_000),
        ("bytes=99999-200000", 99_999, 100_000),
    ] {
        let part = registry.ask("GET", &path, &[("Range", range)], b"");
        part.expect(206);
        assert!(part.body == content[from..to], "{range}");
        let expected = format!("bytes {from}-{}/100000", to - 1);
        assert_eq!(part.header("content-range"), expected);
    }
    let beyond = registry.ask("GET", &path, &[("Range", "bytes=100000-")], b"");
    beyond.expect(416);
    assert_eq!(beyond.header("content-range"), "bytes */100000");
}

fn manifests_come_back_as_they_were(registry: &Registry) {
    let (bytes, digest) = registry.push_manifest("team/app", "1.0", b"{}", &[b"layer"]);
    for name in ["1.0", &digest] {
        let path = format!("/v2/team/app/manifests/{name}");
        let got = registry.ask("GET", &path, &[("Accept", MANIFEST)], b"");
        got.expect(200);
        assert_eq!(got.body, bytes);
        assert_eq!(got.header("content-type"), MANIFEST);
        assert_eq!(got.header("docker-content-digest"), digest);
        let head = registry.ask("HEAD", &path, &[("Accept", MANIFEST)], b"");
        head.expect(200);
        assert_eq!(head.header("content-length"), bytes.len().to_string());
        assert_eq!(head.header("docker-content-digest"), digest);
    }
}

fn manifests_over_missing_blobs_are_refused(registry: &Registry) {
    registry.push_blob("app", b"{}");
    let manifest = manifest(b"{}", &[b"never sent"]);
    let kind = [("Content-Type", MANIFEST)];
    let refused = registry.ask("PUT", "/v2/app/manifests/1", &kind, &manifest);
    refused.expect_error(400, "MANIFEST_BLOB_UNKNOWN");
    registry.get("/v2/app/manifests/1").expect(404);
}

fn manifests_that_are_none_are_refused(registry: &Registry) {
    let kind = [("Content-Type", MANIFEST)];
    let refused = registry.ask("PUT", "/v2/app/manifests/1", &kind, b"no JSON");
    refused.expect_error(400, "MANIFEST_INVALID");
    registry.push_blob("app", b"{}");
    let path = format!("/v2/app/manifests/{}", sha256(b"another"));
    let refused = registry.ask("PUT", &path, &kind, &manifest(b"{}", &[]));
    refused.expect_error(400, "DIGEST_INVALID");
}

fn tags_move_and_are_listed(registry: &Registry) {
    let (_, first) = registry.push_manifest("app", "b", b"{\"first\":1}", &[]);
    let (_, second) = registry.push_manifest("app", "b", b"{\"second\":2}", &[]);
    assert_ne!(first, second);
    for tag in ["a", "c", "d"] {
        registry.push_manifest("app", tag, b"{}", &[]);
    }
    let digest = |name: &str| {
        let path = format!("/v2/app/manifests/{name}");
        let got = registry.ask("GET", &path, &[("Accept", MANIFEST)], b"");
        got.expect(200).header("docker-content-digest").to_owned()
    };
    assert_eq!(digest("b"), second);
    assert_eq!(digest(&first), first);
    let list = registry.get("/v2/app/tags/list").json();
    assert_eq!(list["name"], "app");
    // Debian's release does not sort them; ours is held to it elsewhere.
    let mut tags: Vec<_> = list["tags"].as_array().expect("tags").iter().collect();
    tags.sort_unstable_by_key(|tag| tag.as_str());
    assert_eq!(tags, ["a", "b", "c", "d"]);
}

fn repositories_are_listed(registry: &Registry) {
    for name in ["b", "a/deep/one", "c"] {
        registry.push_manifest(name, "1", b"{}", &[]);
    }
    let all = registry.get("/v2/_catalog");
    let names = serde_json::json!(["a/deep/one", "b", "c"]);
    assert_eq!(all.expect(200).json()["repositories"], names);
    let page = registry.get("/v2/_catalog?n=2");
    let names = serde_json::json!(["a/deep/one", "b"]);
    assert_eq!(page.expect(200).json()["repositories"], names);
    assert!(page.header("link").contains("rel=\"next\""));
    let rest = registry.get("/v2/_catalog?n=2&last=b");
    assert_eq!(
        rest.expect(200).json()["repositories"],
        serde_json::json!(["c"])
    );
}

fn what_is_not_there_is_not_found(registry: &Registry) {
    registry.push_manifest("app", "1", b"{}", &[]);
    let nothing = sha256(b"nothing");
    let missing = registry.get(&format!("/v2/app/blobs/{nothing}"));
    missing.expect_error(404, "BLOB_UNKNOWN");
    for name in ["2", nothing.as_str()] {
        let missing = registry.get(&format!("/v2/app/manifests/{name}"));
        missing.expect_error(404, "MANIFEST_UNKNOWN");
    }
    let missing = registry.get("/v2/other/tags/list");
    missing.expect_error(404, "NAME_UNKNOWN");
    // A blob of one repository is not one of another.
    let digest = registry.push_blob("app", b"mine");
    registry
        .get(&format!("/v2/other/blobs/{digest}"))
        .expect(404);
}

fn manifests_are_deleted(registry: &Registry) {
    let (_, digest) = registry.push_manifest("app", "1", b"{}", &[]);
    let path = format!("/v2/app/manifests/{digest}");
    registry.ask("DELETE", &path, &[], b"").expect(202);
    registry.get(&path).expect(404);
    registry.get("/v2/app/manifests/1").expect(404);
}

fn blobs_are_deleted(registry: &Registry) {
    let digest = registry.push_blob("app", b"content");
    let path = format!("/v2/app/blobs/{digest}");
    registry.ask("DELETE", &path, &[], b"").expect(202);
    registry.get(&path).expect_error(404, "BLOB_UNKNOWN");
    registry.ask("DELETE", &path, &[], b"").expect(404);
    registry.push_blob("app", b"content");
    registry.get(&path).expect(200);
}

fn indexes_name_manifests(registry: &Registry) {
    let (bytes, _) = registry.push_manifest("app", "amd64", b"{}", &[b"layer"]);
    let index = |manifest: &[u8]| {
        serde_json::json!({
            "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(MANIFEST, manifest)],
        })
        .to_string()
    };
    let kind = [("Content-Type", INDEX)];
    let good = index(&bytes);
    let put = registry.ask("PUT", "/v2/app/manifests/all", &kind, good.as_bytes());
    put.expect(201);
    let got = registry.ask("GET", "/v2/app/manifests/all", &[("Accept", INDEX)], b"");
    assert_eq!(got.expect(200).body, good.as_bytes());
    assert_eq!(got.header("content-type"), INDEX);
    let bad = index(b"a manifest that is not there");
    let refused = registry.ask("PUT", "/v2/app/manifests/bad", &kind, bad.as_bytes());
    refused.expect(400);
}

fn names_that_climb_reach_nothing(registry: &Registry) {
    for path in [
        "/v2/../../etc/tags/list",
        "/v2/%2e%2e/%2e%2e/etc/tags/list",
        "/v2/app/manifests/..%2f..%2fetc",
        "/v2/app/blobs/sha256:..%2f..%2f..%2fetc%2fpasswd",
        "/v2/App/tags/list",
    ] {
        let status = registry.get(path).status;
        assert!((300..500).contains(&status), "{path}: {status}");
    }
    registry.get("/v2/").expect(200);
}

// What the specification has and Debian's release does not.

#[test]
fn a_blob_comes_with_one_request() {
    let registry = Registry::embedded();
    for digest in [sha256(b"content"), sha512(b"content")] {
        let path = format!("/v2/app/blobs/uploads/?digest={digest}");
        registry.ask("POST", &path, &[], b"content").expect(201);
        let got = registry.get(&format!("/v2/app/blobs/{digest}"));
        assert_eq!(got.expect(200).body, b"content");
    }
    let path = format!("/v2/app/blobs/uploads/?digest={}", sha256(b"other"));
    let refused = registry.ask("POST", &path, &[], b"content");
    refused.expect_error(400, "DIGEST_INVALID");
    let refused = registry.ask("POST", "/v2/app/blobs/uploads/?digest=md5:1", &[], b"");
    refused.expect_error(400, "DIGEST_INVALID");
}

#[test]
fn chunks_out_of_order_are_refused_with_the_place_to_go_on_from() {
    let registry = Registry::embedded();
    let begun = registry.ask("POST", "/v2/app/blobs/uploads/", &[], b"");
    let location = begun.header("location");
    let chunk = |range: &str, body: &[u8]| {
        registry.ask("PATCH", location, &[("Content-Range", range)], body)
    };
    chunk("0-3", b"cont").expect(202);
    let refused = chunk("7-9", b"ent");
    refused.expect(416);
    assert_eq!(refused.header("range"), "0-3");
    chunk("0-3", b"cont").expect(416);
    chunk("4-9", b"ent").expect_error(400, "SIZE_INVALID");
    chunk("nonsense", b"ent").expect(416);
    chunk("4-6", b"ent").expect(202);
    let last = closing(location, &sha256(b"content"));
    let headers = [("Content-Range", "0-6")];
    registry.ask("PUT", &last, &headers, b"content").expect(416);
    registry.ask("PUT", &last, &[], b"").expect(201);
    registry
        .ask("PUT", &last, &[], b"")
        .expect_error(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn an_upload_belongs_to_its_repository() {
    let registry = Registry::embedded();
    let begun = registry.ask("POST", "/v2/app/blobs/uploads/", &[], b"");
    let elsewhere = begun.header("location").replace("/app/", "/other/");
    registry
        .ask("PATCH", &elsewhere, &[], b"content")
        .expect_error(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn a_blob_of_sha512_is_pushed_in_chunks() {
    let registry = Registry::embedded();
    let path = "/v2/app/blobs/uploads/?digest-algorithm=sha512";
    let begun = registry.ask("POST", path, &[], b"");
    let location = begun.expect(202).header("location");
    registry.ask("PATCH", location, &[], b"con").expect(202);
    let digest = sha512(b"content");
    registry
        .ask("PUT", &closing(location, &digest), &[], b"tent")
        .expect(201);
    let path = "/v2/app/blobs/uploads/?digest-algorithm=crc32";
    registry
        .ask("POST", path, &[], b"")
        .expect_error(400, "DIGEST_INVALID");
}

#[test]
fn tags_are_paged_and_deleted() {
    let registry = Registry::embedded();
    for tag in ["a", "b", "c"] {
        registry.push_manifest("app", tag, b"{}", &[]);
    }
    let tags = |query: &str| registry.get(&format!("/v2/app/tags/list{query}"));
    assert_eq!(tags("?n=2").json()["tags"], serde_json::json!(["a", "b"]));
    assert_eq!(
        tags("?n=2").header("link"),
        "</v2/app/tags/list?n=2&last=b>; rel=\"next\""
    );
    assert_eq!(tags("?n=2&last=b").json()["tags"], serde_json::json!(["c"]));
    assert_eq!(
        tags("?last=a").json()["tags"],
        serde_json::json!(["b", "c"])
    );
    let none = tags("?n=0");
    assert_eq!(none.json()["tags"], serde_json::json!([]));
    assert!(!none.headers.contains_key("link"));
    tags("?n=-1").expect(400);
    registry
        .ask("DELETE", "/v2/app/manifests/b", &[], b"")
        .expect(202);
    assert_eq!(tags("").json()["tags"], serde_json::json!(["a", "c"]));
    registry
        .ask("DELETE", "/v2/app/manifests/b", &[], b"")
        .expect(404);
}

#[test]
fn a_manifest_by_digest_takes_tags_along() {
    let registry = Registry::embedded();
    registry.push_blob("app", b"{}");
    let manifest = manifest(b"{}", &[]);
    for digest in [sha256(&manifest), sha512(&manifest)] {
        let path = format!("/v2/app/manifests/{digest}?tag=x&tag=y");
        let put = registry.ask("PUT", &path, &[("Content-Type", MANIFEST)], &manifest);
        assert_eq!(put.expect(201).header("oci-tag"), "x, y");
        let got = registry.get("/v2/app/manifests/y");
        assert_eq!(got.expect(200).header("docker-content-digest"), digest);
    }
}

#[test]
fn manifests_that_contradict_themselves_or_are_too_large_are_refused() {
    let registry = Registry::embedded();
    registry.push_blob("app", b"{}");
    let manifest = manifest(b"{}", &[]);
    let put = |kind: &str, bytes: &[u8]| {
        registry.ask(
            "PUT",
            "/v2/app/manifests/1",
            &[("Content-Type", kind)],
            bytes,
        )
    };
    put(INDEX, &manifest).expect_error(400, "MANIFEST_INVALID");
    put(&format!("{MANIFEST}; charset=utf-8"), &manifest).expect(201);
    let wrong = String::from_utf8(manifest)
        .expect("text")
        .replace("\"size\":2", "\"size\":3");
    put(MANIFEST, wrong.as_bytes()).expect_error(400, "MANIFEST_INVALID");
    put(MANIFEST, &vec![b' '; 9 << 20]).expect(413);
}

#[test]
fn referrers_are_listed_and_filtered() {
    let registry = Registry::embedded();
    let (subject, digest) = registry.push_manifest("app", "1", b"{}", &[]);
    let path = format!("/v2/app/referrers/{digest}");
    assert_eq!(
        registry.get(&path).expect(200).json()["manifests"],
        serde_json::json!([])
    );
    let mut pushed = Vec::new();
    for kind in ["application/x.one", "application/x.two"] {
        let mut referrer: serde_json::Value =
            serde_json::from_slice(&manifest(b"{}", &[])).expect("JSON");
        referrer["subject"] = descriptor(MANIFEST, &subject);
        referrer["artifactType"] = kind.into();
        referrer["annotations"] = serde_json::json!({ "of": kind });
        let bytes = referrer.to_string().into_bytes();
        let put = format!("/v2/app/manifests/{}", sha256(&bytes));
        let put = registry.ask("PUT", &put, &[("Content-Type", MANIFEST)], &bytes);
        assert_eq!(put.expect(201).header("oci-subject"), digest);
        pushed.push(sha256(&bytes));
    }
    let all = registry.get(&path);
    assert_eq!(all.header("content-type"), INDEX);
    assert_eq!(all.json()["manifests"].as_array().map(Vec::len), Some(2));
    let one = registry.get(&format!("{path}?artifactType=application/x.one"));
    assert_eq!(one.header("oci-filters-applied"), "artifactType");
    let list = one.json()["manifests"].clone();
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    assert_eq!(list[0]["digest"], pushed[0].as_str());
    assert_eq!(list[0]["annotations"]["of"], "application/x.one");
    registry
        .ask(
            "DELETE",
            &format!("/v2/app/manifests/{}", pushed[0]),
            &[],
            b"",
        )
        .expect(202);
    assert_eq!(
        registry.get(&path).json()["manifests"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    registry
        .get("/v2/app/referrers/nonsense")
        .expect_error(400, "DIGEST_INVALID");
}

#[test]
fn a_restart_keeps_all_but_what_nobody_has() {
    let mut registry = Registry::embedded();
    let (manifest, _) = registry.push_manifest("app", "1", b"{}", &[b"layer"]);
    let begun = registry.ask("POST", "/v2/app/blobs/uploads/", &[], b"");
    let location = begun.header("location").to_owned();
    registry.ask("PATCH", &location, &[], b"con").expect(202);
    let orphan = registry.push_blob("app", b"orphan");
    registry
        .ask("DELETE", &format!("/v2/app/blobs/{orphan}"), &[], b"")
        .expect(202);
    registry.restart();
    assert_eq!(
        registry.get("/v2/app/manifests/1").expect(200).body,
        manifest
    );
    let digest = sha256(b"content");
    registry
        .ask("PUT", &closing(&location, &digest), &[], b"tent")
        .expect(201);
    assert_eq!(
        registry.get(&format!("/v2/app/blobs/{digest}")).body,
        b"content"
    );
    let (_, hex) = orphan.split_once(':').expect("a digest");
    let kept = registry.path("root/registry/blobs/sha256").join(hex);
    assert!(!kept.exists(), "{}", kept.display());
}
