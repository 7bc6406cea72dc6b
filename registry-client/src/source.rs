//! A repository as a source of blobs and manifests: it goes on by itself where the connection broke.

use std::io::{self, Cursor, Read};
use std::time::Duration;

use dhow_image::{
    BlobBody, BlobLocations, BlobSource, Descriptor, Digest, DocumentKind, ImageReference,
    TransferError, TransferErrorKind, is_nondistributable,
};
use ureq::Body;
use ureq::http::{Method, Response, StatusCode, header};

use crate::body::{Paced, paced};
use crate::endpoint::is_loopback_url;
use crate::manifest::{self, Resolved};
use crate::refusal::refused;
use crate::repository::{ATTEMPTS, Ask, Repository, drain, text};

/// A connection that brought so much was not in vain.
const FRUITFUL: u64 = 64 << 10;

/// What one repository has.
pub(crate) struct FromRepository<'a> {
    pub(crate) repository: &'a Repository<'a>,
    pub(crate) reference: &'a ImageReference,
}

impl BlobSource for FromRepository<'_> {
    fn open(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobBody<'_>, TransferError> {
        open(self.repository, self.reference, descriptor, offset)
    }
}

/// An image in a registry, to be copied from there: what each of the places has that the reference is asked for at. It also knows from
/// which repository another one of the same registry can mount.
pub struct RegistrySource<'a> {
    pub(crate) repositories: Vec<Repository<'a>>,
    pub(crate) reference: ImageReference,
    pub(crate) resolved: Resolved,
}

impl RegistrySource<'_> {
    /// What the reference stands for.
    pub fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    /// The bytes that came and the requests that were made.
    pub fn traffic(&self) -> (u64, u64) {
        let start = (self.resolved.bytes.len() as u64, self.resolved.requests);
        let each = self.repositories.iter().map(Repository::traffic);
        each.fold(start, |(bytes, requests), more| {
            (bytes + more.0, requests + more.1)
        })
    }
}

impl BlobSource for RegistrySource<'_> {
    fn open(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobBody<'_>, TransferError> {
        if descriptor.digest() == self.resolved.descriptor.digest() {
            return Ok(BlobBody {
                reader: Box::new(Cursor::new(self.resolved.bytes.as_slice())),
                offset: 0,
            });
        }
        let mut failure = None;
        for repository in &self.repositories {
            match open(repository, &self.reference, descriptor, offset) {
                Ok(body) => return Ok(body),
                // The registry's own answer counts, which is asked last.
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| {
            let message = format!("there is no place to ask for {}", descriptor.digest());
            TransferError::new(TransferErrorKind::NotFound, message)
        }))
    }
}

impl BlobLocations for RegistrySource<'_> {
    fn repositories(&self, registry: &str, _digest: &Digest) -> Vec<String> {
        let here = self.repositories.iter();
        here.filter(|repository| repository.registry() == registry)
            .map(|repository| repository.name().to_owned())
            .collect()
    }

    fn note(&self, _registry: &str, _repository: &str, _digest: &Digest) {}
}

fn open<'a>(
    repository: &'a Repository<'a>,
    reference: &ImageReference,
    descriptor: &Descriptor,
    offset: u64,
) -> Result<BlobBody<'a>, TransferError> {
    if let Some(kind) = DocumentKind::of(descriptor.media_type()) {
        let bytes = document(repository, reference, descriptor, kind)?;
        return Ok(BlobBody {
            reader: Box::new(Cursor::new(bytes)),
            offset: 0,
        });
    }
    let blob = Blob {
        repository,
        descriptor: descriptor.clone(),
    };
    let opened = blob.open(offset)?;
    let offset = opened.from;
    Ok(BlobBody {
        reader: Box::new(Resuming {
            blob,
            opened,
            at: offset,
            opened_at: offset,
            fruitless: 0,
        }),
        offset,
    })
}

fn document(
    repository: &Repository<'_>,
    reference: &ImageReference,
    descriptor: &Descriptor,
    kind: DocumentKind,
) -> Result<Vec<u8>, TransferError> {
    let digest = manifest::digest_of(descriptor)?;
    let at = reference.at_digest(digest);
    let (found, bytes) = manifest::fetch(repository, &at)?;
    repository.moved(bytes.len() as u64);
    if DocumentKind::of(found.media_type()) == Some(kind) {
        return Ok(bytes);
    }
    Err(TransferError::new(
        TransferErrorKind::Corrupt,
        format!(
            "the index of {} names {} as {}, which it is not",
            reference.familiar(),
            at.manifest_name(),
            match kind {
                DocumentKind::Manifest => "a manifest",
                DocumentKind::Index => "an index",
            }
        ),
    ))
}

/// One blob of a repository.
struct Blob<'a> {
    repository: &'a Repository<'a>,
    descriptor: Descriptor,
}

/// A connection over which a blob comes.
struct Opened {
    reader: Paced,
    /// Where in the blob it begins.
    from: u64,
    /// How the registry says that it changed the bytes on the way.
    encoding: Option<String>,
}

impl Blob<'_> {
    /// The bytes from `offset` on, or from 0 where the registry does not give them in parts.
    fn open(&self, offset: u64) -> Result<Opened, TransferError> {
        let response = self.request(offset)?;
        let from = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT => {
                let range = text(&response, header::CONTENT_RANGE).unwrap_or_default();
                if !range.starts_with(&format!("bytes {offset}-")) {
                    return Err(self.corrupt(format!(
                        "answers with the range {range:?} where the bytes from {offset} were asked for"
                    )));
                }
                offset
            }
            StatusCode::RANGE_NOT_SATISFIABLE if offset > 0 => {
                // What was had of it cannot be the beginning of what the registry has.
                drain(response);
                return self.open(0);
            }
            _ => {
                let digest = self.descriptor.digest();
                let what = format!("{digest} of {}", self.repository.title());
                return Err(refused("pulling", &what, response));
            }
        };
        let left = self.descriptor.size().saturating_sub(from);
        let encoding = text(&response, header::CONTENT_ENCODING);
        let encoding = encoding.filter(|encoding| *encoding != "identity");
        let announced = text(&response, header::CONTENT_LENGTH);
        if let Some(announced) = announced
            .and_then(|text| text.parse::<u64>().ok())
            .filter(|announced| *announced != left)
        {
            let encoded = encoding.map_or_else(String::new, |how| format!(", encoded as {how:?}"));
            return Err(self.corrupt(format!(
                "announces {announced} bytes where {left} should come{encoded}"
            )));
        }
        Ok(Opened {
            encoding: encoding.map(str::to_owned),
            reader: paced(response),
            from,
        })
    }

    /// Asks the registry for the blob from an offset on; where it does not have a layer that is not to be distributed, the addresses
    /// that the layer's maker names.
    fn request(&self, offset: u64) -> Result<Response<Body>, TransferError> {
        let digest = self.descriptor.digest();
        let own = self.repository.url(&format!("blobs/{digest}"));
        let mut addresses = vec![own];
        if is_nondistributable(self.descriptor.media_type()) {
            let named = self.descriptor.urls().iter().flatten();
            // Who can change what is on the way can at least not see who asks for it.
            let safe = named.filter(|url| url.starts_with("https://") || is_loopback_url(url));
            addresses.extend(safe.cloned());
        }
        let last = addresses.len() - 1;
        for (at, url) in addresses.into_iter().enumerate() {
            let mut ask = Ask::new(Method::GET, url, format!("pulling {digest}"));
            if offset > 0 {
                ask = ask.header(header::RANGE, format!("bytes={offset}-"));
            }
            match self.repository.send(&ask) {
                Ok(response) if at < last && response.status().is_client_error() => drain(response),
                Err(_) if at > 0 && at < last => {}
                other => return other,
            }
        }
        Err(self.corrupt("names no address of it".to_owned()))
    }

    fn corrupt(&self, reason: String) -> TransferError {
        TransferError::new(
            TransferErrorKind::Corrupt,
            format!(
                "pulling {}: the registry {} {reason}",
                self.descriptor.digest(),
                self.repository.registry()
            ),
        )
    }
}

/// Reads a blob, over as many connections as it takes.
struct Resuming<'a> {
    blob: Blob<'a>,
    opened: Opened,
    /// Where in the blob the next byte is.
    at: u64,
    /// Where the connection at hand began.
    opened_at: u64,
    /// How many connections in a row gave next to nothing.
    fruitless: u32,
}

impl Resuming<'_> {
    /// Goes on over another connection.
    fn go_on(&mut self, error: io::Error) -> io::Result<()> {
        // Who sends a little at a time is not waited for until all has come.
        self.fruitless = match self.at >= self.opened_at.saturating_add(FRUITFUL) {
            true => 0,
            false => self.fruitless + 1,
        };
        if self.fruitless == ATTEMPTS {
            let message = format!(
                "the registry {} broke off {} after {} of {} bytes, {ATTEMPTS} times; try again later",
                self.blob.repository.registry(),
                self.blob.descriptor.digest(),
                self.at,
                self.blob.descriptor.size(),
            );
            let kind = TransferErrorKind::Unreachable;
            return Err(io::Error::other(TransferError::caused(
                kind, message, error,
            )));
        }
        std::thread::sleep(Duration::from_millis(100 << self.fruitless));
        let mut opened = self.blob.open(self.at).map_err(io::Error::other)?;
        self.opened_at = self.at;
        // What was read already is read past; a connection that breaks meanwhile gives nothing.
        if let Err(error) = skip(&mut opened.reader, self.at - opened.from) {
            return self.go_on(error);
        }
        self.opened = opened;
        Ok(())
    }
}

impl Read for Resuming<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let size = self.blob.descriptor.size();
        loop {
            let broken = match self.opened.reader.read(out) {
                Ok(0) if self.at == size || out.is_empty() => return Ok(0),
                // What was encoded on the way is not what the digest names, however often it comes.
                Ok(0) => match &self.opened.encoding {
                    Some(how) => {
                        let reason = format!("sends it encoded as {how:?}");
                        return Err(io::Error::other(self.blob.corrupt(reason)));
                    }
                    None => io::ErrorKind::UnexpectedEof.into(),
                },
                Ok(count) if self.at + count as u64 > size => {
                    let reason = format!("sends more than the {size} bytes that it has");
                    return Err(io::Error::other(self.blob.corrupt(reason)));
                }
                Ok(count) => {
                    self.at += count as u64;
                    self.blob.repository.moved(count as u64);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            self.go_on(broken)?;
        }
    }
}

fn skip(reader: &mut Paced, count: u64) -> io::Result<()> {
    match io::copy(&mut reader.take(count), &mut io::sink())? {
        passed if passed < count => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// The error that a source's reader gave, as what it was.
pub(crate) fn unwrapped(doing: impl Into<String>, error: io::Error) -> TransferError {
    match error.downcast::<TransferError>() {
        Ok(error) => error,
        Err(error) => TransferError::caused(TransferErrorKind::Corrupt, doing, error),
    }
}
