//! Who may come in: HTTP's basic scheme (RFC 7617) against a file as Apache's htpasswd writes it.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use axum::http::{HeaderMap, Method, StatusCode, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dhow_image::Digest;

use crate::answer::{Code, Refusal};
use crate::registry::text;

/// A hash that nobody's password has. A name that is not known takes as long as one that is.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuuWv9zkX8PZ0yUS6mqUYVjv1J3o2dKY0e";

/// The passwords of a file, which may change while the registry is at work.
pub(crate) struct Passwords {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    read: Option<SystemTime>,
    users: Arc<HashMap<String, String>>,
    /// Proofs that have been found right, since bcrypt takes long by design. Only their digests are kept.
    right: HashMap<Digest, String>,
}

/// Who is let in, and to do what.
pub(crate) struct Entrance {
    pub(crate) passwords: Option<Arc<Passwords>>,
    pub(crate) read_only: bool,
}

impl Entrance {
    /// Lets a request in, or says why not.
    pub(crate) async fn admit(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
        if let Some(passwords) = &self.passwords {
            let (passwords, headers) = (Arc::clone(passwords), headers.clone());
            // A hash takes long by design.
            tokio::task::spawn_blocking(move || passwords.check(&headers))
                .await
                .map_err(|error| Refusal::new(Code::Unknown, error))??;
        }
        if self.read_only && !matches!(*method, Method::GET | Method::HEAD) {
            // Nobody's login would help, so it is not denied: distribution-spec, "Content Management".
            let refusal = Refusal::new(Code::Unsupported, "this registry can only be read from");
            return Err(refusal.header(header::ALLOW, "GET, HEAD"));
        }
        Ok(())
    }
}

impl Passwords {
    /// Reads the file.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let passwords = Self {
            path: path.to_owned(),
            state: Mutex::default(),
        };
        passwords.refresh()?;
        Ok(passwords)
    }

    /// Reads the file again if it has changed.
    fn refresh(&self) -> io::Result<()> {
        let changed = fs_err::metadata(&self.path)?.modified()?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.read == Some(changed) {
            return Ok(());
        }
        let users = parse(&fs_err::read_to_string(&self.path)?)
            .map_err(|reason| io::Error::new(io::ErrorKind::InvalidData, reason))?;
        *state = State {
            read: Some(changed),
            users: Arc::new(users),
            right: HashMap::new(),
        };
        Ok(())
    }

    /// Lets a request in, or says what it has to show. Blocks for as long as a hash takes.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        // A file that is broken for a moment, while somebody writes it, changes nothing.
        if let Err(error) = self.refresh() {
            tracing::warn!(%error, "passwords");
        }
        let Some(proof) = text(headers, header::AUTHORIZATION) else {
            return Err(refusal("a name and a password are needed"));
        };
        let digest = Digest::of(proof.as_bytes());
        let users = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.right.contains_key(&digest) {
                return Ok(());
            }
            Arc::clone(&state.users)
        };
        let (user, password) =
            pair(proof).ok_or_else(|| refusal("only the basic scheme is understood"))?;
        let hash = users.get(&user);
        let fits = bcrypt::verify(&password, hash.map_or(NOBODY, String::as_str)).unwrap_or(false);
        if !fits || hash.is_none() {
            return Err(refusal("the name or the password is wrong"));
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have changed meanwhile.
        if state.users.get(&user) == hash {
            state.right.insert(digest, user);
        }
        Ok(())
    }
}

fn refusal(reason: &str) -> Refusal {
    Refusal::new(Code::Unauthorized, reason)
        .status(StatusCode::UNAUTHORIZED)
        .header(header::WWW_AUTHENTICATE, "Basic realm=\"dhow registry\"")
}

/// The name and password of a header.
fn pair(proof: &str) -> Option<(String, Vec<u8>)> {
    let (scheme, rest) = proof.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(rest.trim()).ok()?;
    let at = decoded.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(decoded[..at].to_vec()).ok()?;
    Some((user, decoded[at + 1..].to_vec()))
}

fn parse(text: &str) -> Result<HashMap<String, String>, String> {
    let mut users = HashMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let bad = |reason: &str| format!("line {}: {reason}", at + 1);
        let (user, hash) = line
            .split_once(':')
            .ok_or_else(|| bad("it is not NAME:HASH"))?;
        let known = ["$2y$", "$2b$", "$2a$"]
            .iter()
            .any(|form| hash.starts_with(form));
        if !known {
            return Err(bad("the hash is not bcrypt's; make it with `htpasswd -B`"));
        }
        users.insert(user.to_owned(), hash.to_owned());
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pair: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let value = format!("Basic {}", BASE64_STANDARD.encode(pair));
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        headers
    }

    #[test]
    fn only_who_knows_the_password_comes_in_and_changes_count_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        let line = |password: &str| format!("me:{}\n", bcrypt::hash(password, 4).unwrap());
        fs_err::write(&path, format!("# mine\n\n{}", line("se:cret"))).unwrap();
        let passwords = Passwords::open(&path).unwrap();
        for _ in 0..2 {
            passwords.check(&headers("me:se:cret")).unwrap();
            for wrong in ["me:wrong", "you:se:cret", "me"] {
                assert!(passwords.check(&headers(wrong)).is_err(), "{wrong}");
            }
        }
        assert!(passwords.check(&HeaderMap::new()).is_err());
        fs_err::write(&path, line("other")).unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(later)
            .unwrap();
        assert!(passwords.check(&headers("me:se:cret")).is_err());
        passwords.check(&headers("me:other")).unwrap();
    }

    #[test]
    fn what_is_no_such_file_is_refused_with_the_line() {
        for text in ["me", "a:$2y$05$x\nme:plain", "me:$apr1$x$y"] {
            assert!(parse(text).unwrap_err().starts_with("line "), "{text}");
        }
    }
}
