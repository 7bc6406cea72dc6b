//! One repository of a registry: requests with what they need around them, that is access, redirects, and patience.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dhow_image::{TransferError, TransferErrorKind, VIEW_HEADER};
use ureq::Body;
use ureq::http::{HeaderName, Method, Response, StatusCode, Version, header};

use crate::auth::{Authorizer, Purpose};
use crate::body::{Patience, paced};
use crate::challenge::Challenge;
use crate::endpoint::{Endpoint, resolve};
use crate::refusal::is_transient;
use crate::source::unwrapped;
use crate::transport::{Failure, Head, Payload, Transport};

/// How often one thing is tried.
pub(crate) const ATTEMPTS: u32 = 5;
/// How long the first pause is; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// How many redirects are followed.
const REDIRECTS: u32 = 5;

/// What we want to do in the repository.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    /// Read.
    Pull,
    /// Read and write.
    Push,
}

/// A repository that we speak with, and a count of what was said.
pub(crate) struct Repository<'a> {
    transport: &'a Transport,
    authorizer: &'a Authorizer,
    endpoint: Endpoint,
    name: String,
    scope: String,
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// A request.
pub(crate) struct Ask<'a> {
    /// The method.
    pub(crate) method: Method,
    /// The whole address.
    pub(crate) url: String,
    /// Headers of its own.
    pub(crate) headers: Vec<(HeaderName, String)>,
    /// The body.
    pub(crate) payload: Payload<'a>,
    /// What it does, for errors: `pushing sha256:...`.
    pub(crate) doing: String,
    /// Another repository that is to be read from.
    pub(crate) from: Option<&'a str>,
    /// Whether it goes as it is, without a proof of who we are.
    pub(crate) is_bare: bool,
    /// Whether it may simply be sent again when the connection breaks or the registry is busy.
    pub(crate) again: bool,
    /// Whether we do without the answer where the registry has had too many requests.
    pub(crate) is_optional: bool,
}

impl<'a> Ask<'a> {
    /// A request without a body, which may be sent again.
    pub(crate) fn new(method: Method, url: String, doing: impl Into<String>) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            payload: Payload::None,
            doing: doing.into(),
            from: None,
            is_bare: false,
            again: true,
            is_optional: false,
        }
    }

    /// The same with a header.
    pub(crate) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same with a body.
    pub(crate) fn payload(mut self, payload: Payload<'a>) -> Self {
        self.payload = payload;
        self
    }
}

impl<'a> Repository<'a> {
    pub(crate) fn new(
        transport: &'a Transport,
        authorizer: &'a Authorizer,
        endpoint: Endpoint,
        name: &str,
        access: Access,
    ) -> Self {
        let actions = match access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        Self {
            transport,
            authorizer,
            endpoint,
            scope: format!("repository:{name}:{actions}"),
            name: name.to_owned(),
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// The registry as references name it.
    pub(crate) fn registry(&self) -> &str {
        self.endpoint.registry()
    }

    /// The repository's name within its registry.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the registry has said that it is a view.
    pub(crate) fn is_view(&self) -> bool {
        self.transport.has_view(self.endpoint.authority())
    }

    /// The repository as people name it, for messages.
    pub(crate) fn title(&self) -> String {
        format!("{}/{}", self.registry(), self.name)
    }

    /// The address of something in the repository: `manifests/latest`.
    pub(crate) fn url(&self, rest: &str) -> String {
        self.endpoint.url(&format!("{}/{rest}", self.name))
    }

    /// Counts bytes of content that moved.
    pub(crate) fn moved(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The bytes that moved and the requests that were made.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (
            self.bytes.load(Ordering::Relaxed),
            self.requests.load(Ordering::Relaxed),
        )
    }

    /// Sends a request until it is answered: with the registry's leave, through redirects, and again when it makes sense.
    ///
    /// The answer can have any status that is neither a redirect nor, while patience lasts, a transient failure.
    pub(crate) fn send(&self, ask: &Ask<'_>) -> Result<Response<Body>, TransferError> {
        let mut attempt = 1;
        loop {
            let last = attempt == ATTEMPTS || !ask.again;
            match self.follow(ask) {
                Ok(response)
                    if ask.is_optional && response.status() == StatusCode::TOO_MANY_REQUESTS =>
                {
                    return Ok(response);
                }
                Ok(response) if !last && is_transient(response.status()) => {
                    std::thread::sleep(pause(attempt, &response));
                }
                Err(Failed::Connection(error)) if !last && is_worth_retrying(&error) => {
                    std::thread::sleep(FIRST_PAUSE * (1 << (attempt - 1)));
                }
                Ok(response) => return Ok(response),
                Err(Failed::Connection(error)) => return Err(unreachable(self.registry(), error)),
                Err(Failed::Otherwise(error)) => return Err(error),
            }
            attempt += 1;
        }
    }

    fn follow(&self, ask: &Ask<'_>) -> Result<Response<Body>, Failed> {
        let mut url = ask.url.clone();
        for _ in 0..=REDIRECTS {
            let response = self.reach(ask, &mut url)?;
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED
            {
                return Ok(response);
            }
            if !matches!(ask.method, Method::GET | Method::HEAD) && response.status().as_u16() < 307
            {
                return Err(Failed::other(format!(
                    "{}: the registry redirects with {}, which would lose the content",
                    ask.doing,
                    response.status()
                )));
            }
            url = self.location(&response, &url, &ask.doing)?;
        }
        Err(Failed::other(format!(
            "{}: the registry redirects more than {REDIRECTS} times",
            ask.doing
        )))
    }

    /// Where the next page of a list is: distribution-spec, "Pagination", and RFC 8288.
    pub(crate) fn next_page(
        &self,
        response: &Response<Body>,
        url: &str,
        doing: &str,
    ) -> Result<Option<String>, TransferError> {
        let Some(link) = text(response, header::LINK).and_then(|link| {
            let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
            parameters.contains("next").then_some(target)
        }) else {
            return Ok(None);
        };
        let next = resolve(url, link).filter(|next| self.endpoint.owns(next));
        next.map(Some).ok_or_else(|| {
            TransferError::new(
                TransferErrorKind::Other,
                format!(
                    "{doing}: {} points elsewhere for the rest of the list",
                    self.registry()
                ),
            )
        })
    }

    /// Where an answer points to.
    pub(crate) fn location(
        &self,
        response: &Response<Body>,
        url: &str,
        doing: &str,
    ) -> Result<String, TransferError> {
        let bad = |reason: &str| {
            let message = format!("{doing}: {} {reason}", self.registry());
            TransferError::new(TransferErrorKind::Other, message)
        };
        let location = text(response, header::LOCATION)
            .ok_or_else(|| bad("answers without saying where to go on"))?;
        let next = resolve(url, location)
            .filter(|next| next.bytes().all(|b| b.is_ascii_graphic()))
            .ok_or_else(|| bad("points to an address that is none"))?;
        let authority = next.split("://").nth(1).unwrap_or_default();
        if authority
            .split(['/', '?'])
            .next()
            .unwrap_or_default()
            .contains('@')
        {
            return Err(bad(
                "points to an address with a password in it, which is not followed",
            ));
        }
        if url.starts_with("https://") && !next.starts_with("https://") {
            return Err(bad(
                "points from https to plain http, which is not followed",
            ));
        }
        Ok(next)
    }

    /// Asks, and once more by the other scheme where this one seems to be the wrong one and that may be tried.
    fn reach(&self, ask: &Ask<'_>, url: &mut String) -> Result<Response<Body>, Failed> {
        let first = self.authorized(ask, url);
        if !self.endpoint.owns(url) || !self.endpoint.is_open() {
            return first;
        }
        let wrong = match &first {
            Ok(response) => wants_tls(response),
            Err(Failed::Connection(error)) => {
                !(is_unknown_host(error) || self.endpoint.is_plain() && is_refusal(error))
            }
            Err(Failed::Otherwise(_)) => false,
        };
        if !wrong {
            if first.is_ok() {
                self.endpoint.settle();
            }
            return first;
        }
        let other = self.endpoint.turn(url);
        match self.authorized(ask, &other) {
            Ok(response) => {
                *url = other;
                Ok(response)
            }
            // It speaks TLS, so that this is what is to be said.
            Err(Failed::Connection(error)) if first.is_ok() || is_certificate(&error) => {
                Err(Failed::Connection(error))
            }
            Err(Failed::Connection(_)) => {
                self.endpoint.turn(&other);
                first
            }
            Err(other) => Err(other),
        }
    }

    fn authorized(&self, ask: &Ask<'_>, url: &str) -> Result<Response<Body>, Failed> {
        let ours = self.endpoint.owns(url);
        let scope = match ask.from {
            Some(from) => format!("{} repository:{from}:pull", self.scope),
            None => self.scope.clone(),
        };
        let purpose = Purpose {
            endpoint: &self.endpoint,
            repository: &self.name,
            scope: &scope,
        };
        let mut second = false;
        loop {
            // Whoever we are sent to does not learn how we speak to the registry.
            let proof = match ours && !ask.is_bare {
                true => self.authorizer.header(self.transport, &purpose)?,
                false => None,
            };
            let mut headers = ask.headers.clone();
            if !ours {
                headers.retain(|(name, _)| name != header::AUTHORIZATION);
            }
            if ours {
                headers.extend_from_slice(self.endpoint.headers());
                if self.transport.is_view() {
                    headers.push((HeaderName::from_static(VIEW_HEADER), "store".to_owned()));
                }
            }
            headers.extend(proof.clone().map(|proof| (header::AUTHORIZATION, proof)));
            let head = Head {
                method: ask.method.clone(),
                url,
                headers: &headers,
            };
            self.requests.fetch_add(1, Ordering::Relaxed);
            let response = self.transport.exchange(&head, &ask.payload)?;
            if ours && response.headers().contains_key(VIEW_HEADER) {
                self.transport.note_view(self.endpoint.authority());
            }
            if response.status() != StatusCode::UNAUTHORIZED || second || !ours || ask.is_bare {
                return Ok(response);
            }
            let challenges = response.headers().get_all(header::WWW_AUTHENTICATE);
            let challenges = challenges.iter().filter_map(|value| value.to_str().ok());
            let Some(challenge) = Challenge::best(challenges) else {
                return Ok(response);
            };
            let sense = self
                .authorizer
                .challenged(&purpose, challenge, proof.as_deref())?;
            if !sense {
                return Ok(response);
            }
            drain(response);
            second = true;
        }
    }
}

/// Why one attempt came to nothing.
enum Failed {
    Connection(ureq::Error),
    Otherwise(TransferError),
}

impl Failed {
    fn other(message: String) -> Self {
        Self::Otherwise(TransferError::new(TransferErrorKind::Other, message))
    }
}

impl From<TransferError> for Failed {
    fn from(error: TransferError) -> Self {
        Self::Otherwise(error)
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Connection(error) => Self::Connection(error),
            Failure::Source(error) => Self::Otherwise(error),
            Failure::Reading(error) => {
                Self::Otherwise(unwrapped("reading what is to be pushed", error))
            }
        }
    }
}

/// A header's text, where there is one that is text.
pub(crate) fn text(response: &Response<Body>, name: HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

/// Reads a short body to its end, so that the connection can be used again.
pub(crate) fn drain(response: Response<Body>) {
    let mut body = paced(response).take(64 << 10);
    let _ = io::copy(&mut body, &mut io::sink());
}

/// The error for a connection that does not come about or breaks.
pub(crate) fn unreachable(registry: &str, error: ureq::Error) -> TransferError {
    let kind = TransferErrorKind::Unreachable;
    match error {
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            TransferError::new(
                kind,
                format!(
                    "no registry answers at {registry} (connection refused); check the name and the port, or start one there with `dhow registry serve`"
                ),
            )
        }
        error if is_unknown_host(&error) => TransferError::new(
            kind,
            format!(
                "no machine has the name of the registry {registry}; check the name and the network"
            ),
        ),
        ureq::Error::Timeout(what) => TransferError::new(
            kind,
            format!("the registry {registry} does not answer in time ({what}); try again later"),
        ),
        error if is_certificate(&error) => TransferError::caused(
            kind,
            format!(
                "the certificate of the registry {registry} is not trusted; have its authority's certificate in /etc/containers/certs.d/{registry}/ca.crt, or take any certificate with --tls-verify=false"
            ),
            error,
        ),
        error if is_tls(&error) => TransferError::caused(
            kind,
            format!(
                "the registry {registry} cannot be spoken to over TLS; if it speaks plain HTTP, use --tls-verify=false or name it in $DHOW_INSECURE_REGISTRIES"
            ),
            error,
        ),
        error => TransferError::caused(
            kind,
            format!("the connection to the registry {registry} failed"),
            error,
        ),
    }
}

/// Whether the resolver found no address. The standard library has no kind for its answer, only words.
fn is_unknown_host(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::HostNotFound => true,
        ureq::Error::Io(error) => error.to_string().contains("failed to lookup address"),
        _ => false,
    }
}

/// Whether TLS is what failed.
fn is_tls(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => true,
        ureq::Error::Io(error) => error.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// Whether the other side is not believed to be who it should be. rustls tells it in words alone through a stream's error.
fn is_certificate(error: &ureq::Error) -> bool {
    is_tls(error) && error.to_string().contains("invalid peer certificate")
}

fn is_refusal(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Whether this is how servers in Go answer plain HTTP where they speak TLS: a sentence without a header.
fn wants_tls(response: &Response<Body>) -> bool {
    response.status() == StatusCode::BAD_REQUEST
        && response.version() == Version::HTTP_10
        && response.headers().is_empty()
}

/// Whether another attempt may find the other side in a better state. Nobody at the door is no such case: the name is mistyped, most
/// of the time, and the answer should come at once.
pub(crate) fn is_worth_retrying(error: &ureq::Error) -> bool {
    match error {
        error if is_unknown_host(error) => false,
        ureq::Error::Io(_) => !is_refusal(error) && !is_tls(error),
        ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed | ureq::Error::BodyStalled => true,
        _ => false,
    }
}

/// The pause after this attempt: what the registry asks for, else twice the one before.
pub(crate) fn pause(attempt: u32, response: &Response<Body>) -> Duration {
    let asked = text(response, header::RETRY_AFTER).and_then(|seconds| seconds.parse().ok());
    match asked {
        Some(seconds) => Duration::from_secs(seconds).min(Patience::with(response).pause),
        None => FIRST_PAUSE * (1 << (attempt - 1).min(6)),
    }
}
