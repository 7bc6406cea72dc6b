//! Registries that lie, break off, never end, or want to be told passwords.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::kit::{
    Blobs, Known, Request, Scripted, anonymous, client, config_size, name, respond, serve_image,
    wanted,
};
use dhow_image::{Silent, TransferError, TransferErrorKind};
use dhow_registry_client::{Client, ClientOptions, Credentials, Patience, Pulled};

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
    let pulled = anonymous().pull(&name(registry.address, "app:1"), &wanted(), &sink, &Silent);
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
        .pull(&reference, &wanted(), &sink, &Silent)
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

/// A client that waits no longer than a test can.
fn hasty() -> Client {
    Client::new(ClientOptions {
        credentials: Credentials::Anonymous,
        patience: Patience {
            window: Duration::from_millis(500),
            least: 30 << 10,
            stall: Duration::from_secs(10),
            pause: Duration::from_millis(50),
        },
        ..ClientOptions::default()
    })
}

/// Sends the beginning of an answer, and then a byte at a time as long as somebody listens.
fn trickle(stream: &mut TcpStream, head: &str) {
    let _ = stream.write_all(head.as_bytes());
    while stream.write_all(b" ").is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

const OPEN_END: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";

#[test]
fn a_blob_that_trickles_is_given_up_after_some_attempts() {
    let source = Blobs::default();
    let layer = vec![7; 300_000];
    let manifest = source.image(std::slice::from_ref(&layer));
    let digest = dhow_image::Digest::of(&layer).to_string();
    let registry = Scripted::start(
        move |request, stream| match request.path.ends_with(&digest) {
            true => trickle(stream, "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n"),
            false => serve_image(&source, &manifest, request, stream),
        },
    );
    let error = hasty()
        .pull(
            &name(registry.address, "app:1"),
            &wanted(),
            &Blobs::default(),
            &Silent,
        )
        .unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::Unreachable, "{error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("it is too slow: "), "{error}: {cause}");
    let asked = registry.requests();
    let asked = asked
        .iter()
        .filter(|request| request.path.contains("/blobs/"));
    // The config, and five times the layer.
    assert_eq!(asked.count(), 6);
}

#[test]
fn a_blob_that_comes_in_crumbs_is_given_up_too() {
    // Each connection brings a little more, and breaks.
    let (pulled, _) = pull_layer(|request, layer, stream| {
        let from: usize = request.headers.get("range").map_or(0, |range| {
            range["bytes=".len()..range.len() - 1].parse().unwrap()
        });
        let range = format!("bytes {from}-{}/{}", layer.len() - 1, layer.len());
        let length = (layer.len() - from).to_string();
        let headers = [
            ("Content-Range", range.as_str()),
            ("Content-Length", &length),
        ];
        let status = if from > 0 { 206 } else { 200 };
        respond(stream, status, &headers, &layer[from..from + 10]);
    });
    let error = pulled.unwrap_err();
    assert!(error.to_string().contains("broke off"), "{error}");
}

#[test]
fn documents_and_refusals_that_trickle_are_given_up() {
    for status in ["200 OK", "403 Forbidden", "503 Busy"] {
        let registry = Scripted::start(move |_, stream| {
            trickle(
                stream,
                &format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n"),
            );
        });
        hasty()
            .resolve(&name(registry.address, "app:1"))
            .unwrap_err();
        hasty().tags(&name(registry.address, "app:1")).unwrap_err();
    }
}

#[test]
fn headers_without_end() {
    let registry = Scripted::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream
            .write_all(b"X-Header: and another one of many\r\n")
            .is_ok()
        {}
    });
    let error = hasty()
        .resolve(&name(registry.address, "app:1"))
        .unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::Unreachable, "{error}");
    assert!(registry.requests().len() <= 5);
}

#[test]
fn a_token_server_without_end() {
    let tokens = Scripted::start(|_, stream| {
        let _ = stream.write_all(OPEN_END.as_bytes());
        while stream.write_all(&[b' '; 4096]).is_ok() {}
    });
    let realm = format!("http://{}/token", tokens.address);
    let registry = Scripted::start(move |_, stream| {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"x\"");
        respond(stream, 401, &[("WWW-Authenticate", &challenge)], b"");
    });
    let error = hasty()
        .resolve(&name(registry.address, "app:1"))
        .unwrap_err();
    assert!(error.to_string().contains("token"), "{error}");
    assert_eq!(tokens.requests().len(), 1);
}

#[test]
fn a_registry_that_wants_to_be_waited_for_for_days_is_not() {
    let registry = Scripted::start(|_, stream| {
        respond(stream, 429, &[("Retry-After", "999999")], b"");
    });
    let error = hasty()
        .resolve(&name(registry.address, "app:1"))
        .unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::Unreachable, "{error}");
    assert_eq!(registry.requests().len(), 5);
}

#[test]
fn a_range_that_was_not_asked_for() {
    let (pulled, _) = pull_layer(|request, layer, stream| {
        let length = layer.len().to_string();
        match request.headers.contains_key("range") {
            false => respond(
                stream,
                200,
                &[("Content-Length", &length)],
                &layer[..70_000],
            ),
            true => {
                let headers = [("Content-Range", "bytes 5-299999/300000")];
                respond(stream, 206, &headers, &layer[5..]);
            }
        }
    });
    corrupt(
        pulled,
        "answers with the range \"bytes 5-299999/300000\" where the bytes from 70000",
    );
}

#[test]
fn a_blob_that_is_encoded_on_the_way() {
    let (pulled, _) = pull_layer(|_, layer, stream| {
        respond(stream, 200, &[("Content-Encoding", "gzip")], &layer[..1000]);
    });
    corrupt(pulled, "encoded as \"gzip\"");
    // Without a length it is seen at the end.
    let (pulled, _) = pull_layer(|_, layer, stream| {
        let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Encoding: gzip\r\n\r\n";
        let _ = stream.write_all(head);
        let _ = stream.write_all(&layer[..1000]);
    });
    corrupt(pulled, "encoded as \"gzip\"");
}

#[test]
fn lists_that_lead_elsewhere_or_nowhere() {
    for (link, says) in [
        (
            "<http://192.0.2.1/v2/app/tags/list?last=x>; rel=\"next\"",
            "points elsewhere",
        ),
        (
            "<//192.0.2.1/v2/app/tags/list>; rel=\"next\"",
            "points elsewhere",
        ),
        (
            "</v2/app/tags/list?last=x>; rel=\"next\"",
            "the list has no end",
        ),
    ] {
        let registry = Scripted::start(move |_, stream| {
            let tags = format!("{{\"tags\":[\"{}\"]}}", "a".repeat(60_000));
            respond(stream, 200, &[("Link", link)], tags.as_bytes());
        });
        let error = hasty().tags(&name(registry.address, "app:1")).unwrap_err();
        assert!(error.to_string().contains(says), "{link}: {error}");
        let subject = dhow_image::Digest::of(b"subject");
        hasty()
            .referrers(&name(registry.address, "app:1"), &subject, None)
            .unwrap_err();
    }
}
