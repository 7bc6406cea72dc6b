//! Registries on free ports of loopback, and requests to them byte by byte.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256, Sha512};

use crate::{PATIENCE, Sandbox, program};

/// A registry of a test's own, gone with it.
pub struct Registry {
    child: Child,
    address: SocketAddr,
    sandbox: Sandbox,
}

/// What a registry answered.
#[derive(Debug)]
pub struct Response {
    /// The status, such as 200.
    pub status: u16,
    /// The headers, their names in lower case.
    pub headers: HashMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Registry {
    /// The embedded registry: `dhow registry serve`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn embedded() -> Self {
        Self::embedded_with(Sandbox::new(), &[])
    }

    /// The embedded registry with more arguments.
    ///
    /// # Panics
    /// When it does not start.
    pub fn embedded_with(sandbox: Sandbox, args: &[&str]) -> Self {
        let (child, address) = serve(&sandbox.path("root"), args);
        Self {
            child,
            address,
            sandbox,
        }
    }

    /// Debian's registry (package docker-registry).
    ///
    /// # Panics
    /// When it is missing or does not start.
    pub fn debian() -> Self {
        Self::debian_with(Sandbox::new(), "")
    }

    /// Debian's registry, for those who know the password of `me`, which is `secret`.
    ///
    /// # Panics
    /// As [`Registry::debian`].
    pub fn debian_with_password() -> Self {
        // htpasswd's bcrypt form.
        const ME: &str = "me:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
        let sandbox = Sandbox::new();
        let file = sandbox.write("htpasswd", ME);
        let auth = format!(
            "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
            file.display()
        );
        Self::debian_with(sandbox, &auth)
    }

    /// Debian's registry with more lines of configuration.
    ///
    /// # Panics
    /// As [`Registry::debian`].
    pub fn debian_configured(sandbox: Sandbox, more: &str) -> Self {
        Self::debian_with(sandbox, more)
    }

    /// Debian's registry over TLS, of which `tls` is the configuration.
    ///
    /// # Panics
    /// As [`Registry::debian`].
    pub fn debian_over_tls(sandbox: Sandbox, tls: &str) -> Self {
        Self::debian_started(sandbox, "", &format!(", tls: {tls}"))
    }

    fn debian_with(sandbox: Sandbox, more: &str) -> Self {
        Self::debian_started(sandbox, more, "")
    }

    fn debian_started(sandbox: Sandbox, more: &str, http: &str) -> Self {
        let config = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp: {{addr: \"127.0.0.1:0\"{http}}}\n{more}",
            sandbox.path("registry").display()
        );
        let config = sandbox.write("config.yml", config);
        let log = sandbox.write("registry.log", "");
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(fs_err::File::create(&log).expect("its log").into_file())
            .spawn()
            .expect("package docker-registry");
        let end = Instant::now() + PATIENCE;
        // It takes a free port, as anybody may take one that it is told; its log says which.
        let address = loop {
            let said = fs_err::read_to_string(&log).expect("its log");
            if let Some(address) = listening(&said) {
                break address;
            }
            let ended = child.try_wait().expect("wait");
            if ended.is_some() || Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                panic!("docker-registry does not start ({ended:?}): {said}");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        Self {
            child,
            address,
            sandbox,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn process(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Its place: the embedded registry's store and state directories are those of this sandbox, too.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// A path in its place.
    pub fn path(&self, name: impl AsRef<Path>) -> std::path::PathBuf {
        self.sandbox.path(name)
    }

    /// Stops the embedded registry as a person would, and starts it again over the same directory.
    ///
    /// # Panics
    /// When it does not stop with success within two minutes.
    pub fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// The same, with more arguments.
    ///
    /// # Panics
    /// As [`Registry::restart`].
    pub fn restart_with(&mut self, args: &[&str]) {
        rustix::process::kill_process(self.process(), rustix::process::Signal::TERM)
            .expect("signal");
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            assert!(Instant::now() < end, "the registry does not stop");
            std::thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success(), "{status}");
        (self.child, self.address) = serve(&self.sandbox.path("root"), args);
    }

    /// Kills the registry for good.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn stop(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Kills the embedded registry, and starts it again over the same directory.
    ///
    /// # Panics
    /// When it does not start again.
    pub fn kill_and_restart(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
        (self.child, self.address) = serve(&self.sandbox.path("root"), &[]);
    }

    /// Asks with a method, a path, headers and a body, over a connection of its own.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let path = match path.strip_prefix("http://") {
            // A location in full; what follows the authority is the path.
            Some(rest) => &rest[rest.find('/').expect("a path")..],
            None => path,
        };
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n",
            self.address,
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut stream = TcpStream::connect(self.address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream
            .write_all(format!("{head}\r\n").as_bytes())
            .expect("write");
        // A registry may answer and close before it has read a body that it does not want.
        let _ = stream.write_all(body);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        Response::read(&bytes, method)
    }

    /// `GET`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.ask("GET", path, &[], b"")
    }

    /// Pushes a blob in one piece; its digest.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn push_blob(&self, repository: &str, content: &[u8]) -> String {
        let digest = sha256(content);
        let begun = self.ask(
            "POST",
            &format!("/v2/{repository}/blobs/uploads/"),
            &[],
            b"",
        );
        begun.expect(202);
        let location = closing(begun.header("location"), &digest);
        let octets = [("Content-Type", "application/octet-stream")];
        self.ask("PUT", &location, &octets, content).expect(201);
        digest
    }

    /// Pushes an image manifest over blobs that are there; its bytes and digest.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn push_manifest(
        &self,
        repository: &str,
        tag: &str,
        config: &[u8],
        layers: &[&[u8]],
    ) -> (Vec<u8>, String) {
        self.push_blob(repository, config);
        for layer in layers {
            self.push_blob(repository, layer);
        }
        let manifest = manifest(config, layers);
        let path = format!("/v2/{repository}/manifests/{tag}");
        let kind = [("Content-Type", MANIFEST)];
        self.ask("PUT", &path, &kind, &manifest).expect(201);
        let digest = sha256(&manifest);
        (manifest, digest)
    }

    /// Pushes an image whose layers are tars, past dhow; its manifest's digest.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn push_image(&self, repository: &str, tag: &str, layers: &[Vec<u8>]) -> String {
        let (config, manifest) = image(layers);
        for blob in layers.iter().chain([&config]) {
            self.push_blob(repository, blob);
        }
        let path = format!("/v2/{repository}/manifests/{tag}");
        let kind = [("Content-Type", MANIFEST)];
        self.ask("PUT", &path, &kind, &manifest).expect(201);
        sha256(&manifest)
    }

    /// Pushes an image for several platforms, past dhow: an index with an image for each architecture (of these layers) and an artifact
    /// that refers to the first; the index's bytes and digest.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn push_index(
        &self,
        repository: &str,
        tag: &str,
        platforms: &[(&str, Vec<Vec<u8>>)],
    ) -> (Vec<u8>, String) {
        let put = |name: &str, kind: &str, bytes: &[u8]| {
            let path = format!("/v2/{repository}/manifests/{name}");
            let kind = [("Content-Type", kind)];
            self.ask("PUT", &path, &kind, bytes).expect(201);
        };
        let mut entries: Vec<serde_json::Value> = Vec::new();
        for (architecture, layers) in platforms {
            let (config, manifest) = image_for(architecture, layers);
            for blob in layers.iter().chain([&config]) {
                self.push_blob(repository, blob);
            }
            put(&sha256(&manifest), MANIFEST, &manifest);
            let mut entry = descriptor(MANIFEST, &manifest);
            entry["platform"] = serde_json::json!({ "os": "linux", "architecture": architecture });
            entries.push(entry);
        }
        let statement = br#"{"predicateType":"test"}"#;
        self.push_blob(repository, statement);
        self.push_blob(repository, b"{}");
        let artifact = artifact(statement, &entries[0]);
        put(&sha256(&artifact), MANIFEST, &artifact);
        let mut entry = descriptor(MANIFEST, &artifact);
        entry["platform"] = serde_json::json!({ "os": "unknown", "architecture": "unknown" });
        entries.push(entry);
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": INDEX, "manifests": entries,
            "annotations": { "org.example.kept": "as it is" },
        });
        let index = index.to_string().into_bytes();
        put(tag, INDEX, &index);
        let digest = sha256(&index);
        (index, digest)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Response {
    #[track_caller]
    fn read(bytes: &[u8], method: &str) -> Self {
        let end = bytes
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("{method}: {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers: HashMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut body = bytes[end + 4..].to_vec();
        if headers
            .get("transfer-encoding")
            .is_some_and(|kind| kind == "chunked")
        {
            body = unchunked(&body);
        }
        Self {
            status: status
                .and_then(|status| status.parse().ok())
                .expect("a status"),
            headers,
            body,
        }
    }

    /// Asserts the status.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn expect(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{}: {:?}", self.text(), self.headers);
        self
    }

    /// Asserts the status and the code of the first error.
    ///
    /// # Panics
    /// When one of them is another.
    #[track_caller]
    pub fn expect_error(&self, status: u16, code: &str) {
        self.expect(status);
        assert_eq!(self.json()["errors"][0]["code"], code, "{}", self.text());
    }

    /// A header that has to be there.
    ///
    /// # Panics
    /// When it is missing.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.get(name);
        found.unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }
}

/// The media type of an OCI image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an OCI image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The digest of some bytes.
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// The digest of some bytes by the other algorithm.
pub fn sha512(bytes: &[u8]) -> String {
    format!("sha512:{}", hex(&Sha512::digest(bytes)))
}

/// An image manifest over a config and layers.
pub fn manifest(config: &[u8], layers: &[&[u8]]) -> Vec<u8> {
    let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
    let layers: Vec<_> = layers
        .iter()
        .map(|bytes| descriptor(layer, bytes))
        .collect();
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": layers,
    })
    .to_string()
    .into_bytes()
}

/// A manifest that is no image but a statement about `subject`.
pub fn artifact(statement: &[u8], subject: &serde_json::Value) -> Vec<u8> {
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/vnd.example.statement",
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [descriptor("application/vnd.in-toto+json", statement)],
        "subject": {
            "mediaType": subject["mediaType"], "digest": subject["digest"], "size": subject["size"],
        },
    })
    .to_string()
    .into_bytes()
}

/// The config and manifest of an image whose layers are tars.
pub fn image(layers: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
    image_for("amd64", layers)
}

/// The same for an architecture.
pub fn image_for(architecture: &str, layers: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
    let diff_ids: Vec<String> = layers.iter().map(|layer| sha256(layer)).collect();
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = config.to_string().into_bytes();
    let kind = "application/vnd.oci.image.layer.v1.tar";
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers.iter().map(|layer| descriptor(kind, layer)).collect::<Vec<_>>(),
    });
    (config, manifest.to_string().into_bytes())
}

/// A tar with one file.
pub fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    let mut put =
        |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000001\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = header.to_vec();
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    tar
}

/// A descriptor of some bytes.
pub fn descriptor(media_type: &str, bytes: &[u8]) -> serde_json::Value {
    serde_json::json!({
        "mediaType": media_type, "digest": sha256(bytes), "size": bytes.len(),
    })
}

/// The location of an upload with the digest that closes it.
pub fn closing(location: &str, digest: &str) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}digest={digest}")
}

/// Bytes without a pattern that are always the same for a seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn serve(root: &Path, args: &[&str]) -> (Child, SocketAddr) {
    let mut child = Command::new(program("dhow"))
        .arg("--root")
        .arg(root)
        .args(["registry", "serve", "--addr", "127.0.0.1:0"])
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .expect("start dhow");
    let mut line = String::new();
    let output = child.stdout.as_mut().expect("its output");
    BufReader::new(output).read_line(&mut line).expect("a line");
    let address = line.trim_end().strip_prefix("listening at ");
    let address = address.unwrap_or_else(|| panic!("it says {line:?}"));
    (child, address.parse().expect("an address"))
}

/// Where Debian's registry says that it listens.
fn listening(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once("listening on ")?;
    let (address, _) = rest.split_once(['"', ','])?;
    address.parse().ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = String::from_utf8_lossy(&rest[..end]);
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
        if size == 0 {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    body
}
