//! Images to the embedded registry and back.

use std::net::SocketAddr;

use crate::kit::{Blobs, Embedded, Known, Scripted, anonymous, name, respond, wanted};
use dhow_image::{Descriptor, Digest, Silent, TransferErrorKind, Want};
use dhow_registry_client::{BlobOutcome, Client, ClientOptions, Credentials};
use oci_spec::image::MediaType;
use rustix::net;

fn layers() -> Vec<Vec<u8>> {
    (0..5u8)
        .map(|seed| vec![seed; 400_000 + usize::from(seed)])
        .collect()
}

#[test]
fn what_is_pushed_is_pulled_lowest_layer_begun_first() {
    let registry = Embedded::start();
    let (source, sink, known) = (Blobs::default(), Blobs::default(), Known::default());
    let manifest = source.image(&layers());
    let reference = name(registry.address, "team/app:1.2");
    let client = anonymous();
    let pushed = client
        .push(&reference, &manifest, &source, &known, &Silent)
        .unwrap();
    assert!(!pushed.unchanged);
    assert_eq!(pushed.blobs.len(), 6);
    assert!(
        pushed
            .blobs
            .iter()
            .all(|blob| blob.outcome == BlobOutcome::Pushed)
    );
    // The tag; look, begin and send for each blob; the manifest.
    assert_eq!(pushed.requests, 1 + 6 * 3 + 1);
    let pulled = client.pull(&reference, &wanted(), &sink, &Silent).unwrap();
    assert_eq!(pulled.manifest.digest(), manifest.digest());
    assert_eq!((pulled.fetched, pulled.present), (5, 0));
    assert_eq!(pulled.requests, 1 + 1 + 5);
    assert_eq!(sink.count(), source.count());
    for (digest, want) in sink.begun.lock().unwrap().iter().take(1) {
        assert_eq!(*digest, Digest::of(&layers()[0]).to_string());
        assert!(matches!(want, Want::Layer { parent: None, .. }));
    }
    let again = client.pull(&reference, &wanted(), &sink, &Silent).unwrap();
    assert_eq!((again.fetched, again.present, again.requests), (0, 5, 2));
    assert_eq!(
        again.bytes_saved,
        layers().iter().map(|layer| layer.len() as u64).sum::<u64>()
    );
}

#[test]
fn a_repeated_push_is_one_request_and_shared_layers_are_not_sent() {
    let registry = Embedded::start();
    let (source, known, client) = (Blobs::default(), Known::default(), anonymous());
    let first = source.image(&layers());
    let reference = name(registry.address, "app:1");
    client
        .push(&reference, &first, &source, &known, &Silent)
        .unwrap();
    let again = client
        .push(&reference, &first, &source, &known, &Silent)
        .unwrap();
    assert!(again.unchanged);
    assert_eq!((again.requests, again.bytes), (1, 0));
    let mut more = layers();
    more.push(b"one more".to_vec());
    let second = source.image(&more);
    let reference = name(registry.address, "app:2");
    let pushed = client
        .push(&reference, &second, &source, &known, &Silent)
        .unwrap();
    let outcomes: Vec<_> = pushed
        .blobs
        .iter()
        .map(|blob| blob.outcome.clone())
        .collect();
    assert_eq!(outcomes[..5], vec![BlobOutcome::AlreadyThere; 5]);
    assert_eq!(outcomes[5..], vec![BlobOutcome::Pushed; 2]);
    assert!(pushed.bytes < 5_000, "{}", pushed.bytes);
}

#[test]
fn layers_are_mounted_from_where_they_are_known_to_be() {
    let registry = Embedded::start();
    let (source, known, client) = (Blobs::default(), Known::default(), anonymous());
    let manifest = source.image(&layers());
    let here = name(registry.address, "here:1");
    let there = name(registry.address, "there:1");
    client
        .push(&here, &manifest, &source, &known, &Silent)
        .unwrap();
    let pushed = client
        .push(&there, &manifest, &source, &known, &Silent)
        .unwrap();
    let mounted = BlobOutcome::Mounted("here".to_owned());
    assert!(
        pushed.blobs.iter().all(|blob| blob.outcome == mounted),
        "{pushed:?}"
    );
    // What is known can be wrong: then the blob is sent, in the upload that was begun instead.
    let wrong = Known::default();
    let digest = Digest::of(&layers()[0]);
    let registry_name = registry.address.to_string();
    dhow_image::BlobLocations::note(&wrong, &registry_name, "nowhere", &digest);
    let third = name(registry.address, "third:1");
    let pushed = client
        .push(&third, &manifest, &source, &wrong, &Silent)
        .unwrap();
    assert!(
        pushed
            .blobs
            .iter()
            .all(|blob| blob.outcome == BlobOutcome::Pushed),
        "{pushed:?}"
    );
    assert_eq!(pushed.requests, 1 + 6 * 3 + 1);
}

#[test]
fn blobs_can_go_in_chunks() {
    let registry = Embedded::start();
    let (source, sink, known) = (Blobs::default(), Blobs::default(), Known::default());
    let manifest = source.image(&[vec![7; 1_000_001], Vec::new()]);
    let reference = name(registry.address, "app:1");
    let client = Client::new(ClientOptions {
        credentials: Credentials::Anonymous,
        chunk: Some(300_000),
        ..ClientOptions::default()
    });
    client
        .push(&reference, &manifest, &source, &known, &Silent)
        .unwrap();
    client.pull(&reference, &wanted(), &sink, &Silent).unwrap();
    assert_eq!(sink.count(), source.count());
}

#[test]
fn a_pull_goes_on_where_an_earlier_one_was_broken_off() {
    let registry = Embedded::start();
    let (source, known, client) = (Blobs::default(), Known::default(), anonymous());
    let layer: Vec<u8> = (0..900_000u32).map(|at| (at % 251) as u8).collect();
    let manifest = source.image(std::slice::from_ref(&layer));
    let reference = name(registry.address, "app:1");
    client
        .push(&reference, &manifest, &source, &known, &Silent)
        .unwrap();
    let of_layer = source.put(oci_spec::image::MediaType::ImageLayer, &layer);
    for (part, least, most) in [
        (layer[..800_000].to_vec(), 100_000, 110_000),
        (layer.clone(), 0, 10_000),
        // A beginning of something else: found out at the end, and fetched anew.
        (vec![0; 800_000], 1_000_000, 1_010_000),
        (vec![0; 1_000_000], 900_000, 910_000),
    ] {
        let sink = Blobs::default();
        sink.leave_part(&of_layer, &part);
        let pulled = client.pull(&reference, &wanted(), &sink, &Silent).unwrap();
        assert!((least..most).contains(&pulled.bytes), "{}", pulled.bytes);
        assert_eq!(sink.get(&of_layer).as_ref(), Some(&layer));
    }
}

#[test]
fn an_image_is_pulled_by_its_digest_alone() {
    let registry = Embedded::start();
    let (source, sink, known, client) = (
        Blobs::default(),
        Blobs::default(),
        Known::default(),
        anonymous(),
    );
    let manifest = source.image(&layers());
    client
        .push(
            &name(registry.address, "app:1"),
            &manifest,
            &source,
            &known,
            &Silent,
        )
        .unwrap();
    let by_digest = name(registry.address, &format!("app@{}", manifest.digest()));
    client.pull(&by_digest, &wanted(), &sink, &Silent).unwrap();
    let missing = name(registry.address, &format!("app@{}", Digest::of(b"missing")));
    let error = client
        .pull(&missing, &wanted(), &sink, &Silent)
        .unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::NotFound);
}

#[test]
fn what_is_missing_in_the_source_is_an_error_and_leaves_no_tag() {
    let registry = Embedded::start();
    let (source, sink, known, client) = (
        Blobs::default(),
        Blobs::default(),
        Known::default(),
        anonymous(),
    );
    let manifest = source.image(&layers());
    let without = Blobs::default();
    let bytes = source.get(&manifest).unwrap();
    without.put(oci_spec::image::MediaType::ImageManifest, &bytes);
    let reference = name(registry.address, "app:1");
    let error = client
        .push(&reference, &manifest, &without, &known, &Silent)
        .unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::NotFound);
    let error = client
        .pull(&reference, &wanted(), &sink, &Silent)
        .unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::NotFound);
    assert!(error.to_string().contains("does not have it"), "{error}");
}

#[test]
fn nobody_at_the_door_is_said_at_once() {
    // Taken, so that nobody else gets it, but nobody listens.
    let taken = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None).unwrap();
    net::bind(&taken, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let free: SocketAddr = net::getsockname(&taken).unwrap().try_into().unwrap();
    let begun = std::time::Instant::now();
    let error = anonymous().resolve(&name(free, "app:1")).unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::Unreachable);
    assert!(
        error
            .to_string()
            .contains(&format!("no registry answers at {free}")),
        "{error}"
    );
    // Where nothing is waited for, only other work of the machine takes time.
    assert!(begun.elapsed().as_secs() < 20);
}

#[test]
fn a_layer_that_is_not_to_be_distributed_comes_from_where_its_maker_says_and_is_not_pushed() {
    let layer = b"the maker's own".to_vec();
    let served = layer.clone();
    let maker = Scripted::start(move |request, stream| match request.path.as_str() {
        "/gone" => respond(stream, 404, &[], b""),
        _ => respond(stream, 200, &[], &served),
    });
    let source = Blobs::default();
    let plain = source.image(std::slice::from_ref(&layer));
    let text = String::from_utf8(source.get(&plain).unwrap()).unwrap();
    let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
    document["layers"][0]["mediaType"] =
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
    let urls = ["gone", "layer"].map(|path| format!("http://{}/{path}", maker.address));
    document["layers"][0]["urls"] = serde_json::json!(urls);
    let manifest = source.put(MediaType::ImageManifest, document.to_string().as_bytes());
    let registry = Embedded::start();
    let reference = name(registry.address, "app:1");
    let pushed = anonymous()
        .push(&reference, &manifest, &source, &Known::default(), &Silent)
        .unwrap();
    assert_eq!(pushed.blobs.len(), 1);
    let sink = Blobs::default();
    anonymous()
        .pull(&reference, &wanted(), &sink, &Silent)
        .unwrap();
    let digest = Digest::of(&layer);
    let descriptor = Descriptor::new(MediaType::ImageLayer, layer.len() as u64, digest);
    assert_eq!(sink.get(&descriptor), Some(layer));
    assert_eq!(maker.requests().len(), 2);
}
