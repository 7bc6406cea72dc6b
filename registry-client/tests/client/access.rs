//! How the client proves who it is, and how it sends what a registry will not take at once.

use std::sync::Mutex;

use crate::kit::{Blobs, Known, Scripted, anonymous, client, config_size, name, respond};
use dhow_image::{Silent, TransferErrorKind};
use dhow_registry_client::Credentials;

fn login() -> Credentials {
    Credentials::Login {
        user: "me".into(),
        password: "secret".into(),
    }
}

/// `me:secret` as the basic scheme has it.
const BASIC: &str = "Basic bWU6c2VjcmV0";

#[test]
fn a_token_is_fetched_once_with_the_scopes_that_are_needed() {
    let tokens = Scripted::start(|request, stream| {
        match request.headers.get("authorization").map(String::as_str) {
            Some(BASIC) => respond(stream, 200, &[], b"{\"token\":\"abc\",\"expires_in\":300}"),
            _ => respond(stream, 401, &[], b""),
        }
    });
    let realm = tokens.address;
    let source = Blobs::default();
    let manifest = source.image(&[]);
    let size = config_size(&source, &manifest);
    let registry = Scripted::start(move |request, stream| {
        if request.headers.get("authorization").map(String::as_str) != Some("Bearer abc") {
            let challenge =
                format!("Bearer realm=\"http://{realm}/token\",service=\"the registry\"");
            return respond(stream, 401, &[("WWW-Authenticate", &challenge)], b"");
        }
        match (request.method.as_str(), request.path.contains("/blobs/")) {
            ("HEAD", false) => respond(stream, 404, &[], b""),
            ("HEAD", true) => respond(stream, 200, &[("Content-Length", &size)], b""),
            _ => respond(stream, 201, &[], b""),
        }
    });
    let reference = name(registry.address, "team/app:1");
    let client = client(login());
    client
        .push(&reference, &manifest, &source, &Known::default(), &Silent)
        .unwrap();
    let asked = tokens.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].path,
        "/token?service=the%20registry&scope=repository:team/app:pull%2Cpush"
    );
    // The first request is asked twice: without a token and with it.
    assert_eq!(registry.requests().len(), 2 + 1 + 1);
}

#[test]
fn a_token_that_has_run_out_is_replaced() {
    let given = Mutex::new(0);
    let tokens = Scripted::start(move |_, stream| {
        let mut given = given.lock().unwrap();
        *given += 1;
        respond(
            stream,
            200,
            &[],
            format!("{{\"access_token\":\"t{given}\"}}").as_bytes(),
        );
    });
    let realm = tokens.address;
    let registry = Scripted::start(move |request, stream| {
        let proof = request.headers.get("authorization").map(String::as_str);
        match proof {
            // Each token is good for one tag.
            Some("Bearer t1") if request.path.ends_with("/1") => respond(stream, 200, &[], b"{}"),
            Some("Bearer t2") if request.path.ends_with("/2") => respond(stream, 200, &[], b"{}"),
            _ => {
                let challenge = format!("Bearer realm=\"http://{realm}/token\"");
                respond(stream, 401, &[("WWW-Authenticate", &challenge)], b"");
            }
        }
    });
    let client = anonymous();
    client.resolve(&name(registry.address, "app:1")).unwrap();
    client.resolve(&name(registry.address, "app:2")).unwrap();
    assert_eq!(tokens.requests().len(), 2);
    let error = client
        .resolve(&name(registry.address, "app:3"))
        .unwrap_err();
    assert_eq!(error.kind(), TransferErrorKind::Denied);
}

#[test]
fn a_wrong_or_missing_password_is_denied_after_one_try() {
    let registry = Scripted::start(|_, stream| {
        respond(
            stream,
            401,
            &[("WWW-Authenticate", "Basic realm=\"x\"")],
            b"",
        );
    });
    let reference = name(registry.address, "app:1");
    for (credentials, requests) in [(login(), 2), (Credentials::Anonymous, 3)] {
        let error = client(credentials).resolve(&reference).unwrap_err();
        assert_eq!(error.kind(), TransferErrorKind::Denied);
        assert!(error.to_string().contains("dhow login"), "{error}");
        assert_eq!(registry.requests().len(), requests);
    }
}

#[test]
fn what_is_too_large_goes_in_chunks() {
    let taken = std::sync::Arc::new(Mutex::new(Vec::new()));
    let sink = std::sync::Arc::clone(&taken);
    let registry = Scripted::start(move |request, stream| {
        let blob = request.path.contains("/blobs/");
        match request.method.as_str() {
            "HEAD" => respond(stream, 404, &[], b""),
            "POST" => respond(
                stream,
                202,
                &[("Location", "/v2/app/blobs/uploads/1?state=a")],
                b"",
            ),
            "PUT" if blob && !request.body.is_empty() && request.body.len() > 1_000 => {
                respond(stream, 413, &[], b"");
            }
            "PATCH" => {
                sink.lock().unwrap().extend_from_slice(&request.body);
                respond(
                    stream,
                    202,
                    &[("Location", "/v2/app/blobs/uploads/1?state=b")],
                    b"",
                );
            }
            _ => respond(stream, 201, &[], b""),
        }
    });
    let source = Blobs::default();
    let layer: Vec<u8> = (0..20_000_000u32).map(|at| (at % 241) as u8).collect();
    let manifest = source.image(std::slice::from_ref(&layer));
    let reference = name(registry.address, "app:1");
    anonymous()
        .push(&reference, &manifest, &source, &Known::default(), &Silent)
        .unwrap();
    assert!(*taken.lock().unwrap() == layer);
    let patches = registry
        .requests()
        .iter()
        .filter(|request| request.method == "PATCH")
        .count();
    assert_eq!(patches, 3);
    let closing = registry.requests();
    let closing = closing.iter().find(|request| {
        request.method == "PUT" && request.body.is_empty() && request.path.contains("/uploads/")
    });
    let digest = dhow_image::Digest::of(&layer);
    assert_eq!(
        closing.unwrap().path,
        format!("/v2/app/blobs/uploads/1?state=b&digest={digest}")
    );
}

#[test]
fn an_upload_that_is_lost_is_begun_anew() {
    let puts = Mutex::new(0);
    let registry = Scripted::start(move |request, stream| match request.method.as_str() {
        "HEAD" => respond(stream, 404, &[], b""),
        "POST" => respond(stream, 202, &[("Location", "/v2/app/blobs/uploads/1")], b""),
        "PUT" if request.path.contains("/blobs/") => {
            let mut puts = puts.lock().unwrap();
            *puts += 1;
            match *puts {
                1 => respond(stream, 502, &[], b""),
                2 => respond(stream, 404, &[], b""),
                // The third gets no answer at all.
                3 => {}
                _ => respond(stream, 201, &[], b""),
            }
        }
        _ => respond(stream, 201, &[], b""),
    });
    let source = Blobs::default();
    let manifest = source.image(&[]);
    let reference = name(registry.address, "app:1");
    anonymous()
        .push(&reference, &manifest, &source, &Known::default(), &Silent)
        .unwrap();
    let begun = registry
        .requests()
        .iter()
        .filter(|request| request.method == "POST")
        .count();
    assert_eq!(begun, 4);
}

#[test]
fn a_token_server_on_another_machine_is_not_told_a_password_in_the_clear() {
    // Nobody has this address (RFC 5737), and nobody is asked there.
    for realm in [
        "http://192.0.2.1/token",
        "https://me@127.0.0.1/token",
        "ftp://127.0.0.1/",
    ] {
        let registry = Scripted::start(move |_, stream| {
            let challenge = format!("Bearer realm=\"{realm}\",service=\"x\"");
            respond(stream, 401, &[("WWW-Authenticate", &challenge)], b"");
        });
        let error = client(login())
            .resolve(&name(registry.address, "app:1"))
            .unwrap_err();
        assert_eq!(error.kind(), TransferErrorKind::Denied, "{error}");
        assert!(
            error.to_string().contains("could be read on the way"),
            "{error}"
        );
        assert_eq!(registry.requests().len(), 1);
    }
}
