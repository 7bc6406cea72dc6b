//! Manifests that refer to others: listed by the registry, or under a tag where the registry does not do it.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::kit::{Blobs, Embedded, Known, Scripted, anonymous, name, respond};
use dhow_image::{Descriptor, Digest, Silent};
use oci_spec::image::MediaType;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A signature of a manifest: an artifact whose subject it is.
fn referring(source: &Blobs, subject: &Descriptor, kind: &str) -> Descriptor {
    let config = source.put(MediaType::EmptyJSON, b"{}");
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": kind, "config": config, "layers": [], "subject": subject,
        "annotations": { "of": kind },
    });
    source.put(MediaType::ImageManifest, manifest.to_string().as_bytes())
}

fn push(registry: std::net::SocketAddr, source: &Blobs, manifest: &Descriptor, tag: &str) {
    let reference = name(registry, &format!("app:{tag}"));
    anonymous()
        .push(&reference, manifest, source, &Known::default(), &Silent)
        .unwrap();
}

fn kinds(registry: std::net::SocketAddr, subject: &Descriptor, kind: Option<&str>) -> Vec<String> {
    let subject: Digest = subject.digest().to_string().parse().unwrap();
    let found = anonymous()
        .referrers(&name(registry, "app:1"), &subject, kind)
        .unwrap();
    let kinds = found
        .iter()
        .map(|d| d.artifact_type().as_ref().unwrap().to_string());
    let mut kinds: Vec<String> = kinds.collect();
    kinds.sort_unstable();
    kinds
}

#[test]
fn a_registry_that_keeps_the_list_is_left_to_it() {
    let registry = Embedded::start();
    let source = Blobs::default();
    let image = source.image(&[]);
    push(registry.address, &source, &image, "1");
    for kind in ["application/x.one", "application/x.two"] {
        let artifact = referring(&source, &image, kind);
        push(registry.address, &source, &artifact, &kind[14..]);
    }
    let all = kinds(registry.address, &image, None);
    assert_eq!(all, ["application/x.one", "application/x.two"]);
    let one = kinds(registry.address, &image, Some("application/x.two"));
    assert_eq!(one, ["application/x.two"]);
    let tag = image.digest().to_string().replace(':', "-");
    let error = anonymous().resolve(&name(registry.address, &format!("app:{tag}")));
    assert!(error.is_err(), "there is a tag that nobody needs");
}

#[test]
fn where_the_registry_keeps_no_list_a_tag_does() {
    // A registry of before the list: manifests by name, and every blob is there.
    let manifests: Mutex<HashMap<String, Vec<u8>>> = Mutex::default();
    let registry = Scripted::start(move |request, stream| {
        let last = request.path.rsplit('/').next().unwrap().to_owned();
        let mut manifests = manifests.lock().unwrap();
        match (
            request.method.as_str(),
            request.path.contains("/manifests/"),
        ) {
            ("PUT", true) => {
                manifests.insert(last, request.body.clone());
                respond(stream, 201, &[], b"");
            }
            ("GET", true) if manifests.contains_key(&last) => {
                respond(stream, 200, &[("Content-Type", INDEX)], &manifests[&last]);
            }
            ("HEAD", false) => respond(stream, 200, &[("Content-Length", "2")], b""),
            _ => respond(stream, 404, &[], b""),
        }
    });
    let source = Blobs::default();
    let subject = source.image(&[]);
    for kind in [
        "application/x.one",
        "application/x.two",
        "application/x.one",
    ] {
        let artifact = referring(&source, &subject, kind);
        push(registry.address, &source, &artifact, &kind[14..]);
    }
    let all = kinds(registry.address, &subject, None);
    assert_eq!(all, ["application/x.one", "application/x.two"]);
    assert_eq!(
        kinds(registry.address, &subject, Some("application/x.one")).len(),
        1
    );
    let tag = format!(
        "/v2/app/manifests/{}",
        subject.digest().to_string().replace(':', "-")
    );
    let put = registry.requests();
    let put = put.iter().filter(|r| r.method == "PUT" && r.path == tag);
    // The third push found its entry there.
    assert_eq!(put.count(), 2);
}
