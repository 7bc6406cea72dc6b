//! One blob from a source into a registry: found there, mounted from another repository, or sent whole or in chunks.

use std::io::{self, Read};

use dhow_image::{
    BlobLocations, BlobSource, Descriptor, Digest, Progress, Reported, TransferError,
    TransferErrorKind,
};
use ureq::Body;
use ureq::http::{HeaderName, Method, Response, StatusCode, header};

use crate::auth::encoded;
use crate::push::BlobOutcome;
use crate::refusal::{is_transient, refused};
use crate::repository::{ATTEMPTS, Ask, Repository, drain, pause, text};
use crate::standing::is_unsupported;
use crate::transport::Payload;

/// How many repositories are tried for a mount.
const MOUNTS: usize = 2;
/// The size of a chunk where the registry does not take a blob whole.
const CHUNK: u64 = 8 << 20;

const OCTETS: &str = "application/octet-stream";
const CHUNK_MIN: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// A blob on its way.
pub(crate) struct Upload<'a> {
    pub(crate) repository: &'a Repository<'a>,
    pub(crate) descriptor: &'a Descriptor,
    pub(crate) digest: &'a Digest,
    /// A document in the repository names it, so that it is believed to be there and not asked for.
    pub(crate) is_known: bool,
    pub(crate) source: &'a dyn BlobSource,
    pub(crate) locations: &'a dyn BlobLocations,
    pub(crate) part: &'a str,
    pub(crate) progress: &'a dyn Progress,
    /// Send chunks of this size rather than the whole.
    pub(crate) chunk: Option<u64>,
}

/// How one attempt to send ended, other than by success or a lasting error.
enum Retry {
    /// After a pause.
    Later(TransferError, Option<std::time::Duration>),
    /// In chunks, since the whole is too much for the registry.
    InChunks,
    Never(TransferError),
}

impl From<TransferError> for Retry {
    fn from(error: TransferError) -> Self {
        match error.kind() {
            // A registry that nobody answers for now has been waited for already.
            TransferErrorKind::Unreachable => Self::Later(error, None),
            _ => Self::Never(error),
        }
    }
}

impl Upload<'_> {
    /// Sees to it that the repository has the blob.
    pub(crate) fn run(&self) -> Result<BlobOutcome, TransferError> {
        let outcome = self.deliver()?;
        // A view of a store has it only as long as that store has it, and what was not asked for it may have lost: whoever drops a
        // copy since it is noted here must find it here.
        if !self.is_known && !self.repository.is_view() {
            self.locations.note(
                self.repository.registry(),
                self.repository.name(),
                self.digest,
            );
        }
        let said = match &outcome {
            BlobOutcome::Pushed => "pushed".to_owned(),
            BlobOutcome::AlreadyThere => "already there".to_owned(),
            BlobOutcome::Mounted(from) => format!("mounted from {from}"),
        };
        self.progress.end(self.part, &said);
        Ok(outcome)
    }

    fn deliver(&self) -> Result<BlobOutcome, TransferError> {
        if self.is_known || self.is_there()? {
            return Ok(BlobOutcome::AlreadyThere);
        }
        let known = self
            .locations
            .repositories(self.repository.registry(), self.digest);
        let mut session = None;
        for from in known
            .iter()
            .filter(|from| *from != self.repository.name())
            .take(MOUNTS)
        {
            if let Some(location) = session.take() {
                self.cancel(location);
            }
            match self.mount(from)? {
                None => return Ok(BlobOutcome::Mounted(from.clone())),
                Some(location) => session = location,
            }
        }
        self.send(session)?;
        Ok(BlobOutcome::Pushed)
    }

    fn doing(&self) -> String {
        format!("pushing {} to {}", self.digest, self.repository.title())
    }

    fn refused(&self, response: Response<Body>) -> TransferError {
        let what = format!("{} to {}", self.digest, self.repository.title());
        refused("pushing", &what, response)
    }

    fn is_there(&self) -> Result<bool, TransferError> {
        let url = self.repository.url(&format!("blobs/{}", self.digest));
        let response = self
            .repository
            .send(&Ask::new(Method::HEAD, url, self.doing()))?;
        match response.status() {
            StatusCode::OK => {
                let size = text(&response, header::CONTENT_LENGTH);
                let size: Option<u64> = size.and_then(|size| size.parse().ok());
                match size {
                    Some(size) if size != self.descriptor.size() => Err(TransferError::new(
                        TransferErrorKind::Corrupt,
                        format!(
                            "the registry has {size} bytes under {}, which should be {}",
                            self.digest,
                            self.descriptor.size()
                        ),
                    )),
                    _ => Ok(true),
                }
            }
            // Who cannot be asked is sent it.
            status if status == StatusCode::NOT_FOUND || is_unsupported(status) => Ok(false),
            _ => Err(self.refused(response)),
        }
    }

    /// None when the registry has mounted the blob, else the upload that it began instead, if any.
    fn mount(&self, from: &str) -> Result<Option<Option<String>>, TransferError> {
        let query = format!(
            "blobs/uploads/?mount={}&from={}",
            encoded(&self.digest.to_string()),
            encoded(from)
        );
        let url = self.repository.url(&query);
        let mut ask = Ask::new(Method::POST, url, self.doing()).payload(Payload::Bytes(&[]));
        ask.from = Some(from);
        let response = self.repository.send(&ask)?;
        match response.status() {
            StatusCode::CREATED => {
                drain(response);
                Ok(None)
            }
            StatusCode::ACCEPTED => {
                let location = self.repository.location(&response, &ask.url, &ask.doing)?;
                drain(response);
                Ok(Some(Some(location)))
            }
            // Who may not read there simply sends the blob.
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                drain(response);
                Ok(Some(None))
            }
            _ => Err(self.refused(response)),
        }
    }

    fn send(&self, mut session: Option<String>) -> Result<(), TransferError> {
        let mut chunk = self.chunk;
        let mut attempt = 1;
        loop {
            self.progress
                .begin(self.part, "pushing", Some(self.descriptor.size()));
            let sent = match chunk {
                Some(chunk) => self.send_chunks(session.take(), chunk),
                None => self.send_whole(session.take()),
            };
            match sent {
                Ok(()) => return Ok(()),
                Err(Retry::InChunks) if chunk.is_none() => chunk = Some(CHUNK),
                Err(Retry::InChunks) => {
                    return Err(TransferError::new(
                        TransferErrorKind::Other,
                        format!("{}: the registry finds it too large", self.doing()),
                    ));
                }
                Err(Retry::Never(error)) => return Err(error),
                Err(Retry::Later(error, _)) if attempt == ATTEMPTS => return Err(error),
                Err(Retry::Later(_, asked)) => {
                    let own = std::time::Duration::from_millis(100 << attempt);
                    std::thread::sleep(asked.unwrap_or(own));
                    attempt += 1;
                }
            }
        }
    }

    /// Begins an upload: where it goes on, and the smallest chunk that the registry takes.
    fn begin(&self) -> Result<(String, u64), TransferError> {
        let mut query = "blobs/uploads/".to_owned();
        if self.digest.algorithm() != dhow_image::Algorithm::Sha256 {
            query = format!(
                "{query}?digest-algorithm={}",
                self.digest.algorithm().name()
            );
        }
        let ask = Ask::new(Method::POST, self.repository.url(&query), self.doing())
            .payload(Payload::Bytes(&[]));
        let response = self.repository.send(&ask)?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(self.refused(response));
        }
        let location = self.repository.location(&response, &ask.url, &ask.doing)?;
        let least = text(&response, CHUNK_MIN).and_then(|least| least.parse().ok());
        drain(response);
        Ok((location, least.unwrap_or(0)))
    }

    fn send_whole(&self, session: Option<String>) -> Result<(), Retry> {
        let location = match session {
            Some(location) => location,
            None => self.begin()?.0,
        };
        let size = self.descriptor.size();
        let open = || self.open(0);
        let mut ask = Ask::new(Method::PUT, self.closing(&location), self.doing())
            .header(header::CONTENT_TYPE, OCTETS)
            .payload(Payload::Stream(&open, size));
        ask.again = false;
        let response = self.repository.send(&ask)?;
        match response.status() {
            StatusCode::CREATED => {
                self.repository.moved(size);
                drain(response);
                Ok(())
            }
            status => {
                let failed = match status {
                    StatusCode::PAYLOAD_TOO_LARGE => Retry::InChunks,
                    _ => self.failed(response),
                };
                // The next attempt begins anew, so that what has come is of no use.
                self.cancel(location);
                Err(failed)
            }
        }
    }

    fn send_chunks(&self, session: Option<String>, chunk: u64) -> Result<(), Retry> {
        let (mut location, least) = match session {
            Some(location) => (location, 0),
            None => self.begin()?,
        };
        let chunk = chunk.max(least).max(1);
        let size = self.descriptor.size();
        // Only a fresh chunk is read from the one reader; what is sent again is opened again.
        let mut offset = 0;
        while offset < size {
            let length = chunk.min(size - offset);
            let open = || self.open(offset);
            let mut ask = Ask::new(Method::PATCH, location.clone(), self.doing())
                .header(header::CONTENT_TYPE, OCTETS)
                .header(
                    header::CONTENT_RANGE,
                    format!("{offset}-{}", offset + length - 1),
                )
                .payload(Payload::Stream(&open, length));
            ask.again = false;
            let response = self.repository.send(&ask)?;
            match response.status() {
                StatusCode::ACCEPTED => {
                    location = self.repository.location(&response, &location, &ask.doing)?;
                    drain(response);
                }
                _ => return Err(self.failed(response)),
            }
            offset += length;
            self.repository.moved(length);
        }
        let mut ask = Ask::new(Method::PUT, self.closing(&location), self.doing())
            .payload(Payload::Bytes(&[]));
        ask.again = false;
        let response = self.repository.send(&ask)?;
        match response.status() {
            StatusCode::CREATED => {
                drain(response);
                Ok(())
            }
            _ => Err(self.failed(response)),
        }
    }

    /// What an answer that is no success means for another attempt. An upload that is gone or in disorder is begun anew.
    fn failed(&self, response: Response<Body>) -> Retry {
        let status = response.status();
        let asked = Some(pause(1, &response)).filter(|_| is_transient(status));
        let again = is_transient(status)
            || matches!(
                status,
                StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE
            );
        let error = self.refused(response);
        match again {
            true => Retry::Later(error, asked),
            false => Retry::Never(error),
        }
    }

    /// Gives an upload up that is not needed; it would be forgotten anyway.
    fn cancel(&self, location: String) {
        let mut ask = Ask::new(Method::DELETE, location, self.doing());
        ask.again = false;
        if let Ok(response) = self.repository.send(&ask) {
            drain(response);
        }
    }

    fn closing(&self, location: &str) -> String {
        let separator = if location.contains('?') { '&' } else { '?' };
        format!(
            "{location}{separator}digest={}",
            encoded(&self.digest.to_string())
        )
    }

    /// Opens the blob at an offset.
    fn open(&self, offset: u64) -> Result<Box<dyn Read + Send + '_>, TransferError> {
        let mut body = self.source.open(self.descriptor, offset)?;
        let mut skip = offset.saturating_sub(body.offset);
        if skip > 0 {
            skip -= io::copy(&mut body.reader.by_ref().take(skip), &mut io::sink()).map_err(
                |error| {
                    let message = format!("reading {}", self.digest);
                    TransferError::caused(TransferErrorKind::Other, message, error)
                },
            )?;
        }
        if skip > 0 || body.offset > offset {
            return Err(TransferError::new(
                TransferErrorKind::Corrupt,
                format!("{} cannot be read from {offset} on", self.digest),
            ));
        }
        Ok(Box::new(Reported::new(
            body.reader,
            self.part,
            self.progress,
        )))
    }
}
