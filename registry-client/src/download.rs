//! One blob from a registry into a sink, resumed where the connection broke.

use std::io::{self, Read as _};

use dhow_image::{
    Begun, BlobSink, BlobWriter, Descriptor, Digest, Progress, TransferError, TransferErrorKind,
    Want,
};
use ureq::Body;
use ureq::http::{Method, Response, StatusCode, header};

use crate::endpoint::is_loopback_url;
use crate::parallel::Stop;
use crate::push::is_foreign;
use crate::refusal::refused;
use crate::repository::{ATTEMPTS, Ask, Repository, drain, text};

/// How much is handed to the sink at once.
const PIECE: usize = 256 << 10;

/// A blob on its way.
pub(crate) struct Download<'a> {
    pub(crate) repository: &'a Repository<'a>,
    pub(crate) descriptor: &'a Descriptor,
    pub(crate) want: &'a Want,
    pub(crate) part: &'a str,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) stop: &'a Stop,
}

/// How a blob came to be in the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// It was there.
    Present,
    /// It came.
    Came,
}

/// How one attempt ended.
enum Outcome {
    Complete,
    /// The connection broke, with this error.
    Broken(io::Error),
}

impl Download<'_> {
    /// Brings the blob into the sink, if the sink lacks it.
    pub(crate) fn run(&self, sink: &dyn BlobSink) -> Result<Fetched, TransferError> {
        let mut writer = match sink.begin(self.descriptor, self.want)? {
            Begun::Present => {
                self.progress.end(self.part, "already there");
                return Ok(Fetched::Present);
            }
            Begun::Write(writer) => writer,
        };
        self.progress
            .begin(self.part, "pulling", Some(self.descriptor.size()));
        let resumed = writer.offset() > 0;
        self.fill(writer.as_mut())?;
        match writer.commit() {
            // The beginning that lay here was what did not fit: once more, from zero.
            Err(error) if resumed && error.kind() == TransferErrorKind::Corrupt => {
                match sink.begin(self.descriptor, self.want)? {
                    Begun::Present => {}
                    Begun::Write(mut writer) => {
                        self.restart(writer.as_mut())?;
                        self.fill(writer.as_mut())?;
                        writer.commit()?;
                    }
                }
            }
            other => other?,
        }
        self.progress.end(self.part, "pulled");
        Ok(Fetched::Came)
    }

    /// Writes all bytes of the blob that the writer lacks.
    fn fill(&self, writer: &mut dyn BlobWriter) -> Result<(), TransferError> {
        let size = self.descriptor.size();
        if writer.offset() > size {
            self.restart(writer)?;
        }
        self.progress.resumed(self.part, writer.offset());
        let mut fruitless = 0;
        while writer.offset() < size || (size == 0 && fruitless == 0) {
            self.stop.check()?;
            let before = writer.offset();
            match self.attempt(writer)? {
                Outcome::Complete => return Ok(()),
                Outcome::Broken(error) => {
                    fruitless = match writer.offset() > before {
                        true => 0,
                        false => fruitless + 1,
                    };
                    if fruitless == ATTEMPTS {
                        let message = format!(
                            "the registry {} broke off {} after {} of {size} bytes, {ATTEMPTS} times; try again later",
                            self.repository.registry(),
                            self.descriptor.digest(),
                            writer.offset(),
                        );
                        let kind = TransferErrorKind::Unreachable;
                        return Err(TransferError::caused(kind, message, error));
                    }
                    std::thread::sleep(std::time::Duration::from_millis(100 << fruitless));
                }
            }
        }
        Ok(())
    }

    fn attempt(&self, writer: &mut dyn BlobWriter) -> Result<Outcome, TransferError> {
        let digest = self.descriptor.digest();
        let offset = writer.offset();
        let response = self.request(offset)?;
        match response.status() {
            StatusCode::OK => {
                if offset > 0 {
                    self.restart(writer)?;
                }
            }
            StatusCode::PARTIAL_CONTENT => {
                let range = text(&response, header::CONTENT_RANGE).unwrap_or_default();
                if !range.starts_with(&format!("bytes {offset}-")) {
                    return Err(self.corrupt(format!("answers with the range {range:?} where the bytes from {offset} were asked for")));
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE if offset > 0 => {
                // What we have cannot be the beginning of what the registry has.
                drain(response);
                self.restart(writer)?;
                return Ok(Outcome::Broken(io::ErrorKind::InvalidInput.into()));
            }
            _ => {
                let what = format!("{digest} of {}", self.repository.title());
                return Err(refused("pulling", &what, response));
            }
        }
        self.copy(response, writer)
    }

    /// Asks the registry for the blob from an offset on; where it does not have a layer that is not to be distributed, the addresses
    /// that the layer's maker names.
    fn request(&self, offset: u64) -> Result<Response<Body>, TransferError> {
        let digest = self.descriptor.digest();
        let own = self.repository.url(&format!("blobs/{digest}"));
        let mut addresses = vec![own];
        if is_foreign(self.descriptor) {
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

    fn copy(
        &self,
        response: Response<Body>,
        writer: &mut dyn BlobWriter,
    ) -> Result<Outcome, TransferError> {
        let size = self.descriptor.size();
        let mut left = size - writer.offset();
        let announced = text(&response, header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
        if announced.is_some_and(|announced: u64| announced != left) {
            return Err(self.corrupt(format!(
                "announces {} bytes where {left} should come",
                announced.unwrap_or_default()
            )));
        }
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; PIECE];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) if left == 0 => return Ok(Outcome::Complete),
                Ok(0) => return Ok(Outcome::Broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Outcome::Broken(error)),
            };
            if count as u64 > left {
                return Err(self.corrupt(format!("sends more than the {size} bytes that it has")));
            }
            writer
                .write_all(&buffer[..count])
                .map_err(|error| self.unkept(error))?;
            left -= count as u64;
            self.repository.moved(count as u64);
            self.progress.advance(self.part, count as u64);
            self.stop.check()?;
        }
    }

    fn restart(&self, writer: &mut dyn BlobWriter) -> Result<(), TransferError> {
        writer.restart().map_err(|error| self.unkept(error))
    }

    fn unkept(&self, error: io::Error) -> TransferError {
        // A store that found the content wrong while it came says so with a kind of its own.
        let kind = match error.kind() {
            io::ErrorKind::InvalidData => TransferErrorKind::Corrupt,
            _ => TransferErrorKind::Other,
        };
        let message = format!("keeping {}", self.descriptor.digest());
        TransferError::caused(kind, message, error)
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

/// Reads a small blob into memory, checked.
pub(crate) fn fetch(
    repository: &Repository<'_>,
    descriptor: &Descriptor,
) -> Result<Vec<u8>, TransferError> {
    let memory = Memory::default();
    let stop = Stop::default();
    let download = Download {
        repository,
        descriptor,
        want: &Want::Blob,
        part: "config",
        progress: &dhow_image::Silent,
        stop: &stop,
    };
    if descriptor.size() > crate::manifest::LARGEST {
        return Err(download.corrupt(format!(
            "names a document of {} bytes, which is too large",
            descriptor.size()
        )));
    }
    let mut writer = memory;
    download.fill(&mut writer)?;
    let digest = Digest::of_descriptor(descriptor).map_err(|error| {
        TransferError::caused(TransferErrorKind::Other, "reading a descriptor", error)
    })?;
    crate::manifest::check(&writer.0, &digest, || {
        format!("a document of {}", repository.title())
    })?;
    Ok(writer.0)
}

/// Writes a blob as it comes, whatever its digest is; whether there is one.
pub(crate) fn copy(
    repository: &Repository<'_>,
    digest: &Digest,
    into: &mut dyn io::Write,
) -> Result<bool, TransferError> {
    let doing = format!("pulling {digest}");
    let url = repository.url(&format!("blobs/{digest}"));
    let response = repository.send(&Ask::new(Method::GET, url, doing.clone()))?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => {
            drain(response);
            return Ok(false);
        }
        _ => {
            let what = format!("{digest} of {}", repository.title());
            return Err(refused("pulling", &what, response));
        }
    }
    let announced: Option<u64> =
        text(&response, header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
    let mut body = response.into_body().into_reader();
    let count = io::copy(&mut body, into).map_err(|error| {
        TransferError::caused(TransferErrorKind::Unreachable, doing.clone(), error)
    })?;
    repository.moved(count);
    match announced {
        Some(announced) if announced != count => Err(TransferError::new(
            TransferErrorKind::Unreachable,
            format!("{doing}: {count} of {announced} bytes came"),
        )),
        _ => Ok(true),
    }
}

/// Keeps a document's bytes.
#[derive(Default)]
struct Memory(Vec<u8>);

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for Memory {
    fn offset(&self) -> u64 {
        self.0.len() as u64
    }

    fn restart(&mut self) -> io::Result<()> {
        self.0.clear();
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), TransferError> {
        Ok(())
    }
}
