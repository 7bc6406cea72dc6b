//! A push over an older version of the image: what that one names is not asked for, as far as it can be believed.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use dhow_image::{
    BlobLocations as _, Descriptor, Digest, Silent, TransferError, TransferErrorKind,
};
use dhow_registry_client::{BlobOutcome, Pushed};
use oci_spec::image::MediaType;

use crate::kit::{Blobs, Embedded, Known, Request, Scripted, anonymous, name, respond};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// How a registry refuses a manifest of which it lacks a blob.
const LOST: &[u8] =
    br#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#;

fn layers(count: u32) -> Vec<Vec<u8>> {
    (0..count)
        .map(|at| format!("layer {at}").into_bytes())
        .collect()
}

fn push(registry: SocketAddr, source: &Blobs, root: &Descriptor) -> Pushed {
    let reference = name(registry, "app:1");
    let pushed = anonymous().push(&reference, root, source, &Known::default(), &Silent);
    pushed.unwrap()
}

fn sent(pushed: &Pushed) -> usize {
    let blobs = pushed.blobs.iter();
    blobs
        .filter(|blob| blob.outcome == BlobOutcome::Pushed)
        .count()
}

/// An index of these images.
fn index(source: &Blobs, images: &[(&str, &Descriptor)]) -> Descriptor {
    let manifests: Vec<_> = images
        .iter()
        .map(|(architecture, image)| {
            serde_json::json!({
                "mediaType": image.media_type(), "digest": image.digest().to_string(), "size": image.size(),
                "platform": { "os": "linux", "architecture": architecture },
            })
        })
        .collect();
    let document =
        serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    source.put(MediaType::ImageIndex, document.to_string().as_bytes())
}

#[test]
fn of_forty_layers_only_the_changed_one_is_asked_for() {
    let registry = Embedded::start();
    let source = Blobs::default();
    let mut layers = layers(40);
    push(registry.address, &source, &source.image(&layers));
    layers[39] = b"changed".to_vec();
    let pushed = push(registry.address, &source, &source.image(&layers));
    assert_eq!((pushed.blobs.len(), sent(&pushed)), (41, 2));
    // The tag; look, begin and send for the layer and the config; the manifest.
    assert_eq!(pushed.requests, 1 + 2 * 3 + 1);
    let again = push(registry.address, &source, &source.image(&layers));
    assert_eq!((again.unchanged, again.requests), (true, 1));
}

#[test]
fn of_an_index_only_the_changed_image_is_looked_at() {
    let registry = Embedded::start();
    let source = Blobs::default();
    let mut own = layers(20);
    let arm = source.image(&layers(19));
    let amd = source.image(&own);
    let both = index(&source, &[("amd64", &amd), ("arm64", &arm)]);
    push(registry.address, &source, &both);
    own[19] = b"changed".to_vec();
    let amd = source.image(&own);
    let changed = index(&source, &[("amd64", &amd), ("arm64", &arm)]);
    let pushed = push(registry.address, &source, &changed);
    // All but the changed layer and the config are known from the image that stayed.
    assert_eq!((pushed.blobs.len(), sent(&pushed)), (21, 2));
    // The tag, a look for both manifests and into the old one; look, begin and send for two blobs; the manifest and the index.
    assert_eq!(pushed.requests, 1 + 2 + 1 + 2 * 3 + 2);
    // One image in the place of the index, of which both images are looked into.
    own[19] = b"changed again".to_vec();
    let alone = push(registry.address, &source, &source.image(&own));
    assert_eq!((alone.blobs.len(), sent(&alone)), (21, 2));
    assert_eq!(alone.requests, 1 + 2 + 2 * 3 + 1);
}

/// What a registry that says as it is told has been asked and told.
struct Told {
    pushed: Result<Pushed, TransferError>,
    requests: Vec<Request>,
    registry: SocketAddr,
    known: Known,
}

impl Told {
    /// Whether it is noted that the registry has these bytes.
    fn is_noted(&self, bytes: &[u8]) -> bool {
        let noted = self
            .known
            .repositories(&self.registry.to_string(), &Digest::of(bytes));
        noted.iter().any(|repository| repository == "app")
    }

    fn count(&self, method: &str, part: &str) -> usize {
        let fitting = |one: &&Request| one.method == method && one.path.contains(part);
        self.requests.iter().filter(fitting).count()
    }
}

/// Pushes an image of three layers to a registry that answers as `answer` says: it is given the image and an older one, of which the
/// upper layer was another. It takes what it is sent, and has no blob that it is asked for.
fn told(
    answer: impl Fn(&Request, [&[u8]; 2], &mut TcpStream) -> bool + Send + Sync + 'static,
) -> Told {
    let source = Blobs::default();
    let older = source.image(&layers(3));
    let mut all = layers(3);
    all[2] = b"changed".to_vec();
    let image = source.image(&all);
    told_over(&source, &older, &image, answer)
}

/// The same of this image over this older one.
fn told_over(
    source: &Blobs,
    older: &Descriptor,
    image: &Descriptor,
    answer: impl Fn(&Request, [&[u8]; 2], &mut TcpStream) -> bool + Send + Sync + 'static,
) -> Told {
    let bytes = [image, older].map(|one| source.get(one).unwrap());
    let registry = Scripted::start(move |request, stream| {
        if answer(request, [&bytes[0], &bytes[1]], stream) {
            return;
        }
        match request.method.as_str() {
            "HEAD" => respond(stream, 404, &[], b""),
            "POST" => respond(stream, 202, &[("Location", "/v2/app/uploads/1")], b""),
            "PUT" => respond(stream, 201, &[], b""),
            _ => respond(stream, 404, &[], b""),
        }
    });
    let reference = name(registry.address, "app:1");
    let known = Known::default();
    let pushed = anonymous().push(&reference, image, source, &known, &Silent);
    Told {
        pushed,
        requests: registry.requests(),
        registry: registry.address,
        known,
    }
}

fn is_tag(request: &Request, method: &str) -> bool {
    request.method == method && request.path.ends_with("/manifests/1")
}

#[test]
fn what_cannot_be_believed_tells_nothing() {
    type Answer = fn(&[u8], &[u8], &mut TcpStream);
    let cases: [(&str, Answer, usize); 6] = [
        (
            "honest",
            |_, older, stream| respond(stream, 200, &[("Content-Type", MANIFEST)], older),
            2,
        ),
        (
            "no document",
            |_, _, stream| respond(stream, 200, &[("Content-Type", "text/html")], b"<html>"),
            4,
        ),
        (
            "another type than the header says",
            |_, older, stream| respond(stream, 200, &[("Content-Type", INDEX)], older),
            4,
        ),
        (
            "without end",
            |_, _, stream| {
                use std::io::Write as _;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
                while stream.write_all(&[b' '; 4096]).is_ok() {}
            },
            4,
        ),
        (
            "other sizes",
            |_, older, stream| {
                let text = String::from_utf8_lossy(older).replace("\"size\":7", "\"size\":8");
                respond(stream, 200, &[], text.as_bytes());
            },
            4,
        ),
        (
            "layers that need not be there",
            |_, older, stream| {
                let kind = "application/vnd.oci.image.layer.v1.tar";
                let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar";
                let text = String::from_utf8_lossy(older).replace(kind, foreign);
                respond(stream, 200, &[], text.as_bytes());
            },
            4,
        ),
    ];
    for (what, answer, asked) in cases {
        let told = told(move |request, [image, older], stream| {
            let is_tag = is_tag(request, "GET");
            if is_tag {
                answer(image, older, stream);
            }
            is_tag
        });
        let pushed = told.pushed.as_ref().unwrap();
        assert!(!pushed.unchanged, "{what}");
        assert_eq!(told.count("HEAD", "/blobs/"), asked, "{what}");
        assert_eq!(sent(pushed), asked, "{what}");
    }
}

#[test]
fn the_manifests_own_digest_decides_whether_it_is_there() {
    let told_by = |lying: bool| {
        told(move |request, [image, older], stream| {
            let (body, said) = match lying {
                true => (older, Digest::of(image)),
                false => (image, Digest::of(older)),
            };
            let is_tag = is_tag(request, "GET");
            if is_tag {
                let said = [("Docker-Content-Digest", said.to_string())];
                respond(stream, 200, &[(said[0].0, said[0].1.as_str())], body);
            }
            is_tag
        })
    };
    let lied = told_by(true);
    assert!(!lied.pushed.as_ref().unwrap().unchanged);
    assert_eq!(lied.count("PUT", "/manifests/1"), 1);
    let same = told_by(false);
    assert!(same.pushed.as_ref().unwrap().unchanged);
    assert_eq!(same.requests.len(), 1);
}

#[test]
fn registries_that_answer_get_alone_or_head_alone_are_pushed_to() {
    let no_head = told(|request, [_, older], stream| {
        match request.method.as_str() {
            "HEAD" => respond(stream, 405, &[], b""),
            "GET" => respond(stream, 200, &[], older),
            _ => return false,
        }
        true
    });
    assert_eq!(sent(&no_head.pushed.unwrap()), 2);
    for there in [false, true] {
        let no_get = told(move |request, [image, _], stream| {
            let said = Digest::of(image).to_string();
            match request.method.as_str() {
                "GET" => respond(stream, 405, &[], b""),
                "HEAD" if there => respond(stream, 200, &[("Docker-Content-Digest", &said)], b""),
                _ => return false,
            }
            true
        });
        let pushed = no_get.pushed.unwrap();
        assert_eq!(pushed.unchanged, there);
        assert_eq!(sent(&pushed), if there { 0 } else { 4 });
    }
}

#[test]
fn a_registry_that_meters_or_fails_what_it_gives_out_is_pushed_to() {
    // The status of GET, how often it is asked for, what HEAD says, and whether that is enough.
    for (status, asked, head, is_there) in [
        (429, 1, 200, true),
        (429, 1, 404, false),
        (429, 1, 429, false),
        (503, 5, 200, true),
        (503, 5, 503, false),
    ] {
        let told = told(move |request, [image, _], stream| {
            let said = Digest::of(image).to_string();
            let headers = [
                ("Docker-Content-Digest", said.as_str()),
                ("Retry-After", "0"),
            ];
            if is_tag(request, "GET") {
                respond(stream, status, &headers[1..], b"");
            } else if is_tag(request, "HEAD") {
                respond(stream, head, &headers, b"");
            } else {
                return false;
            }
            true
        });
        let what = format!("{status} and {head}");
        assert_eq!(told.count("GET", "/manifests/1"), asked, "{what}");
        assert_eq!(told.count("HEAD", "/manifests/1"), 1, "{what}");
        let pushed = told.pushed.expect(&what);
        assert_eq!(pushed.unchanged, is_there, "{what}");
        assert_eq!(sent(&pushed), if is_there { 0 } else { 4 }, "{what}");
    }
}

#[test]
fn a_registry_that_lost_what_it_names_is_asked_for_all_once() {
    for (refusals, status) in [(1, 400), (1, 404), (u32::MAX, 400)] {
        let refused = AtomicU32::new(0);
        let told = told(move |request, [_, older], stream| {
            if is_tag(request, "GET") {
                respond(stream, 200, &[], older);
            } else if is_tag(request, "PUT") && refused.fetch_add(1, Ordering::Relaxed) < refusals {
                respond(stream, status, &[], LOST);
            } else {
                return false;
            }
            true
        });
        // Two that the older image does not name, and then all four.
        assert_eq!(told.count("HEAD", "/blobs/"), 2 + 4);
        assert_eq!(told.count("PUT", "/manifests/"), 2);
        match (refusals, told.pushed) {
            (1, pushed) => assert_eq!(sent(&pushed.unwrap()), 4),
            (_, pushed) => {
                let error = pushed.unwrap_err();
                assert_eq!(error.kind(), TransferErrorKind::NotFound);
                let said = "does not have all that the manifest names: blob unknown to registry";
                assert!(error.to_string().contains(said), "{error}");
            }
        }
    }
    // Who knew nothing has nothing to ask again.
    let unknowing = told(|request, _, stream| {
        let is_put = is_tag(request, "PUT");
        if is_put {
            respond(stream, 400, &[], LOST);
        }
        is_put
    });
    assert!(unknowing.pushed.is_err());
    assert_eq!(unknowing.count("HEAD", "/blobs/"), 4);
}

#[test]
fn whatever_may_mean_that_a_blob_is_lost_is_asked_after() {
    const INVALID: &[u8] = br#"{"errors":[{"code":"MANIFEST_INVALID","message":"invalid"}]}"#;
    const TOO_BIG: &[u8] = br#"{"errors":[{"code":"SIZE_INVALID","message":"too big"}]}"#;
    for (status, text, is_asked) in [
        (400, INVALID, true),
        (422, INVALID, true),
        (400, b"" as &[u8], true),
        (401, b"", false),
        (403, b"", false),
        (413, TOO_BIG, false),
    ] {
        let is_refused = AtomicBool::new(false);
        let told = told(move |request, [_, older], stream| {
            if is_tag(request, "GET") {
                respond(stream, 200, &[], older);
            } else if is_tag(request, "PUT") && !is_refused.swap(true, Ordering::Relaxed) {
                respond(stream, status, &[], text);
            } else {
                return false;
            }
            true
        });
        let rounds = if is_asked { 2 } else { 1 };
        assert_eq!(told.count("PUT", "/manifests/"), rounds, "{status}");
        assert_eq!(told.pushed.is_ok(), is_asked, "{status}");
    }
}

#[test]
fn only_what_the_registry_confirmed_is_noted_to_be_there() {
    for lost in [false, true] {
        let is_refused = AtomicBool::new(false);
        let told = told(move |request, [_, older], stream| {
            if is_tag(request, "GET") {
                respond(stream, 200, &[], older);
            } else if lost && is_tag(request, "PUT") {
                is_refused.store(true, Ordering::Relaxed);
                respond(stream, 400, &[], LOST);
            } else if request.method == "POST" && is_refused.load(Ordering::Relaxed) {
                // What it lost it does not take again.
                respond(stream, 403, &[], b"");
            } else {
                return false;
            }
            true
        });
        assert_eq!(told.pushed.is_err(), lost);
        assert!(told.is_noted(b"changed"));
        for layer in layers(2) {
            assert!(!told.is_noted(&layer), "lost: {lost}");
        }
    }
}

#[test]
fn an_index_tells_nothing_of_what_it_names() {
    let source = Blobs::default();
    let arm = source.image(&layers(3));
    let of = |layers: &[Vec<u8>]| source.image(layers);
    let both = |amd: &Descriptor| index(&source, &[("amd64", amd), ("arm64", &arm)]);
    let amd = of(&[b"new".to_vec()]);
    let new = both(&amd);
    let as_layer = of(&[source.get(&arm).unwrap()]);
    for (what, older) in [
        ("an index without its images", both(&of(&[b"old".to_vec()]))),
        ("a layer with the digest of an image", as_layer),
    ] {
        let told = told_over(&source, &older, &new, |request, [_, older], stream| {
            let is_tag = is_tag(request, "GET");
            if is_tag {
                respond(stream, 200, &[], older);
            }
            is_tag
        });
        for image in [&amd, &arm] {
            let path = format!("/manifests/{}", image.digest());
            assert_eq!(told.count("HEAD", &path), 1, "{what}");
            assert_eq!(told.count("PUT", &path), 1, "{what}");
        }
        // Of each its layers and the config.
        assert_eq!(told.count("HEAD", "/blobs/"), 2 + 4, "{what}");
        assert_eq!(sent(&told.pushed.unwrap()), 2 + 4, "{what}");
    }
    // Nor is a blob there of which an index says that it is an image.
    let layer = source.put(MediaType::ImageManifest, b"new");
    let older = index(&source, &[("amd64", &layer)]);
    let told = told_over(&source, &older, &amd, |request, [_, older], stream| {
        let is_tag = is_tag(request, "GET");
        if is_tag {
            respond(stream, 200, &[], older);
        }
        is_tag
    });
    assert_eq!(sent(&told.pushed.unwrap()), 2);
}
