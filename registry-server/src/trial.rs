//! A registry that hears texts and no network: what is tried with hostile requests.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{Request, header};

use crate::registry::{Registry, answer};
use crate::{Content, ServeError, Server, ServerOptions};

/// More than this no answer of a trial is.
const LONGEST: usize = 64 << 20;

/// A registry, and one client's conversation with it.
pub struct Conversation {
    runtime: tokio::runtime::Runtime,
    registry: Arc<Registry>,
    /// Where the last answer led to.
    location: String,
}

/// An answer's status and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Conversation {
    /// Opens the registry of these options.
    ///
    /// # Errors
    /// As [`Server::open`].
    pub fn begin(options: &ServerOptions) -> Result<Self, ServeError> {
        let Content::Own(registry) = Server::open(options)?.content else {
            return Err(ServeError::Open {
                root: options.root.clone(),
                source: std::io::Error::other("a trial is of a registry over a directory"),
            });
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ServeError::Listen)?;
        Ok(Self {
            runtime,
            registry,
            location: String::new(),
        })
    }

    /// Asks with a request as HTTP writes it: a line `METHOD PATH`, lines `NAME: VALUE`, an empty one, and the body. A path that
    /// begins with `@` goes on from where the last answer led to. None where HTTP itself cannot carry it.
    pub fn ask(&mut self, request: &[u8]) -> Option<Heard> {
        let end = request.windows(2).position(|two| two == b"\n\n");
        let (head, body) = match end {
            Some(end) => (&request[..end], &request[end + 2..]),
            None => (request, &b""[..]),
        };
        let mut lines = head.split(|byte| *byte == b'\n');
        let mut words = lines.next()?.splitn(2, |byte| *byte == b' ');
        let (method, path) = (words.next()?, words.next()?);
        let path = match path {
            [b'@', rest @ ..] => [self.location.as_bytes(), rest].concat(),
            path => path.to_vec(),
        };
        let mut asked = Request::builder().method(method).uri(path.as_slice());
        for line in lines {
            let colon = line.iter().position(|byte| *byte == b':')?;
            asked = asked.header(&line[..colon], line[colon + 1..].trim_ascii());
        }
        let asked = asked.body(Body::from(body.to_vec())).ok()?;
        let registry = Arc::clone(&self.registry);
        let (answered, body) = self.runtime.block_on(async {
            let (parts, body) = answer(State(registry), asked).await.into_parts();
            (parts, to_bytes(body, LONGEST).await)
        });
        let location = answered.headers.get(header::LOCATION);
        if let Some(Ok(location)) = location.map(|location| location.to_str()) {
            self.location = location.to_owned();
        }
        Some(Heard {
            status: answered.status.as_u16(),
            body: body.ok()?.to_vec(),
        })
    }
}
