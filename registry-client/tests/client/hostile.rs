//! Registries that lie, break off, never end, or want to be told passwords.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::kit::{
    Blobs, Known, Request, Scripted, anonymous, client, config_size, name, respond, serve_image,
};
use dhow_image::{Platform, Silent, TransferError, TransferErrorKind};
use dhow_registry_client::{Credentials, Pulled};

fn platform() -> Platform {
    "linux/amd64".parse().unwrap()
}

/// Pulls an image of one layer from a registry that answers for the layer as `answer` says and honestly otherwise.
fn pull_layer(
    answer: impl Fn(&Request, &[u8], &mut std::net::TcpStream) + Send + Sync + 'static,
) -> (Result<Pulled, TransferError>, Blobs) {
    let layer: Vec<u8> = (0..300_000u32).map(|at| (at % 253) as u8).collect();
    let source = Blobs::default();
    let manifest = source.image(std::slice::from_ref(&layer));
    let digest = dhow_image::Digest::of(&layer).to_string();
    let registry = Scripted::start(
        move |request, stream| match request.path.ends_with(&digest) {
            true => answer(request, &layer, stream),
            false => serve_image(&source, &manifest, request, stream),
        },
    );
    let sink = Blobs::default();
    let begun = Instant::now();
    let pulled = anonymous().pull(
        &name(registry.address, "app:1"),
        &platform(),
        &sink,
        &Silent,
    );
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "it took {:?}",
        begun.elapsed()
    );
    (pulled, sink)
}

#[track_caller]
fn corrupt(pulled: Result<Pulled, TransferError>, says: &str) {
    let error = pulled.unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

#[test]
fn other_bytes_of_the_right_length() {
    let (pulled, sink) =
        pull_layer(|_, layer, stream| respond(stream, 200, &[], &vec![1; layer.len()]));
    corrupt(pulled, "digest");
    // Nothing that names the image is kept when a layer is not what it should be.
    assert_eq!(sink.count(), 0);
}

#[test]
fn a_length_that_does_not_fit() {
    let (pulled, _) = pull_layer(|_, layer, stream| respond(stream, 200, &[], &layer[1..]));
    corrupt(pulled, "announces 299999 bytes where 300000 should come");
}

#[test]
fn a_body_without_end() {
    let (pulled, _) = pull_layer(|_, layer, stream| {
        let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(head);
        while stream.write_all(layer).is_ok() {}
    });
    corrupt(pulled, "sends more than the 300000 bytes");
}

#[test]
fn a_manifest_without_end() {
    let registry = Scripted::start(|_, stream| {
        let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(head);
        while stream.write_all(&[b' '; 4096]).is_ok() {}
    });
    let error = anonymous()
        .resolve(&name(registry.address, "app:1"))
        .unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::Corrupt);
    assert!(error.to_string().contains("larger than"), "{error}");
}

#[test]
fn a_manifest_with_another_digest() {
    let source = Blobs::default();
    let manifest = source.image(&[b"layer".to_vec()]);
    let registry =
        Scripted::start(move |request, stream| serve_image(&source, &manifest, request, stream));
    let other = dhow_image::Digest::of(b"other");
    let by_digest = name(registry.address, &format!("app@{other}"));
    let error = anonymous().resolve(&by_digest).unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::Corrupt);
    assert!(
        error
            .to_string()
            .contains(&format!("should have the digest {other}")),
        "{error}"
    );
}

#[test]
fn a_digest_header_that_lies() {
    let registry = Scripted::start(|_, stream| {
        let digest = dhow_image::Digest::of(b"other").to_string();
        respond(stream, 200, &[("Docker-Content-Digest", &digest)], b"{}");
    });
    let error = anonymous()
        .resolve(&name(registry.address, "app:1"))
        .unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::Corrupt);
}

#[test]
fn no_registry_but_something_else() {
    let registry = Scripted::start(|_, stream| {
        respond(
            stream,
            200,
            &[("Content-Type", "text/html")],
            b"<html>welcome",
        );
    });
    let error = anonymous()
        .resolve(&name(registry.address, "app:1"))
        .unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::Corrupt, "{error}");
}

#[test]
fn a_connection_that_breaks_is_taken_up_again() {
    let (pulled, sink) = pull_layer(|request, layer, stream| {
        let from: usize = request.headers.get("range").map_or(0, |range| {
            range["bytes=".len()..range.len() - 1].parse().unwrap()
        });
        let size = layer.len();
        let range = format!("bytes {from}-{}/{size}", size - 1);
        let length = (size - from).to_string();
        let headers = [
            ("Content-Range", range.as_str()),
            ("Content-Length", &length),
        ];
        let status = if from > 0 { 206 } else { 200 };
        // A third of the blob at a time.
        let to = size.min(from + 100_000);
        respond(stream, status, &headers, &layer[from..to]);
    });
    let pulled = pulled.unwrap();
    assert_eq!((pulled.fetched, sink.count()), (1, 3));
    assert!(pulled.bytes < 310_000, "{}", pulled.bytes);
}

#[test]
fn a_registry_that_always_breaks_off_is_given_up() {
    let (pulled, _) = pull_layer(|_, layer, stream| {
        let length = layer.len().to_string();
        respond(stream, 200, &[("Content-Length", &length)], b"");
    });
    let error = pulled.unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::Unreachable);
    assert!(error.to_string().contains("broke off"), "{error}");
}

#[test]
fn a_busy_registry_is_asked_again_but_not_for_ever() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let (pulled, _) =
        pull_layer(
            move |_, layer, stream| match count.fetch_add(1, Ordering::Relaxed) {
                0 => respond(stream, 429, &[("Retry-After", "0")], b""),
                1 => respond(stream, 503, &[], b""),
                _ => respond(stream, 200, &[], layer),
            },
        );
    assert_eq!(pulled.unwrap().fetched, 1);
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    let registry = Scripted::start(|_, stream| respond(stream, 503, &[], b""));
    let error = anonymous()
        .resolve(&name(registry.address, "app:1"))
        .unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::Unreachable);
    assert_eq!(registry.requests().len(), 5);
}

#[test]
fn a_password_is_not_shown_to_whom_a_registry_points() {
    let source = Blobs::default();
    let manifest = source.image(&[b"layer".to_vec()]);
    let bytes = source.get(&manifest).unwrap();
    let cdn =
        Scripted::start(move |request, stream| serve_image(&source, &manifest, request, stream));
    let elsewhere = cdn.address;
    let registry = Scripted::start(move |request, stream| {
        if !request.headers.contains_key("authorization") {
            let challenge = [("WWW-Authenticate", "Basic realm=\"x\"")];
            return respond(stream, 401, &challenge, b"");
        }
        if request.path.contains("/manifests/") {
            return respond(stream, 200, &[], &bytes);
        }
        let location = format!("http://{elsewhere}{}", request.path);
        respond(stream, 307, &[("Location", &location)], b"");
    });
    let login = Credentials::Login {
        user: "me".into(),
        password: "secret".into(),
    };
    let sink = Blobs::default();
    let reference = name(registry.address, "app:1");
    client(login)
        .pull(&reference, &platform(), &sink, &Silent)
        .unwrap();
    assert_eq!(sink.count(), 3);
    let seen = cdn.requests();
    assert_eq!(seen.len(), 2);
    assert!(
        seen.iter()
            .all(|request| !request.headers.contains_key("authorization"))
    );
}

#[test]
fn a_redirect_that_asks_for_the_password_does_not_get_it() {
    let thief = Scripted::start(|_, stream| {
        respond(
            stream,
            401,
            &[("WWW-Authenticate", "Basic realm=\"x\"")],
            b"",
        );
    });
    let elsewhere = thief.address;
    let registry = Scripted::start(move |request, stream| {
        match request.headers.contains_key("authorization") {
            false => respond(
                stream,
                401,
                &[("WWW-Authenticate", "Basic realm=\"x\"")],
                b"",
            ),
            true => {
                let location = format!("http://{elsewhere}/steal");
                respond(stream, 302, &[("Location", &location)], b"");
            }
        }
    });
    let login = Credentials::Login {
        user: "me".into(),
        password: "secret".into(),
    };
    let error = client(login)
        .resolve(&name(registry.address, "app:1"))
        .unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::Denied);
    let seen = thief.requests();
    assert_eq!(seen.len(), 1);
    assert!(!seen[0].headers.contains_key("authorization"));
}

#[test]
fn redirects_that_lead_nowhere_good_are_not_followed() {
    for (location, says) in [
        ("http://user:password@127.0.0.1:1/", "with a password in it"),
        ("ftp://127.0.0.1/", "an address that is none"),
        ("/v2/app/manifests/1", "redirects more than"),
    ] {
        let registry = Scripted::start(move |_, stream| {
            respond(stream, 302, &[("Location", location)], b"");
        });
        let error = anonymous()
            .resolve(&name(registry.address, "app:1"))
            .unwrap_err();
        assert!(error.to_string().contains(says), "{location}: {error}");
        assert!(registry.requests().len() <= 6);
    }
}

#[test]
fn words_of_a_registry_stay_in_one_line() {
    let registry = Scripted::start(|_, stream| {
        let body = b"{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no\\n\\u001b[31mdhow: all is well\"}]}";
        respond(stream, 403, &[], body);
    });
    let error = anonymous()
        .resolve(&name(registry.address, "app:1"))
        .unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::Denied);
    let text = error.to_string();
    assert!(
        text.contains("(DENIED)") && !text.contains(['\n', '\u{1b}']),
        "{text:?}"
    );
}

#[test]
fn a_registry_that_takes_another_manifest_is_found_out() {
    let source = Blobs::default();
    let manifest = source.image(&[]);
    let size = config_size(&source, &manifest);
    let registry = Scripted::start(move |request, stream| match request.method.as_str() {
        "HEAD" if request.path.contains("/blobs/") => {
            respond(stream, 200, &[("Content-Length", &size)], b"")
        }
        "HEAD" => respond(stream, 404, &[], b""),
        _ => {
            let digest = dhow_image::Digest::of(b"other").to_string();
            respond(stream, 201, &[("Docker-Content-Digest", &digest)], b"");
        }
    });
    let reference = name(registry.address, "app:1");
    let error = anonymous()
        .push(&reference, &manifest, &source, &Known::default(), &Silent)
        .unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("took"), "{error}");
}
