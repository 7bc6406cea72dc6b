//! Certificates of an authority of the test's own, made by openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Sandbox;

/// An authority, in a directory of a sandbox.
pub struct Authority {
    dir: PathBuf,
}

impl Authority {
    /// Makes an authority.
    ///
    /// # Panics
    /// When openssl (package openssl) is missing.
    pub fn new(sandbox: &Sandbox) -> Self {
        let dir = sandbox.path("certificates");
        fs_err::create_dir_all(&dir).expect("create");
        let authority = Self { dir };
        authority.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            "/CN=The test's authority",
            "-days",
            "2",
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
        ]);
        authority
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// Makes a certificate and its key for loopback, as server or client.
    ///
    /// # Panics
    /// When openssl does not.
    pub fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let file = |ending: &str| format!("{name}.{ending}");
        self.openssl(&[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            &format!("/CN={name}"),
            "-keyout",
            &file("key"),
            "-out",
            &file("csr"),
        ]);
        let extensions = "basicConstraints=CA:FALSE\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n";
        fs_err::write(self.dir.join("extensions"), extensions).expect("write");
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &file("csr"),
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "extensions",
            "-out",
            &file("crt"),
        ]);
        (self.dir.join(file("crt")), self.dir.join(file("key")))
    }

    /// Signs bytes with a key of this directory: RSA with SHA-256.
    ///
    /// # Panics
    /// When openssl does not.
    pub fn sign(&self, key: &Path, bytes: &[u8]) -> Vec<u8> {
        let message = tempfile::NamedTempFile::new_in(&self.dir).expect("a file");
        fs_err::write(message.path(), bytes).expect("write");
        let signed = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .args([key, message.path()])
            .output()
            .expect("package openssl");
        assert!(signed.status.success(), "{signed:?}");
        signed.stdout
    }

    fn openssl(&self, args: &[&str]) {
        let made = Command::new("openssl")
            .args(args)
            .current_dir(&self.dir)
            .output()
            .expect("package openssl");
        assert!(made.status.success(), "{args:?}: {made:?}");
    }
}

/// A certificate for these names (`IP:127.0.0.1`) that says of itself that it is an authority, as `openssl req -x509` makes such, and
/// its key. It runs out after so many days, which may have passed.
///
/// # Panics
/// When openssl (package openssl) does not.
pub fn self_signed(sandbox: &Sandbox, file: &str, names: &str, days: &str) -> (PathBuf, PathBuf) {
    let path = |ending: &str| sandbox.path(format!("{file}.{ending}"));
    let (certificate, key, request) = (path("crt"), path("key"), path("csr"));
    let extensions = format!("basicConstraints=critical,CA:TRUE\nsubjectAltName={names}\n");
    let extensions = sandbox.write(&format!("{file}.ext"), extensions);
    let openssl = |command: &mut Command| {
        let made = command.output().expect("package openssl");
        assert!(made.status.success(), "{made:?}");
    };
    let subject = format!("/CN={file}");
    openssl(
        Command::new("openssl")
            .args(["req", "-newkey", "ec", "-nodes", "-subj", &subject])
            .args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout"])
            .args([key.as_path(), Path::new("-out"), &request]),
    );
    openssl(
        Command::new("openssl")
            .args(["x509", "-req", "-days", days, "-in"])
            .args([request.as_path(), Path::new("-signkey"), &key])
            .args([Path::new("-extfile"), &extensions])
            .args([Path::new("-out"), &certificate]),
    );
    (certificate, key)
}
