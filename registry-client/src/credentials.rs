//! Who a registry is told that we are.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dhow_image::{DEFAULT_REGISTRY, TransferError, TransferErrorKind};
use serde::Deserialize;

/// Under this name the default registry's password is kept since Docker's first days.
const DEFAULT_REGISTRY_KEY: &str = "https://index.docker.io/v1/";

/// Where names and passwords come from.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// From Docker's `config.json`: the file named, else `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`; and from the
    /// credential helpers that it names. A file that is not there means none.
    DockerConfig(Option<PathBuf>),
    /// This name and password, for every registry that asks.
    Login {
        /// The name.
        user: String,
        /// The password or access token.
        password: String,
    },
    /// Nobody.
    #[default]
    Anonymous,
}

/// A name and a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    user: String,
    password: String,
}

impl Login {
    /// The value of an `Authorization` header: RFC 7617.
    pub(crate) fn basic(&self) -> String {
        let pair = format!("{}:{}", self.user, self.password);
        format!("Basic {}", BASE64_STANDARD.encode(pair))
    }
}

/// What we use of `config.json`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfig {
    auths: HashMap<String, Entry>,
    /// By registry: which helper knows its password.
    cred_helpers: HashMap<String, String>,
    /// The helper that knows all others.
    creds_store: String,
}

/// What a credential helper answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
}

impl Credentials {
    /// The login for a registry, as references name it.
    pub(crate) fn login(&self, registry: &str) -> Result<Option<Login>, TransferError> {
        match self {
            Self::Anonymous => Ok(None),
            Self::Login { user, password } => Ok(Some(Login {
                user: user.clone(),
                password: password.clone(),
            })),
            Self::DockerConfig(path) => match path.clone().or_else(default_config) {
                Some(path) => from_config(&path, registry),
                None => Ok(None),
            },
        }
    }
}

fn default_config() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    match set("DOCKER_CONFIG") {
        Some(dir) => Some(PathBuf::from(dir).join("config.json")),
        None => set("HOME").map(|home| PathBuf::from(home).join(".docker/config.json")),
    }
}

fn from_config(path: &PathBuf, registry: &str) -> Result<Option<Login>, TransferError> {
    let broken = |error: Box<dyn std::error::Error + Send + Sync>| {
        let message = format!("reading the passwords in {}", path.display());
        TransferError::caused(TransferErrorKind::Denied, message, error)
    };
    let text = match fs_err::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(broken(error.into())),
    };
    let config: DockerConfig = serde_json::from_slice(&text).map_err(|e| broken(e.into()))?;
    let helper = match config.cred_helpers.get(registry) {
        Some(helper) => Some(helper),
        None => Some(&config.creds_store).filter(|helper| !helper.is_empty()),
    };
    if let Some(helper) = helper
        && let Some(login) = ask_helper(helper, registry)?
    {
        return Ok(Some(login));
    }
    let Some(entry) = entry(&config, registry) else {
        return Ok(None);
    };
    if entry.auth.is_empty() {
        let login = Login {
            user: entry.username.clone(),
            password: entry.password.clone(),
        };
        return Ok((!login.user.is_empty()).then_some(login));
    }
    let decoded = BASE64_STANDARD
        .decode(entry.auth.trim())
        .map_err(|error| broken(error.into()))?;
    let pair = String::from_utf8(decoded).map_err(|error| broken(error.into()))?;
    let (user, password) = pair
        .split_once(':')
        .ok_or_else(|| broken(format!("the entry of {registry} has no ':'").into()))?;
    Ok(Some(Login {
        user: user.to_owned(),
        // Docker's own writer once left NUL bytes at the end.
        password: password.trim_end_matches('\0').to_owned(),
    }))
}

/// Asks a credential helper: the registry's name on standard input, a JSON document or a word of regret on standard output.
fn ask_helper(helper: &str, registry: &str) -> Result<Option<Login>, TransferError> {
    let program = format!("docker-credential-{helper}");
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        let message = format!("asking {program} for the password of {registry}");
        TransferError::caused(TransferErrorKind::Denied, message, error)
    };
    let key = match registry {
        DEFAULT_REGISTRY => DEFAULT_REGISTRY_KEY,
        other => other,
    };
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(error.into()))?;
    if let Some(mut input) = child.stdin.take() {
        // A helper that ends without reading says why by its status.
        let _ = writeln!(input, "{key}");
    }
    let output = child
        .wait_with_output()
        .map_err(|error| failed(error.into()))?;
    if !output.status.success() {
        // That it knows no password for this registry.
        return Ok(None);
    }
    let answer: HelperAnswer =
        serde_json::from_slice(&output.stdout).map_err(|error| failed(error.into()))?;
    if answer.username == "<token>" {
        return Err(failed(
            "it has an identity token, which dhow cannot use; log in with a password or access token".into(),
        ));
    }
    Ok(Some(Login {
        user: answer.username,
        password: answer.secret,
    }))
}

/// The entry of a registry; some tools write a scheme or a path around its name.
fn entry<'a>(config: &'a DockerConfig, registry: &str) -> Option<&'a Entry> {
    if registry == DEFAULT_REGISTRY
        && let Some(entry) = config.auths.get(DEFAULT_REGISTRY_KEY)
    {
        return Some(entry);
    }
    let bare = |key: &'a str| {
        let key = key.strip_prefix("https://").unwrap_or(key);
        let key = key.strip_prefix("http://").unwrap_or(key);
        key.split('/').next().unwrap_or_default()
    };
    config.auths.get(registry).or_else(|| {
        let mut all = config.auths.iter();
        all.find(|(key, _)| bare(key) == registry)
            .map(|(_, entry)| entry)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(config: &str, registry: &str) -> Result<Option<String>, TransferError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs_err::write(&path, config).unwrap();
        let login = Credentials::DockerConfig(Some(path)).login(registry)?;
        Ok(login.map(|login| format!("{}/{}", login.user, login.password)))
    }

    #[test]
    fn entries_are_found_under_the_names_that_tools_write() {
        let auth = BASE64_STANDARD.encode("me:pass:word");
        let config = format!(
            r#"{{"auths":{{"localhost:5000":{{"auth":"{auth}"}},
            "https://index.docker.io/v1/":{{"username":"u","password":"p"}},
            "https://example.org/v2/":{{"auth":"{auth}"}},"empty.org":{{}}}}}}"#
        );
        let of = |registry| login(&config, registry).unwrap();
        assert_eq!(of("localhost:5000").unwrap(), "me/pass:word");
        assert_eq!(of("docker.io").unwrap(), "u/p");
        assert_eq!(of("example.org").unwrap(), "me/pass:word");
        assert_eq!(of("empty.org"), None);
        assert_eq!(of("other.org"), None);
    }

    #[test]
    fn a_helper_that_is_missing_is_named() {
        let config = r#"{"credHelpers":{"a.org":"of-nobody"}}"#;
        let error = login(config, "a.org").unwrap_err();
        assert!(
            error.to_string().contains("docker-credential-of-nobody"),
            "{error}"
        );
        assert_eq!(login(config, "b.org").unwrap(), None);
    }

    #[test]
    fn a_broken_file_is_an_error_and_a_missing_one_is_none() {
        assert!(login("{", "a.org").is_err());
        assert!(login(r#"{"auths":{"a.org":{"auth":"%"}}}"#, "a.org").is_err());
        let missing = Credentials::DockerConfig(Some("/nonexistent/config.json".into()));
        assert!(missing.login("a.org").unwrap().is_none());
    }
}
