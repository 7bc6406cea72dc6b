//! The body of an answer, read no longer than a registry deserves patience and no further than memory allows.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use dhow_image::{TransferError, TransferErrorKind};
use ureq::http::Response;
use ureq::{Body, BodyReader};

use crate::manifest::LARGEST;

/// How long a registry is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Over this time it has to send or take at least as many bytes as `least`, or the connection is given up.
    pub window: Duration,
    /// So many bytes.
    pub least: u64,
    /// How long one read or write may take.
    pub stall: Duration,
    /// The longest pause that it can make us take before another attempt.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(30),
            least: 30 << 10,
            stall: Duration::from_secs(60),
            pause: Duration::from_secs(30),
        }
    }
}

impl Patience {
    /// The patience with who sent this answer.
    pub(crate) fn with(response: &Response<Body>) -> Self {
        let noted = response.extensions().get::<Self>();
        noted.copied().unwrap_or_default()
    }
}

/// Finds out whether the other side is too slow.
#[derive(Debug)]
pub(crate) struct Pace {
    patience: Patience,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    pub(crate) fn new(patience: Patience) -> Self {
        Self {
            patience,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Takes note of what moved while the other side was waited for; an error where that was too little for too long. Time that we
    /// needed ourselves does not count.
    pub(crate) fn note(&mut self, waited: Duration, bytes: u64) -> io::Result<()> {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < self.patience.window {
            return Ok(());
        }
        let windows = self.waited.as_secs_f64() / self.patience.window.as_secs_f64();
        // As floats, since only their proportion matters.
        if (self.bytes as f64) < self.patience.least as f64 * windows {
            let (bytes, seconds) = (self.bytes, self.waited.as_secs_f64());
            let message = format!("it is too slow: {bytes} bytes in {seconds:.0} seconds");
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        *self = Self::new(self.patience);
        Ok(())
    }
}

/// Reads a body as long as enough of it comes.
pub(crate) struct Paced {
    reader: BodyReader<'static>,
    pace: Pace,
    /// Too little has come before.
    slow: Option<io::Error>,
}

impl Read for Paced {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let began = Instant::now();
        let count = self.reader.read(buffer)?;
        // What has come to its end was fast enough.
        match self.slow.take() {
            Some(error) if count > 0 => return Err(error),
            _ => self.slow = self.pace.note(began.elapsed(), count as u64).err(),
        }
        Ok(count)
    }
}

/// The body of an answer.
pub(crate) fn paced(response: Response<Body>) -> Paced {
    let pace = Pace::new(Patience::with(&response));
    Paced {
        reader: response.into_body().into_reader(),
        pace,
        slow: None,
    }
}

/// A whole document.
pub(crate) fn document(response: Response<Body>, doing: &str) -> Result<Vec<u8>, TransferError> {
    let mut bytes = Vec::new();
    let mut body = paced(response).take(LARGEST + 1);
    body.read_to_end(&mut bytes)
        .map_err(|error| TransferError::caused(TransferErrorKind::Unreachable, doing, error))?;
    if bytes.len() as u64 > LARGEST {
        return Err(TransferError::new(
            TransferErrorKind::Corrupt,
            format!("{doing}: the answer is larger than {LARGEST} bytes"),
        ));
    }
    Ok(bytes)
}
