//! Credential helpers: programs that keep passwords elsewhere. They speak docker-credential-helpers' protocol.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use dhow_image::TransferError;
use serde::{Deserialize, Serialize};

use super::{Proof, unusable};

/// What a helper says when it has no such entry. It is part of the protocol.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The name with which an identity token is kept.
const TOKEN_USER: &str = "<token>";

/// A helper by the word that configurations use for it: `pass` for `docker-credential-pass`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Helper(pub(super) String);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    username: String,
    secret: String,
}

impl Helper {
    fn program(&self) -> String {
        format!("docker-credential-{}", self.0)
    }

    /// The proof for an entry; none where the helper has no such entry.
    pub(super) fn get(&self, key: &str) -> Result<Option<Proof>, TransferError> {
        let Some(answer) = self.ask("get", key)? else {
            return Ok(None);
        };
        let entry: Entry =
            serde_json::from_slice(&answer).map_err(|error| self.failed("get", key, error))?;
        Ok(Some(match entry.username.as_str() {
            TOKEN_USER => Proof::Identity(entry.secret),
            _ => Proof::Password {
                user: entry.username,
                password: entry.secret,
            },
        }))
    }

    /// Keeps a proof.
    pub(super) fn store(&self, key: &str, proof: &Proof) -> Result<(), TransferError> {
        let (user, secret) = match proof {
            Proof::Password { user, password } => (user.as_str(), password),
            Proof::Identity(token) | Proof::Registry(token) => (TOKEN_USER, token),
        };
        let entry = Entry {
            server_url: key.to_owned(),
            username: user.to_owned(),
            secret: secret.clone(),
        };
        let text =
            serde_json::to_string(&entry).map_err(|error| self.failed("store", key, error))?;
        self.ask("store", &text).map(drop)
    }

    /// Forgets an entry; whether it was there.
    pub(super) fn erase(&self, key: &str) -> Result<bool, TransferError> {
        if self.get(key)?.is_none() {
            return Ok(false);
        }
        Ok(self.ask("erase", key)?.is_some())
    }

    /// The names of all entries.
    pub(super) fn list(&self) -> Result<Vec<String>, TransferError> {
        let Some(answer) = self.ask("list", "unused")? else {
            return Ok(Vec::new());
        };
        let all: BTreeMap<String, String> =
            serde_json::from_slice(&answer).map_err(|error| self.failed("list", "", error))?;
        Ok(all.into_keys().collect())
    }

    /// Runs the helper; its output, or none when it says that it has no such entry.
    fn ask(&self, action: &str, input: &str) -> Result<Option<Vec<u8>>, TransferError> {
        // What is stored holds the secret, so messages name the action alone.
        let name = if action == "store" { "" } else { input };
        let failed = |error: io::Error| self.failed(action, name, error);
        let mut child = Command::new(self.program())
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that ends without reading says why by its status.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return Ok(Some(output.stdout));
        }
        let said = String::from_utf8_lossy(&output.stdout);
        if said.trim() == NOT_FOUND {
            return Ok(None);
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        let words = [said.trim(), errors.trim()].join(" ");
        let words: String = words
            .chars()
            .filter(|c| !c.is_control())
            .take(300)
            .collect();
        let words = match words.trim() {
            "" => output.status.to_string(),
            words => words.to_owned(),
        };
        Err(self.failed(action, name, words))
    }

    fn failed(
        &self,
        action: &str,
        key: &str,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> TransferError {
        let of = if key.is_empty() { "" } else { " for " };
        unusable(
            format!("running `{} {action}`{of}{key}", self.program()),
            error,
        )
    }
}
