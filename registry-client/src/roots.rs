//! Whom we trust to say who a registry is.

use std::path::PathBuf;
use std::sync::Arc;

use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

/// Where distributions keep the certificates of authorities.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The system's authorities (`$SSL_CERT_FILE` where it is set), or those built in where the system has none.
pub(crate) fn authorities() -> RootCerts {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let candidates = named.into_iter().chain(BUNDLES.iter().map(PathBuf::from));
    for path in candidates {
        let Ok(text) = fs_err::read(&path) else {
            continue;
        };
        let found: Vec<Certificate<'static>> = parse_pem(&text)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if !found.is_empty() {
            return RootCerts::Specific(Arc::new(found));
        }
    }
    RootCerts::WebPki
}
