//! One file of logins: Docker's `config.json` or containers' `auth.json`. What else stands in it stays as it is.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dhow_image::{DEFAULT_REGISTRY, TransferError};
use serde::Serialize as _;
use serde_json::{Map, Value};

use super::account::{DEFAULT_REGISTRY_KEY, candidates, means};
use super::helper::Helper;
use super::{Proof, unusable};

/// A file of logins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AuthFile {
    pub(super) path: PathBuf,
    /// Whether Docker reads it, which knows registries and no parts of them.
    pub(super) is_dockers: bool,
}

/// What a file says, as a document of which we understand a part.
#[derive(Debug, Default)]
pub(super) struct Document(Map<String, Value>);

/// What a file knows of a repository.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// The entry itself, under this name.
    Entry(String, Proof),
    /// A helper is to be asked with this name.
    Ask(Helper, String),
}

impl AuthFile {
    /// Reads the file; one that is missing or empty says nothing.
    pub(super) fn read(&self) -> Result<Document, TransferError> {
        match fs_err::read(&self.path) {
            Ok(text) => self.parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Document::default()),
            Err(error) => Err(self.broken(error)),
        }
    }

    /// Reads what the file holds.
    pub(super) fn parse(&self, text: &[u8]) -> Result<Document, TransferError> {
        if text.trim_ascii().is_empty() {
            return Ok(Document::default());
        }
        serde_json::from_slice(text)
            .map(Document)
            .map_err(|error| self.broken(error))
    }

    /// Changes the file, alone, in one step that is on disk when this returns.
    pub(super) fn change<R>(
        &self,
        change: impl FnOnce(&mut Document) -> Result<R, TransferError>,
    ) -> Result<R, TransferError> {
        // A link stays a link: what it points to is replaced.
        let path = fs_err::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let dir = path.parent().unwrap_or(Path::new("/"));
        let failed =
            |error: io::Error| unusable(format!("writing the logins in {}", path.display()), error);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(failed)?;
        let handle = fs_err::File::open(dir).map_err(failed)?;
        handle.file().lock().map_err(failed)?;
        let mut document = self.read()?;
        let result = change(&mut document)?;
        let mut text = Vec::new();
        // Docker's own indentation, so that a file does not change its looks with its writer.
        let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut writer = serde_json::Serializer::with_formatter(&mut text, format);
        document
            .0
            .serialize(&mut writer)
            .map_err(|error| self.broken(error))?;
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
        let private = std::fs::Permissions::from_mode(0o600);
        file.as_file().set_permissions(private).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        handle.sync_all().map_err(failed)?;
        Ok(result)
    }

    /// The name of a whole registry in this file, and for the helpers that it names.
    pub(super) fn key<'a>(&self, registry: &'a str) -> &'a str {
        match registry {
            DEFAULT_REGISTRY if self.is_dockers => DEFAULT_REGISTRY_KEY,
            other => other,
        }
    }

    fn broken(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TransferError {
        unusable(
            format!("reading the logins in {}", self.path.display()),
            error,
        )
    }

    /// What the file knows of a repository: a helper for it, else the helper for all, and the entry.
    pub(super) fn known(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Vec<Known>, TransferError> {
        self.known_in(&self.read()?, registry, repository)
    }

    /// The same of what the file holds.
    pub(super) fn known_in(
        &self,
        document: &Document,
        registry: &str,
        repository: &str,
    ) -> Result<Vec<Known>, TransferError> {
        let mut known = Vec::new();
        let names = candidates(registry, repository);
        let helper = document.helper(&names, registry, self.key(registry));
        known.extend(helper.map(|(helper, key)| Known::Ask(helper, key)));
        let Some(auths) = document.section("auths") else {
            return Ok(known);
        };
        let exact = names.iter().find(|name| auths.contains_key(*name));
        let exact = exact.or_else(|| auths.keys().find(|key| means(key, registry)));
        if let Some(key) = exact
            && let Some(proof) = proof(&auths[key])
                .map_err(|error| self.broken(format!("the entry of {key}: {error}")))?
        {
            known.push(Known::Entry(key.clone(), proof));
        }
        Ok(known)
    }
}

impl Document {
    fn section(&self, name: &str) -> Option<&Map<String, Value>> {
        self.0.get(name)?.as_object()
    }

    /// The helper that has an entry, and the entry's name there: one that is named for it, else the one for all registries.
    pub(super) fn helper(
        &self,
        names: &[String],
        registry: &str,
        whole: &str,
    ) -> Option<(Helper, String)> {
        let named = self.named_helper(names, registry);
        named.or_else(|| Some((self.store()?, whole.to_owned())))
    }

    /// The helper that is named for one of these names, the first best, or for the registry.
    pub(super) fn named_helper(
        &self,
        names: &[String],
        registry: &str,
    ) -> Option<(Helper, String)> {
        let helpers = self.section("credHelpers")?;
        let exact = names.iter().find(|name| helpers.contains_key(*name));
        let key = exact.or_else(|| helpers.keys().find(|key| means(key, registry)))?;
        let word = helpers[key].as_str().filter(|word| !word.is_empty())?;
        Some((Helper(word.to_owned()), key.clone()))
    }

    /// The helper for all registries that have none of their own.
    fn store(&self) -> Option<Helper> {
        let word = self.0.get("credsStore")?.as_str()?;
        (!word.is_empty()).then(|| Helper(word.to_owned()))
    }

    /// Every helper that the document names.
    pub(super) fn helpers(&self) -> Vec<Helper> {
        let own = self.section("credHelpers").into_iter();
        let own = own.flat_map(|all| all.values().filter_map(Value::as_str));
        let mut found: Vec<Helper> = self.store().into_iter().collect();
        for word in own.filter(|word| !word.is_empty()) {
            let helper = Helper(word.to_owned());
            if !found.contains(&helper) {
                found.push(helper);
            }
        }
        found
    }

    /// The names of all entries.
    pub(super) fn keys(&self) -> Vec<String> {
        let auths = self.section("auths").into_iter();
        auths.flat_map(|all| all.keys().cloned()).collect()
    }

    /// Sets an entry; with no proof, one that says that a helper has it. Other members of the entry stay.
    pub(super) fn set(&mut self, key: &str, proof: Option<&Proof>) {
        let entry = self
            .auths()
            .entry(key)
            .or_insert_with(|| Value::Object(Map::new()));
        if !entry.is_object() {
            *entry = Value::Object(Map::new());
        }
        let Some(entry) = entry.as_object_mut() else {
            return;
        };
        let user = known_user(entry);
        for secret in [
            "auth",
            "username",
            "password",
            "identitytoken",
            "registrytoken",
        ] {
            entry.shift_remove(secret);
        }
        match proof {
            Some(Proof::Password { user, password }) => {
                let pair = BASE64_STANDARD.encode(format!("{user}:{password}"));
                entry.insert("auth".into(), pair.into());
            }
            Some(Proof::Identity(token)) => {
                if let Some(user) = user {
                    let pair = BASE64_STANDARD.encode(format!("{user}:"));
                    entry.insert("auth".into(), pair.into());
                }
                entry.insert("identitytoken".into(), token.clone().into());
            }
            Some(Proof::Registry(token)) => {
                entry.insert("registrytoken".into(), token.clone().into());
            }
            None => {}
        }
    }

    /// Takes an entry away; whether it was there.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        self.auths().shift_remove(key).is_some()
    }

    fn auths(&mut self) -> &mut Map<String, Value> {
        let auths = self
            .0
            .entry("auths")
            .or_insert_with(|| Value::Object(Map::new()));
        if !auths.is_object() {
            *auths = Value::Object(Map::new());
        }
        match auths {
            Value::Object(auths) => auths,
            // It has just been made one.
            _ => unreachable!("auths is an object"),
        }
    }
}

/// The proof in an entry; none in one that only says that a helper has it.
fn proof(entry: &Value) -> Result<Option<Proof>, String> {
    let text = |name: &str| {
        let value = entry.get(name).and_then(Value::as_str);
        value.filter(|value| !value.is_empty()).map(str::to_owned)
    };
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Proof::Identity(token)));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Proof::Registry(token)));
    }
    if let Some(auth) = text("auth") {
        let (user, password) = pair(&auth)?;
        return Ok(Some(Proof::Password { user, password }));
    }
    Ok(text("username").map(|user| Proof::Password {
        user,
        password: text("password").unwrap_or_default(),
    }))
}

fn pair(auth: &str) -> Result<(String, String), String> {
    let decoded = BASE64_STANDARD
        .decode(auth.trim())
        .map_err(|error| error.to_string())?;
    let pair = String::from_utf8(decoded).map_err(|error| error.to_string())?;
    let (user, password) = pair.split_once(':').ok_or("it has no ':'")?;
    // Docker's own writer once left NUL bytes at the end.
    Ok((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

fn known_user(entry: &Map<String, Value>) -> Option<String> {
    let auth = entry.get("auth").and_then(Value::as_str)?;
    pair(auth).ok().map(|(user, _)| user)
}
