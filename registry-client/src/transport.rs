//! One HTTP request and its answer, without any policy.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dhow_image::TransferError;
use ureq::config::ConfigBuilder;
use ureq::http::{HeaderName, Method, Request, Response};
use ureq::typestate::AgentScope;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, TcpConnector};
use ureq::{Agent, Body, SendBody};

use crate::body::{Pace, Patience};
use crate::endpoint::{Schemes, authority_of, is_loopback_url};
use crate::registries::Place;
use crate::tls::{TlsConfigs, TlsProfile, Trust};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(15);
/// How long an answer may take: a registry may hash a large blob anew, or carry it to its own storage.
const ANSWER: Duration = Duration::from_secs(300);
/// How much is read from or written to a connection at once.
const BUFFER: usize = 256 << 10;

/// Keeps the connections, and what is known of hosts.
pub(crate) struct Transport {
    trust: Trust,
    schemes: Schemes,
    configs: TlsConfigs,
    /// By what is particular about TLS, where it is spoken, and whether it is this machine itself, to which no proxy leads.
    agents: Mutex<HashMap<(Option<TlsProfile>, bool), Agent>>,
    /// What is particular about hosts, found out once.
    profiles: Mutex<HashMap<String, TlsProfile>>,
    connections: usize,
    patience: Patience,
    /// Requests are those of a view.
    is_view: bool,
    /// Those hosts that have said that they are views.
    views: Mutex<HashSet<String>>,
}

/// What goes with a request.
pub(crate) enum Payload<'a> {
    /// No body.
    None,
    /// These bytes, which may be none.
    Bytes(&'a [u8]),
    /// What can be opened, anew for each attempt, and its length.
    Stream(
        &'a dyn Fn() -> Result<Box<dyn Read + Send + 'a>, TransferError>,
        u64,
    ),
}

/// Why there is no answer.
pub(crate) enum Failure {
    /// The connection did not come about or broke.
    Connection(ureq::Error),
    /// What was to be sent cannot be read.
    Source(TransferError),
    /// The same, in the middle.
    Reading(io::Error),
}

/// A request's address and headers.
pub(crate) struct Head<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a str,
    pub(crate) headers: &'a [(HeaderName, String)],
}

impl Transport {
    /// A transport that keeps as many connections as there are blobs under way.
    pub(crate) fn new(connections: usize, trust: Trust, patience: Patience, is_view: bool) -> Self {
        Self {
            trust,
            schemes: Schemes::default(),
            configs: TlsConfigs::default(),
            agents: Mutex::default(),
            profiles: Mutex::default(),
            connections,
            patience,
            is_view,
            views: Mutex::default(),
        }
    }

    /// Whether we ask for a view.
    pub(crate) fn is_view(&self) -> bool {
        self.is_view
    }

    /// Remembers that a host is a view.
    pub(crate) fn note_view(&self, authority: &str) {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.insert(authority.to_owned());
    }

    /// Whether a host has said that it is a view.
    pub(crate) fn has_view(&self, authority: &str) -> bool {
        let views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.contains(authority)
    }

    /// Whom we trust.
    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// What is known of hosts.
    pub(crate) fn schemes(&self) -> &Schemes {
        &self.schemes
    }

    /// Takes to heart what a file says of TLS with a place, unless something is known of its host already.
    pub(crate) fn learn(&self, place: &Place) -> Result<(), TransferError> {
        let said = place.host.as_ref().and_then(|host| host.profile.as_ref());
        if said.is_none() && !place.insecure {
            return Ok(());
        }
        let authority = place
            .host
            .as_ref()
            .map_or(&place.registry, |host| &host.authority);
        let mut profile = match said {
            Some(said) => said.clone(),
            None => self.trust.profile(authority)?,
        };
        profile.unverified |= place.insecure || self.trust.is_insecure(authority);
        let mut profiles = self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
        profiles.entry(authority.clone()).or_insert(profile);
        Ok(())
    }

    fn agent(&self, url: &str) -> Result<Agent, TransferError> {
        let local = is_loopback_url(url);
        // Reading the authorities takes a while; who speaks plain HTTP needs none.
        let profile = match url.strip_prefix("https://") {
            Some(_) => Some(self.profile(authority_of(url).unwrap_or_default())?),
            None => None,
        };
        let key = (profile, local);
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let mut builder = Agent::config_builder();
        if local {
            builder = builder.proxy(None);
        }
        if let Some(profile) = &key.0 {
            builder = builder.tls_config(self.configs.of(profile)?);
        }
        let given = match &key.0 {
            Some(profile) => self.configs.given(profile)?,
            None => None,
        };
        let config = configured(builder, self.connections, self.patience).build();
        let agent = match given {
            Some(given) => {
                let connector = ().chain(ConnectProxyConnector::default());
                let connector = connector.chain(TcpConnector::default()).chain(given);
                Agent::with_parts(config, connector, DefaultResolver::default())
            }
            None => config.new_agent(),
        };
        agents.insert(key, agent.clone());
        Ok(agent)
    }

    fn profile(&self, authority: &str) -> Result<TlsProfile, TransferError> {
        let mut profiles = self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = profiles.get(authority) {
            return Ok(known.clone());
        }
        let profile = self.trust.profile(authority)?;
        profiles.insert(authority.to_owned(), profile.clone());
        Ok(profile)
    }

    /// Sends one request and gives its answer, of whatever status. Redirects are answers.
    pub(crate) fn exchange(
        &self,
        head: &Head<'_>,
        payload: &Payload<'_>,
    ) -> Result<Response<Body>, Failure> {
        let mut request = Request::builder().method(head.method.clone()).uri(head.url);
        for (name, value) in head.headers {
            request = request.header(name, value);
        }
        let bad = |error: ureq::http::Error| Failure::Connection(error.into());
        let agent = self.agent(head.url).map_err(Failure::Source)?;
        match payload {
            Payload::None => agent.run(request.body(()).map_err(bad)?),
            Payload::Bytes(bytes) => agent.run(request.body(*bytes).map_err(bad)?),
            Payload::Stream(open, length) => {
                let mut reader = Watched {
                    reader: open().map_err(Failure::Source)?,
                    left: *length,
                    failed: None,
                    pace: Pace::new(self.patience),
                    handed: None,
                    slow: None,
                };
                let request = request
                    .header("content-length", *length)
                    .body(SendBody::from_reader(&mut reader))
                    .map_err(bad)?;
                let answer = agent.run(request);
                if let Some(error) = reader.slow {
                    return Err(Failure::Connection(ureq::Error::Io(error)));
                }
                if let Some(error) = reader.failed {
                    return Err(Failure::Reading(error));
                }
                answer
            }
        }
        .map_err(Failure::Connection)
        .map(|mut response| {
            // Whoever reads the body knows how long to wait.
            response.extensions_mut().insert(self.patience);
            response
        })
    }
}

fn configured(
    builder: ConfigBuilder<AgentScope>,
    connections: usize,
    patience: Patience,
) -> ConfigBuilder<AgentScope> {
    builder
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("dhow/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .timeout_connect(Some(CONNECT))
        .timeout_per_read(Some(patience.stall))
        .timeout_per_write(Some(patience.stall))
        .timeout_recv_response(Some(ANSWER))
        .input_buffer_size(BUFFER)
        .output_buffer_size(BUFFER)
        .max_idle_connections(2 * connections)
        .max_idle_connections_per_host(2 * connections)
}

/// Remembers an error of the reader, so that it is not taken for one of the connection, and takes no more than was announced.
struct Watched<'a> {
    reader: Box<dyn Read + Send + 'a>,
    left: u64,
    failed: Option<io::Error>,
    pace: Pace,
    /// When the last bytes were handed over, and how many.
    handed: Option<(Instant, u64)>,
    /// The other side takes them too slowly.
    slow: Option<io::Error>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some((at, bytes)) = self.handed.take()
            && let Err(error) = self.pace.note(at.elapsed(), bytes)
        {
            let again = io::Error::new(error.kind(), error.to_string());
            self.slow = Some(error);
            return Err(again);
        }
        let most = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let read = match self.reader.read(&mut buffer[..most]) {
            Ok(0) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} bytes are missing", self.left),
            )),
            other => other,
        };
        match read {
            Ok(count) => {
                self.left -= count as u64;
                self.handed = Some((Instant::now(), count as u64));
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let again = io::Error::new(error.kind(), error.to_string());
                self.failed = Some(error);
                Err(again)
            }
        }
    }
}
