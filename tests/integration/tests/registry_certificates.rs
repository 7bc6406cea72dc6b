//! Which certificates of registries are believed where a person gave some.

use std::path::{Path, PathBuf};

use dhow_integration_tests::certificates::self_signed;
use dhow_integration_tests::registry::Registry;
use dhow_integration_tests::{Ran, Sandbox, ran};

const HERE: &str = "IP:127.0.0.1,DNS:localhost";

/// A registry with a certificate that is its own authority, made for these names.
fn registry(file: &str, names: &str, days: &str) -> (Registry, PathBuf) {
    let sandbox = Sandbox::new();
    let (certificate, key) = self_signed(&sandbox, file, names, days);
    let text = |path: &Path| path.to_str().expect("a path").to_owned();
    let args = [
        "--tls-cert".to_owned(),
        text(&certificate),
        "--tls-key".to_owned(),
        text(&key),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    (Registry::embedded_with(sandbox, &args), certificate)
}

/// Pushes busybox to the registry as somebody who was given these certificates for it.
fn pushes(registry: &Registry, given: &[&Path], environment: &[(&str, &Path)]) -> Ran {
    let sandbox = Sandbox::new();
    sandbox.import_busybox();
    let address = registry.address();
    for (at, certificate) in given.iter().enumerate() {
        let text = fs_err::read(certificate).expect("read");
        sandbox.write(&format!("certs.d/{address}/{at}.crt"), text);
    }
    let name = format!("{address}/busybox:1");
    sandbox.dhow(["tag", "busybox", &name]).ok();
    let mut command = sandbox.command(["push", "-q", &name]);
    command
        .env("DHOW_CERTS_D", sandbox.path("certs.d"))
        .envs(environment.iter().copied());
    ran(command, b"")
}

#[test]
fn a_servers_own_certificate_is_believed_where_it_was_given() {
    let (registry, own) = registry("own", HERE, "2");
    let (other, others) = self::registry("other", HERE, "2");
    pushes(&registry, &[&own], &[]).ok();
    pushes(&registry, &[&others, &own], &[]).ok();
    // One of the same name is another one, and what the system trusts was not given for this host.
    for error in [
        pushes(&registry, &[&others], &[]),
        pushes(&other, &[&own], &[]),
        pushes(&registry, &[&others], &[("SSL_CERT_FILE", &own)]),
    ] {
        let error = error.fails(125);
        assert!(error.contains("is not trusted"), "{error}");
    }
}

#[test]
fn its_name_and_its_time_count_nevertheless() {
    for (names, days) in [("DNS:elsewhere.example", "2"), (HERE, "-1")] {
        let (registry, own) = registry("own", names, days);
        let error = pushes(&registry, &[&own], &[]).fails(125);
        assert!(error.contains("is not trusted"), "{names} {days}: {error}");
    }
}
