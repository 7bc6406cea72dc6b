//! How we prove who we are: HTTP's basic scheme, and tokens from a token server (distribution's token authentication).

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dhow_image::{TransferError, TransferErrorKind};
use serde::Deserialize;
use ureq::Body;
use ureq::http::{Method, Response, header};

use crate::challenge::Challenge;
use crate::credentials::{Credentials, Login};
use crate::endpoint::{Endpoint, is_loopback_url};
use crate::refusal::refused;
use crate::repository::unreachable;
use crate::transport::{Failure, Head, Payload, Transport};

/// How long a token is good for when its server does not say.
const ORDINARY_LIFE: u64 = 60;
/// A token is not used in its last seconds.
const MARGIN: Duration = Duration::from_secs(10);
/// The longest token answer.
const LONGEST: u64 = 1 << 20;

/// Knows how each registry wants to be asked.
#[derive(Default)]
pub(crate) struct Authorizer {
    credentials: Credentials,
    /// By registry: what the credentials say, looked up once.
    logins: Mutex<HashMap<String, Option<Login>>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By registry: what it last challenged us with.
    challenges: HashMap<String, Challenge>,
    /// By registry and scope.
    tokens: HashMap<(String, String), Token>,
}

struct Token {
    value: String,
    until: Instant,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Authorizer {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            logins: Mutex::default(),
            state: Mutex::default(),
        }
    }

    fn login(&self, registry: &str) -> Result<Option<Login>, TransferError> {
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = logins.get(registry) {
            return Ok(known.clone());
        }
        let login = self.credentials.login(registry)?;
        logins.insert(registry.to_owned(), login.clone());
        Ok(login)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `Authorization` header for a request, as far as the registry is known to want one.
    pub(crate) fn header(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        scope: &str,
    ) -> Result<Option<String>, TransferError> {
        // Held while a token is fetched, so that threads side by side fetch one.
        let mut state = self.state();
        match state.challenges.get(endpoint.registry()).cloned() {
            None => Ok(None),
            Some(Challenge::Basic) => {
                Ok(self.login(endpoint.registry())?.map(|login| login.basic()))
            }
            Some(Challenge::Bearer { realm, service, .. }) => {
                let key = (endpoint.registry().to_owned(), scope.to_owned());
                if let Some(token) = state.tokens.get(&key)
                    && token.until > Instant::now() + MARGIN
                {
                    return Ok(Some(format!("Bearer {}", token.value)));
                }
                let token = self.fetch(transport, endpoint, (&realm, service.as_deref()), scope)?;
                let header = format!("Bearer {}", token.value);
                state.tokens.insert(key, token);
                Ok(Some(header))
            }
        }
    }

    /// Takes a registry's challenge to heart; whether it makes sense to ask again.
    pub(crate) fn challenged(
        &self,
        endpoint: &Endpoint,
        scope: &str,
        challenge: Challenge,
        sent: Option<&str>,
    ) -> Result<bool, TransferError> {
        let able = match &challenge {
            Challenge::Bearer { .. } => true,
            Challenge::Basic => self.login(endpoint.registry())?.is_some(),
        };
        let mut state = self.state();
        let registry = endpoint.registry().to_owned();
        let known = state.challenges.insert(registry.clone(), challenge.clone());
        let key = (registry, scope.to_owned());
        let refused = state
            .tokens
            .get(&key)
            .is_some_and(|token| sent == Some(format!("Bearer {}", token.value).as_str()));
        if refused {
            state.tokens.remove(&key);
        }
        // With the same way in and the same proof, it would be the same answer.
        let tried = known.as_ref() == Some(&challenge) && sent.is_some();
        Ok(able && (!tried || matches!(challenge, Challenge::Bearer { .. })))
    }

    fn fetch(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        (realm, service): (&str, Option<&str>),
        scope: &str,
    ) -> Result<Token, TransferError> {
        let what = format!("{scope} at {realm}");
        let doing = "asking for a token for";
        let trusted =
            realm.starts_with("https://") || endpoint.is_plain() || is_loopback_url(realm);
        if !trusted || realm.contains('@') {
            return Err(TransferError::new(
                TransferErrorKind::Denied,
                format!(
                    "{} sends us for a token to {realm}, where a password could be read on the way",
                    endpoint.registry()
                ),
            ));
        }
        let url = token_url(realm, service, scope);
        let mut headers = Vec::new();
        if let Some(login) = self.login(endpoint.registry())? {
            headers.push((header::AUTHORIZATION, login.basic()));
        }
        let head = Head {
            method: Method::GET,
            url: &url,
            headers: &headers,
        };
        let response = match transport.exchange(&head, &Payload::None) {
            Ok(response) if response.status().is_success() => response,
            Ok(response) => return Err(refused(doing, &what, response)),
            Err(Failure::Connection(error)) => return Err(unreachable(realm, error)),
            Err(Failure::Source(error)) => return Err(error),
            Err(Failure::Reading(error)) => {
                return Err(TransferError::caused(TransferErrorKind::Other, what, error));
            }
        };
        read_token(response).map_err(|error| {
            TransferError::caused(TransferErrorKind::Other, format!("{doing} {what}"), error)
        })
    }
}

/// The address at which a token for a scope is asked for.
fn token_url(realm: &str, service: Option<&str>, scope: &str) -> String {
    let mut url = realm.to_owned();
    let mut separator = if realm.contains('?') { '&' } else { '?' };
    let service = service.map(|service| ("service", service));
    let scopes = scope.split(' ').map(|scope| ("scope", scope));
    for (name, value) in service.into_iter().chain(scopes) {
        url = format!("{url}{separator}{name}={}", encoded(value));
        separator = '&';
    }
    url
}

fn read_token(response: Response<Body>) -> Result<Token, Box<dyn std::error::Error + Send + Sync>> {
    let mut text = Vec::new();
    let body = response.into_body().into_reader();
    body.take(LONGEST).read_to_end(&mut text)?;
    let answer: TokenAnswer = serde_json::from_slice(&text)?;
    let value = answer
        .token
        .or(answer.access_token)
        .filter(|token| token.bytes().all(|b| b.is_ascii_graphic()) && !token.is_empty())
        .ok_or("the answer holds no token")?;
    let life = answer.expires_in.unwrap_or(ORDINARY_LIFE);
    let life = life.clamp(ORDINARY_LIFE, 86_400);
    Ok(Token {
        value,
        until: Instant::now() + Duration::from_secs(life),
    })
}

/// A value in a query: RFC 3986, section 2.
pub(crate) fn encoded(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                text.push(char::from(byte));
            }
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}
