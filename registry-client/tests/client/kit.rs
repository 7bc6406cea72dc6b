//! What the client's tests share: blobs in memory as source and sink, an embedded registry, and a registry that answers what it is told to.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::JoinHandle;

use dhow_image::{
    Begun, BlobBody, BlobLocations, BlobSink, BlobSource, BlobWriter, Descriptor, Digest,
    ImageReference, Platform, TransferError, TransferErrorKind, Want,
};
use dhow_registry_client::{Client, ClientOptions, Credentials, Wanted};
use dhow_registry_server::{Server, ServerOptions};
use oci_spec::image::MediaType;

/// Blobs in memory.
#[derive(Default)]
pub(crate) struct Blobs {
    whole: Mutex<HashMap<String, Vec<u8>>>,
    parts: Mutex<HashMap<String, Vec<u8>>>,
    /// What was begun, in order.
    pub(crate) begun: Mutex<Vec<(String, Want)>>,
}

impl Blobs {
    pub(crate) fn put(&self, media_type: MediaType, bytes: &[u8]) -> Descriptor {
        let digest = Digest::of(bytes);
        self.whole
            .lock()
            .unwrap()
            .insert(digest.to_string(), bytes.to_vec());
        Descriptor::new(media_type, bytes.len() as u64, digest)
    }

    pub(crate) fn get(&self, descriptor: &Descriptor) -> Option<Vec<u8>> {
        self.whole
            .lock()
            .unwrap()
            .get(descriptor.digest().as_ref())
            .cloned()
    }

    /// Leaves the beginning of a blob behind, as a pull that was killed does.
    pub(crate) fn leave_part(&self, descriptor: &Descriptor, bytes: &[u8]) {
        self.parts
            .lock()
            .unwrap()
            .insert(descriptor.digest().to_string(), bytes.to_vec());
    }

    pub(crate) fn count(&self) -> usize {
        self.whole.lock().unwrap().len()
    }

    /// An image whose layers are these bytes; its manifest.
    pub(crate) fn image(&self, layers: &[Vec<u8>]) -> Descriptor {
        let diff_ids: Vec<String> = layers.iter().map(|l| Digest::of(l).to_string()).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.put(MediaType::ImageConfig, config.to_string().as_bytes());
        let layers: Vec<Descriptor> = layers
            .iter()
            .map(|layer| self.put(MediaType::ImageLayer, layer))
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": layers,
        });
        self.put(MediaType::ImageManifest, manifest.to_string().as_bytes())
    }
}

/// The size of an image's config as a header has it.
pub(crate) fn config_size(blobs: &Blobs, manifest: &Descriptor) -> String {
    let bytes = blobs.get(manifest).unwrap();
    let manifest: oci_spec::image::ImageManifest = serde_json::from_slice(&bytes).unwrap();
    manifest.config().size().to_string()
}

impl BlobSource for Blobs {
    fn open(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobBody<'_>, TransferError> {
        let bytes = self.get(descriptor).ok_or_else(|| {
            TransferError::new(
                TransferErrorKind::NotFound,
                format!("no {}", descriptor.digest()),
            )
        })?;
        let rest = bytes[offset as usize..].to_vec();
        Ok(BlobBody {
            reader: Box::new(io::Cursor::new(rest)),
            offset,
        })
    }
}

impl BlobSink for Blobs {
    fn begin(&self, descriptor: &Descriptor, want: &Want) -> Result<Begun<'_>, TransferError> {
        let digest = descriptor.digest().to_string();
        self.begun
            .lock()
            .unwrap()
            .push((digest.clone(), want.clone()));
        if self.get(descriptor).is_some() {
            return Ok(Begun::Present);
        }
        let part = self
            .parts
            .lock()
            .unwrap()
            .remove(&digest)
            .unwrap_or_default();
        Ok(Begun::Write(Box::new(Writer {
            blobs: self,
            descriptor: descriptor.clone(),
            bytes: part,
            kept: true,
        })))
    }
}

struct Writer<'a> {
    blobs: &'a Blobs,
    descriptor: Descriptor,
    bytes: Vec<u8>,
    kept: bool,
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for Writer<'_> {
    fn offset(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn restart(&mut self) -> io::Result<()> {
        self.bytes.clear();
        Ok(())
    }

    fn commit(mut self: Box<Self>) -> Result<(), TransferError> {
        self.kept = false;
        let bytes = std::mem::take(&mut self.bytes);
        if Digest::of(&bytes).to_string() != self.descriptor.digest().to_string() {
            let message = format!("{} has another digest", self.descriptor.digest());
            return Err(TransferError::new(TransferErrorKind::Corrupt, message));
        }
        self.blobs.put(self.descriptor.media_type().clone(), &bytes);
        Ok(())
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if self.kept && !self.bytes.is_empty() {
            self.blobs.leave_part(&self.descriptor, &self.bytes);
        }
    }
}

/// What is known of where blobs are.
#[derive(Default)]
pub(crate) struct Known(Mutex<Vec<(String, String, String)>>);

impl BlobLocations for Known {
    fn repositories(&self, registry: &str, digest: &Digest) -> Vec<String> {
        let known = self.0.lock().unwrap();
        let fitting = known
            .iter()
            .rev()
            .filter(|(r, _, d)| r == registry && *d == digest.to_string());
        fitting
            .map(|(_, repository, _)| repository.clone())
            .collect()
    }

    fn note(&self, registry: &str, repository: &str, digest: &Digest) {
        let entry = (
            registry.to_owned(),
            repository.to_owned(),
            digest.to_string(),
        );
        self.0.lock().unwrap().push(entry);
    }
}

/// What the tests pull: the images that they make are for one platform.
pub(crate) fn wanted() -> Wanted<'static> {
    static PLATFORM: LazyLock<Platform> = LazyLock::new(|| "linux/amd64".parse().unwrap());
    Wanted {
        platform: &PLATFORM,
        all_platforms: false,
    }
}

/// A client that knows no passwords but these.
pub(crate) fn client(credentials: Credentials) -> Client {
    Client::new(ClientOptions {
        credentials,
        ..ClientOptions::default()
    })
}

pub(crate) fn anonymous() -> Client {
    client(Credentials::Anonymous)
}

/// The name of an image at an address.
pub(crate) fn name(address: SocketAddr, rest: &str) -> ImageReference {
    format!("{address}/{rest}").parse().unwrap()
}

/// The embedded registry in this process.
pub(crate) struct Embedded {
    pub(crate) address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Embedded {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = ServerOptions {
            root: dir.path().to_owned(),
            ..ServerOptions::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let stop = async {
                    let _ = stopped.await;
                };
                Server::open(&options)
                    .unwrap()
                    .serve(listener, stop)
                    .await
                    .unwrap();
            });
        });
        Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
            _dir: dir,
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.stop.take());
        // The client's idle connections would hold it up; the process ends it.
        drop(self.thread.take());
    }
}

/// A request as a scripted registry sees it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// Answers each request as a closure says, over a connection of its own.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
    over: Arc<AtomicBool>,
}

impl Scripted {
    pub(crate) fn start(answer: impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let (seen, ended) = (Arc::clone(&requests), Arc::clone(&over));
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    if let Some(request) = read(&mut stream) {
                        seen.lock().unwrap().push(request.clone());
                        answer(&request, &mut stream);
                    }
                });
            }
        });
        Self {
            address,
            requests,
            over,
        }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

pub(crate) fn read(stream: &mut impl Read) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|l| l.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        path,
        headers,
        body,
    })
}

/// Writes an answer. What the other side no longer wants to hear is no fault.
pub(crate) fn respond(stream: &mut impl Write, status: u16, headers: &[(&str, &str)], body: &[u8]) {
    let mut head = format!("HTTP/1.1 {status} Status\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Content-Length") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    let _ = stream.write_all(body);
}

/// Serves an image that is in memory, as an honest registry without ranges.
pub(crate) fn serve_image(
    blobs: &Blobs,
    manifest: &Descriptor,
    request: &Request,
    stream: &mut TcpStream,
) {
    let last = request.path.rsplit('/').next().unwrap();
    if request.path.contains("/manifests/") {
        let kind = [("Content-Type", "application/vnd.oci.image.manifest.v1+json")];
        return respond(stream, 200, &kind, &blobs.get(manifest).unwrap());
    }
    let descriptor = Descriptor::new(MediaType::ImageLayer, 0, last.parse::<Digest>().unwrap());
    match blobs.get(&descriptor) {
        Some(bytes) => respond(stream, 200, &[], &bytes),
        None => respond(stream, 404, &[], b""),
    }
}
