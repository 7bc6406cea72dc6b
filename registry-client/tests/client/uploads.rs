//! Registries that take what is sent too slowly, or have it sent where everybody can read it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dhow_image::{Descriptor, Silent, TransferError, TransferErrorKind};
use dhow_registry_client::{Client, ClientOptions, Credentials, Patience, Trust};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::kit::{Blobs, Known, Request, Scripted, name, read, respond};

fn push(
    options: ClientOptions,
    registry: SocketAddr,
    source: &Blobs,
    manifest: &Descriptor,
) -> Result<(), TransferError> {
    let reference = name(registry, "app:1");
    let client = Client::new(options);
    let pushed = client.push(&reference, manifest, source, &Known::default(), &Silent);
    pushed.map(drop)
}

/// A registry that has nothing, and takes a large blob that is uploaded as `take` does.
fn taker(take: fn(&mut TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                // A byte at a time, so that nothing is taken of a body before `take` does.
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
                let length = head.split_once("content-length: ");
                let length = length.and_then(|(_, rest)| rest.lines().next()?.parse().ok());
                let length: usize = length.unwrap_or(0);
                match head.split(' ').next() {
                    Some("post") => {
                        let location = [("Location", "/v2/app/blobs/uploads/1")];
                        respond(&mut stream, 202, &location, b"");
                    }
                    // The config is taken as it should be.
                    Some("put") if length < 1 << 20 => {
                        let _ = stream.read_exact(&mut vec![0; length]);
                        respond(&mut stream, 201, &[], b"");
                    }
                    Some("put") => take(&mut stream),
                    _ => respond(&mut stream, 404, &[], b""),
                }
            });
        }
    });
    address
}

#[test]
fn who_takes_an_upload_too_slowly_is_given_up() {
    let source = Blobs::default();
    // More than lies in the buffers between us.
    let manifest = source.image(&[vec![7; 32 << 20]]);
    // A little at a time; or nothing at all.
    let trickle: fn(&mut TcpStream) = |stream| {
        let mut buffer = [0; 8 << 10];
        while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let nothing: fn(&mut TcpStream) = |stream| {
        // It stays open as long as the test's process.
        std::mem::forget(stream.try_clone());
    };
    let (long, short) = (Duration::from_secs(60), Duration::from_millis(500));
    for (take, least, stall, says) in [
        (trickle, 4 << 20, long, "it is too slow: "),
        (nothing, 0, short, "in time"),
    ] {
        let options = ClientOptions {
            credentials: Credentials::Anonymous,
            patience: Patience {
                window: Duration::from_millis(200),
                least,
                stall,
                pause: Duration::from_millis(50),
            },
            ..ClientOptions::default()
        };
        let begun = Instant::now();
        let error = push(options, taker(take), &source, &manifest).unwrap_err();
        assert_eq!(error.kind(), TransferErrorKind::Unreachable, "{error}");
        let cause = std::error::Error::source(&error);
        let said = format!(
            "{error}: {}",
            cause.map_or_else(String::new, ToString::to_string)
        );
        assert!(said.contains(says), "{said}");
        // Each of five attempts would wait for a minute by default.
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(120), "{took:?}");
    }
}

/// A registry over TLS that answers as a closure says, and the directory with the certificate by which it is known.
fn over_tls(
    answer: impl Fn(&Request, &mut dyn FnMut(u16, &[(&str, &str)])) + Send + Sync + 'static,
) -> (SocketAddr, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
        .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args([
            "-subj",
            "/CN=registry",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        .args(["-keyout", "registry.pem", "-out", "ca.crt"])
        .current_dir(dir.path())
        .output()
        .expect("package openssl");
    assert!(made.status.success(), "{made:?}");
    let certificate = CertificateDer::from_pem_file(dir.path().join("ca.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.path().join("registry.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let (config, answer) = (Arc::new(config), Arc::new(answer));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (config, answer) = (Arc::clone(&config), Arc::clone(&answer));
            std::thread::spawn(move || {
                let connection = ServerConnection::new(config).unwrap();
                let mut stream = StreamOwned::new(connection, stream.unwrap());
                if let Some(request) = read(&mut stream) {
                    answer(&request, &mut |status, headers| {
                        respond(&mut stream, status, headers, b"");
                    });
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                }
            });
        }
    });
    (address, dir)
}

#[test]
fn from_tls_nothing_is_led_to_where_everybody_can_read_it() {
    // What is asked when the registry points elsewhere: the manifest, a blob, an upload's address, the upload itself, the manifest again.
    for (method, part, status) in [
        ("GET", "/manifests/", 302),
        ("GET", "/manifests/", 307),
        ("HEAD", "/blobs/", 307),
        ("POST", "/blobs/uploads/", 202),
        ("POST", "/blobs/uploads/", 307),
        ("PUT", "/blobs/uploads/", 307),
        ("PUT", "/manifests/", 308),
    ] {
        let thief = Scripted::start(|_, stream| respond(stream, 201, &[], b""));
        let elsewhere = format!("http://{}/v2/app/blobs/uploads/1", thief.address);
        let (address, dir) = over_tls(move |request, respond| {
            let at = [("Location", "/v2/app/blobs/uploads/1")];
            match request.method.as_str() {
                _ if !request.headers.contains_key("authorization") => {
                    respond(401, &[("WWW-Authenticate", "Basic realm=\"x\"")]);
                }
                asked if asked == method && request.path.contains(part) => {
                    respond(status, &[("Location", &elsewhere)]);
                }
                "POST" => respond(202, &at),
                "PUT" => respond(201, &[]),
                _ => respond(404, &[]),
            }
        });
        let source = Blobs::default();
        let manifest = source.image(&[b"layer".to_vec()]);
        let options = ClientOptions {
            credentials: Credentials::Login {
                user: "me".into(),
                password: "secret".into(),
            },
            trust: Trust {
                directory: Some(dir.path().to_owned()),
                ..Trust::default()
            },
            ..ClientOptions::default()
        };
        let error = push(options, address, &source, &manifest).unwrap_err();
        let said = error.to_string();
        let refusal = "points from https to plain http, which is not followed";
        assert!(said.contains(refusal), "{method} {part} {status}: {said}");
        assert!(thief.requests().is_empty(), "{method} {part} {status}");
    }
}
