//! A token server as distribution's token authentication has it, whose tokens Debian's registry accepts.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

use crate::certificates::Authority;

/// Who issues, and for whom: what the registry is told to expect.
pub const ISSUER: &str = "the test's issuer";
/// The registry's name at the token server.
pub const SERVICE: &str = "the test's registry";

/// A token server on loopback. It knows `me` with the password `secret`, and the identity tokens that it gave out.
pub struct TokenServer {
    address: SocketAddr,
    certificate: PathBuf,
    seen: Arc<Mutex<Vec<Asked>>>,
}

/// A request for a token.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET` or `POST`.
    pub method: String,
    /// The parameters of the query or form, decoded.
    pub parameters: Vec<(String, String)>,
    /// Whether the password came with it.
    pub with_password: bool,
}

impl Asked {
    /// The values of a parameter.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let fitting = self.parameters.iter().filter(|(key, _)| key == name);
        fitting.map(|(_, value)| value.as_str()).collect()
    }
}

struct Issuer {
    authority: Authority,
    key: PathBuf,
    chain: String,
    /// How long tokens are good for.
    life: u64,
    identity: Mutex<u32>,
}

impl TokenServer {
    /// Starts one whose tokens are good for so many seconds.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(authority: Authority, life: u64) -> Self {
        let (certificate, key) = authority.issue("issuer");
        let pem = fs_err::read_to_string(&certificate).expect("read");
        let chain: String = pem
            .lines()
            .filter(|line| !line.starts_with("---"))
            .collect();
        let issuer = Arc::new(Issuer {
            authority,
            key,
            chain,
            life,
            identity: Mutex::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (issuer, log) = (Arc::clone(&issuer), Arc::clone(&log));
                std::thread::spawn(move || issuer.answer(stream, &log));
            }
        });
        Self {
            address,
            certificate,
            seen,
        }
    }

    /// What a registry's configuration says of it.
    pub fn configuration(&self) -> String {
        format!(
            "auth: {{token: {{realm: \"http://{}/token\", service: \"{SERVICE}\", issuer: \"{ISSUER}\", rootcertbundle: {}}}}}\n",
            self.address,
            self.certificate.display()
        )
    }

    /// What it was asked so far.
    ///
    /// # Panics
    /// When a thread of it panicked.
    pub fn seen(&self) -> Vec<Asked> {
        self.seen.lock().expect("the log").clone()
    }
}

impl Issuer {
    fn answer(&self, stream: TcpStream, log: &Mutex<Vec<Asked>>) {
        let mut reader = BufReader::new(&stream);
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let path = words.next().unwrap_or_default().to_owned();
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a header");
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").and_then(|l| l.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).expect("a body");
        let text = match method.as_str() {
            "POST" => String::from_utf8(body).expect("a form"),
            _ => path
                .split_once('?')
                .map_or("", |(_, query)| query)
                .to_owned(),
        };
        let expected = format!("Basic {}", BASE64_STANDARD.encode("me:secret"));
        let asked = Asked {
            method,
            parameters: parameters(&text),
            with_password: headers.get("authorization") == Some(&expected),
        };
        log.lock().expect("the log").push(asked.clone());
        let (status, body) = match self.token(&asked) {
            Some(answer) => (200, answer),
            None => (401, "{}".to_owned()),
        };
        let _ = write!(
            &stream,
            "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    }

    fn token(&self, asked: &Asked) -> Option<String> {
        let mut identity = self.identity.lock().expect("the identity");
        let mut new = None;
        if asked.method == "POST" {
            // Each identity token is good for once, and the next comes with the answer.
            let known = format!("identity-{identity}");
            if asked.all("grant_type") != ["refresh_token"] || asked.all("refresh_token") != [known]
            {
                return None;
            }
            *identity += 1;
            new = Some(format!("identity-{identity}"));
        } else if !asked.with_password {
            return None;
        } else if asked.all("offline_token") == ["true"] {
            new = Some(format!("identity-{identity}"));
        }
        let scopes = asked.all("scope");
        let scopes: Vec<&str> = scopes.iter().flat_map(|scope| scope.split(' ')).collect();
        let mut answer = serde_json::json!({ "expires_in": self.life });
        let name = if asked.method == "POST" {
            "access_token"
        } else {
            "token"
        };
        answer[name] = self.sign(&scopes).into();
        if let Some(new) = new {
            answer["refresh_token"] = new.into();
        }
        Some(answer.to_string())
    }

    fn sign(&self, scopes: &[&str]) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a time")
            .as_secs();
        let access: Vec<_> = scopes
            .iter()
            .filter_map(|scope| {
                let (kind, rest) = scope.split_once(':')?;
                let (name, actions) = rest.rsplit_once(':')?;
                let actions: Vec<&str> = actions.split(',').collect();
                Some(serde_json::json!({ "type": kind, "name": name, "actions": actions }))
            })
            .collect();
        let header = serde_json::json!({ "typ": "JWT", "alg": "RS256", "x5c": [self.chain] });
        let claims = serde_json::json!({
            "iss": ISSUER, "sub": "me", "aud": SERVICE, "exp": now + self.life, "nbf": now - 10,
            "iat": now, "jti": now.to_string(), "access": access,
        });
        let part = |value: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(&claims));
        let signature = self.authority.sign(&self.key, message.as_bytes());
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

fn parameters(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'%' if after.len() >= 2 => {
                let hex = std::str::from_utf8(&after[..2]).expect("hex");
                bytes.push(u8::from_str_radix(hex, 16).expect("hex"));
                rest = &after[2..];
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).expect("text")
}
