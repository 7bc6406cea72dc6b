//! How we prove who we are: HTTP's basic scheme, and tokens from a token server (distribution's token authentication).

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dhow_image::{TransferError, TransferErrorKind};
use serde::Deserialize;
use ureq::Body;
use ureq::http::{Method, Response, header};

use crate::body::paced;
use crate::challenge::Challenge;
use crate::credentials::{Credentials, Login, Proof};
use crate::endpoint::Endpoint;
use crate::refusal::refused;
use crate::repository::unreachable;
use crate::transport::{Failure, Head, Payload, Transport};

/// The name by which token servers know this program.
const CLIENT_ID: &str = "dhow";
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
    /// By registry and repository: what the credentials say, looked up once.
    logins: Mutex<HashMap<(String, String), Option<Login>>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By host: what it last challenged us with.
    challenges: HashMap<String, Challenge>,
    /// By host and scope.
    tokens: HashMap<(String, String), Token>,
}

struct Token {
    value: String,
    until: Instant,
}

/// What may be done where.
#[derive(Clone, Copy)]
pub(crate) struct Purpose<'a> {
    /// The registry.
    pub(crate) endpoint: &'a Endpoint,
    /// The repository whose credentials are used.
    pub(crate) repository: &'a str,
    /// The scope of distribution's token authentication; empty to prove only who we are.
    pub(crate) scope: &'a str,
}

/// Where tokens for a registry come from.
struct Issuer<'a> {
    realm: &'a str,
    service: Option<&'a str>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
    refresh_token: Option<String>,
}

impl Authorizer {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            logins: Mutex::default(),
            state: Mutex::default(),
        }
    }

    fn login(&self, purpose: &Purpose<'_>) -> Result<Option<Login>, TransferError> {
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        let registry = purpose.endpoint.registry();
        let key = (registry.to_owned(), purpose.repository.to_owned());
        if let Some(known) = logins.get(&key) {
            return Ok(known.clone());
        }
        let login = match &self.credentials {
            // A password that was given for a registry is not for who stands in for it.
            Credentials::Login { .. } if purpose.endpoint.is_mirror() => None,
            credentials => credentials.login(registry, purpose.repository)?,
        };
        logins.insert(key, login.clone());
        Ok(login)
    }

    /// Puts a new identity token in the place of the old one.
    fn renew(
        &self,
        purpose: &Purpose<'_>,
        mut login: Login,
        token: &str,
    ) -> Result<(), TransferError> {
        login.renew(token)?;
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        let registry = purpose.endpoint.registry().to_owned();
        logins.insert((registry, purpose.repository.to_owned()), Some(login));
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `Authorization` header for a request, as far as the registry is known to want one.
    pub(crate) fn header(
        &self,
        transport: &Transport,
        purpose: &Purpose<'_>,
    ) -> Result<Option<String>, TransferError> {
        // Held while a token is fetched, so that threads side by side fetch one.
        let mut state = self.state();
        let host = purpose.endpoint.authority().to_owned();
        match state.challenges.get(&host).cloned() {
            None => Ok(None),
            Some(Challenge::Basic) => {
                let login = self.login(purpose)?;
                Ok(login.and_then(|login| login.proof.header()))
            }
            Some(Challenge::Bearer { realm, service, .. }) => {
                let login = self.login(purpose)?;
                if let Some(proof @ Proof::Registry(_)) = login.as_ref().map(|l| &l.proof) {
                    return Ok(proof.header());
                }
                let key = (host, purpose.scope.to_owned());
                if let Some(token) = state.tokens.get(&key)
                    && token.until > Instant::now() + MARGIN
                {
                    return Ok(Some(format!("Bearer {}", token.value)));
                }
                let issuer = Issuer {
                    realm: &realm,
                    service: service.as_deref(),
                };
                let proof = login.as_ref().map(|login| &login.proof);
                let (token, renewed) = issuer.ask(transport, purpose, proof, false)?;
                if let (Some(renewed), Some(login)) = (renewed, login)
                    && matches!(&login.proof, Proof::Identity(old) if *old != renewed)
                {
                    self.renew(purpose, login, &renewed)?;
                }
                let header = format!("Bearer {}", token.value);
                state.tokens.insert(key, token);
                Ok(Some(header))
            }
        }
    }

    /// Takes a registry's challenge to heart; whether it makes sense to ask again.
    pub(crate) fn challenged(
        &self,
        purpose: &Purpose<'_>,
        challenge: Challenge,
        sent: Option<&str>,
    ) -> Result<bool, TransferError> {
        let login = self.login(purpose)?;
        let able = match &challenge {
            Challenge::Bearer { .. } => true,
            Challenge::Basic => login.is_some_and(|login| login.proof.header().is_some()),
        };
        let mut state = self.state();
        let host = purpose.endpoint.authority().to_owned();
        let known = state.challenges.insert(host.clone(), challenge.clone());
        let key = (host, purpose.scope.to_owned());
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
}

/// Asks a token server for a token that only says who we are, and for an identity token to come back with; that token, where there is one.
pub(crate) fn introduce(
    transport: &Transport,
    purpose: &Purpose<'_>,
    (realm, service): (&str, Option<&str>),
    proof: &Proof,
) -> Result<(String, Option<String>), TransferError> {
    let issuer = Issuer { realm, service };
    let (token, identity) = issuer.ask(transport, purpose, Some(proof), true)?;
    Ok((format!("Bearer {}", token.value), identity))
}

impl Issuer<'_> {
    /// Asks for a token, and, `offline`, for an identity token beside it.
    fn ask(
        &self,
        transport: &Transport,
        purpose: &Purpose<'_>,
        proof: Option<&Proof>,
        offline: bool,
    ) -> Result<(Token, Option<String>), TransferError> {
        self.check(transport, purpose)?;
        let what = match purpose.scope {
            "" => format!("{} at {}", purpose.endpoint.registry(), self.realm),
            scope => format!("{scope} at {}", self.realm),
        };
        let doing = "asking for a token for";
        let mut headers = Vec::new();
        let form = match proof {
            Some(Proof::Identity(token)) => Some(self.form(purpose.scope, token)),
            _ => None,
        };
        let url = match &form {
            Some(_) => self.realm.to_owned(),
            None => self.url(purpose.scope, proof.filter(|_| offline)),
        };
        headers.extend(
            proof
                .and_then(Proof::header)
                .map(|proof| (header::AUTHORIZATION, proof)),
        );
        if form.is_some() {
            headers.push((
                header::CONTENT_TYPE,
                "application/x-www-form-urlencoded".to_owned(),
            ));
        }
        let head = Head {
            method: if form.is_some() {
                Method::POST
            } else {
                Method::GET
            },
            url: &url,
            headers: &headers,
        };
        let payload = form
            .as_ref()
            .map_or(Payload::None, |form| Payload::Bytes(form.as_bytes()));
        let response = match transport.exchange(&head, &payload) {
            Ok(response) if response.status().is_success() => response,
            Ok(response) => return Err(refused(doing, &what, response)),
            Err(Failure::Connection(error)) => return Err(unreachable(self.realm, error)),
            Err(Failure::Source(error)) => return Err(error),
            Err(Failure::Reading(error)) => {
                return Err(TransferError::caused(TransferErrorKind::Other, what, error));
            }
        };
        read_token(response).map_err(|error| {
            TransferError::caused(TransferErrorKind::Other, format!("{doing} {what}"), error)
        })
    }

    /// A password goes only where nobody reads it on the way, or where it was said that this does not matter.
    fn check(&self, transport: &Transport, purpose: &Purpose<'_>) -> Result<(), TransferError> {
        let trusted = self.realm.starts_with("https://")
            || self.realm.starts_with("http://")
                && purpose.endpoint.vouches_for(self.realm, transport.trust());
        if trusted && !self.realm.contains('@') {
            return Ok(());
        }
        Err(TransferError::new(
            TransferErrorKind::Denied,
            format!(
                "{} sends us for a token to {}, where a password could be read on the way",
                purpose.endpoint.registry(),
                self.realm
            ),
        ))
    }

    /// The address at which a token for a scope is asked for.
    fn url(&self, scope: &str, offline: Option<&Proof>) -> String {
        let mut url = self.realm.to_owned();
        let mut separator = if url.contains('?') { '&' } else { '?' };
        let service = self.service.map(|service| ("service", service));
        let scopes = scope.split(' ').filter(|scope| !scope.is_empty());
        let mut all: Vec<(&str, &str)> = service.into_iter().collect();
        all.extend(scopes.map(|scope| ("scope", scope)));
        if let Some(proof) = offline {
            all.extend([("client_id", CLIENT_ID), ("offline_token", "true")]);
            if let Proof::Password { user, .. } = proof {
                all.push(("account", user));
            }
        }
        for (name, value) in all {
            url = format!("{url}{separator}{name}={}", encoded(value));
            separator = '&';
        }
        url
    }

    /// The form by which an identity token is shown: RFC 6749, section 6.
    fn form(&self, scope: &str, token: &str) -> String {
        let mut form = format!(
            "grant_type=refresh_token&client_id={CLIENT_ID}&refresh_token={}",
            encoded(token)
        );
        for (name, value) in [
            ("service", self.service.unwrap_or_default()),
            ("scope", scope),
        ] {
            if !value.is_empty() {
                form = format!("{form}&{name}={}", encoded(value));
            }
        }
        form
    }
}

/// The token of an answer, and the identity token beside it.
fn read_token(
    response: Response<Body>,
) -> Result<(Token, Option<String>), Box<dyn std::error::Error + Send + Sync>> {
    let mut text = Vec::new();
    paced(response).take(LONGEST).read_to_end(&mut text)?;
    let answer: TokenAnswer = serde_json::from_slice(&text)?;
    let value = answer
        .token
        .or(answer.access_token)
        .filter(|token| token.bytes().all(|b| b.is_ascii_graphic()) && !token.is_empty())
        .ok_or("the answer holds no token")?;
    let life = answer.expires_in.unwrap_or(ORDINARY_LIFE);
    let life = life.clamp(ORDINARY_LIFE, 86_400);
    let token = Token {
        value,
        until: Instant::now() + Duration::from_secs(life),
    };
    Ok((
        token,
        answer.refresh_token.filter(|token| !token.is_empty()),
    ))
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
