//! All places where logins are kept on this machine, in the order in which they are asked.

use std::path::{Path, PathBuf};

use dhow_image::{TransferError, TransferErrorKind};

use super::account::{Account, means};
use super::auth_file::{AuthFile, Known};
use super::helper::Helper;
use super::{Login, Proof, unusable};

/// The files of logins. The first is the one that is written to.
#[derive(Clone, Debug)]
pub struct Keychain {
    files: Vec<AuthFile>,
}

/// Where a login has been put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In this file, for everyone to read who may read the file.
    File(PathBuf),
    /// With this program.
    Helper(String),
}

/// Where a login was found.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Entry(AuthFile, String),
    Helper(Helper, String),
}

impl Place {
    /// Puts a new identity token there.
    pub(super) fn renew(&self, token: &str) -> Result<(), TransferError> {
        let proof = Proof::Identity(token.to_owned());
        match self {
            Self::Entry(file, key) => file.change(|document| {
                document.set(key, Some(&proof));
                Ok(())
            }),
            Self::Helper(helper, key) => helper.store(key, &proof),
        }
    }
}

impl Keychain {
    /// This machine's: `$REGISTRY_AUTH_FILE` alone where it is set; else Docker's `config.json` (in `$DOCKER_CONFIG` or `~/.docker`) and
    /// containers' `auth.json` (in `$XDG_RUNTIME_DIR/containers` or `/run/containers/UID`, and in `$XDG_CONFIG_HOME/containers`).
    pub fn standard() -> Self {
        let set = |name| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        if let Some(path) = set("REGISTRY_AUTH_FILE") {
            return Self::at(path);
        }
        let home = set("HOME");
        let under_home = |rest: &str| home.as_ref().map(|home| home.join(rest));
        let docker = set("DOCKER_CONFIG").or_else(|| under_home(".docker"));
        let runtime = set("XDG_RUNTIME_DIR").map(|dir| dir.join("containers"));
        let runtime = runtime.unwrap_or_else(|| {
            let user = rustix::process::geteuid().as_raw();
            PathBuf::from(format!("/run/containers/{user}"))
        });
        let config = set("XDG_CONFIG_HOME").or_else(|| under_home(".config"));
        let containers = [Some(runtime), config.map(|dir| dir.join("containers"))];
        let containers = containers.into_iter().flatten().map(|dir| AuthFile {
            path: dir.join("auth.json"),
            is_dockers: false,
        });
        let docker = docker.map(|dir| AuthFile {
            path: dir.join("config.json"),
            is_dockers: true,
        });
        Self {
            files: docker.into_iter().chain(containers).collect(),
        }
    }

    /// One file alone, of containers' kind unless it has the name of Docker's.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let is_dockers = path.file_name().is_some_and(|name| name == "config.json");
        Self {
            files: vec![AuthFile { path, is_dockers }],
        }
    }

    /// The login for a repository: the first file's that has one.
    pub(super) fn find(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Login>, TransferError> {
        for file in &self.files {
            for known in file.known(registry, repository)? {
                let (proof, place) = match known {
                    Known::Entry(key, proof) => (proof, Place::Entry(file.clone(), key)),
                    Known::Ask(helper, key) => match helper.get(&key)? {
                        Some(proof) => (proof, Place::Helper(helper, key)),
                        None => continue,
                    },
                };
                return Ok(Some(Login {
                    proof,
                    place: Some(place),
                }));
            }
        }
        Ok(None)
    }

    /// What is kept for an account: its proof.
    ///
    /// # Errors
    /// When a file or a helper cannot be used.
    pub fn look_up(&self, account: &Account) -> Result<Option<Proof>, TransferError> {
        let login = self.find(account.registry(), account.namespace().unwrap_or("probe"))?;
        Ok(login.map(|login| login.proof))
    }

    /// Keeps a login in the first file, or with the helper that it names for the account.
    ///
    /// # Errors
    /// When the file or helper cannot be used, or the file has no place for a part of a registry.
    pub fn store(&self, account: &Account, proof: &Proof) -> Result<Kept, TransferError> {
        let file = self.writable()?;
        let key = key(file, account)?;
        let helper = keeper(file, account)?;
        if let Some((helper, key)) = &helper {
            helper.store(key, proof)?;
        }
        file.change(|document| {
            document.set(&key, Some(proof).filter(|_| helper.is_none()));
            Ok(())
        })?;
        Ok(match helper {
            Some((helper, _)) => Kept::Helper(format!("docker-credential-{}", helper.0)),
            None => Kept::File(file.path.clone()),
        })
    }

    /// Forgets a login, everywhere; whether there was one.
    ///
    /// # Errors
    /// When a file or helper cannot be used.
    pub fn erase(&self, account: &Account) -> Result<bool, TransferError> {
        let mut erased = false;
        for file in &self.files {
            let document = file.read()?;
            let own = account.to_string();
            let fits = |key: &String| match account.namespace() {
                Some(_) => *key == own,
                None => means(key, account.registry()),
            };
            let entries: Vec<String> = document.keys().into_iter().filter(fits).collect();
            if let Some((helper, key)) = keeper(file, account)? {
                erased |= helper.erase(&key)?;
            }
            if !entries.is_empty() {
                erased |= remove(file, &entries)?;
            }
        }
        Ok(erased)
    }

    /// Forgets every login of the first file and of its helpers; their names.
    ///
    /// # Errors
    /// When the file or a helper cannot be used.
    pub fn erase_all(&self) -> Result<Vec<String>, TransferError> {
        let file = self.writable()?;
        let document = file.read()?;
        let mut gone = document.keys();
        for helper in document.helpers() {
            for key in helper.list()? {
                if helper.erase(&key)? && !gone.contains(&key) {
                    gone.push(key);
                }
            }
        }
        if !document.keys().is_empty() {
            remove(file, &document.keys())?;
        }
        Ok(gone)
    }

    /// The file that is written to.
    ///
    /// # Errors
    /// When there is none.
    pub fn path(&self) -> Result<&Path, TransferError> {
        self.writable().map(|file| file.path.as_path())
    }

    fn writable(&self) -> Result<&AuthFile, TransferError> {
        self.files.first().ok_or_else(|| {
            unusable(
                "keeping a login",
                "there is no place for it; set $HOME or $DOCKER_CONFIG, or name a file with --authfile",
            )
        })
    }
}

fn remove(file: &AuthFile, keys: &[String]) -> Result<bool, TransferError> {
    file.change(|document| {
        let removed = keys.iter().filter(|key| document.remove(key)).count();
        Ok(removed > 0)
    })
}

/// The helper that keeps an account for a file, and the account's name there. Helpers for all registries know no parts of them.
fn keeper(file: &AuthFile, account: &Account) -> Result<Option<(Helper, String)>, TransferError> {
    let document = file.read()?;
    let names = [account.to_string()];
    Ok(match account.namespace() {
        None => document.helper(&names, account.registry(), file.key(account.registry())),
        Some(_) => {
            let named = document.named_helper(&names, account.registry());
            named.filter(|(_, key)| *key == names[0])
        }
    })
}

/// The name of an account in a file.
fn key(file: &AuthFile, account: &Account) -> Result<String, TransferError> {
    match (file.is_dockers, account.namespace()) {
        (_, None) => Ok(file.key(account.registry()).to_owned()),
        // Docker would take it for the whole registry's.
        (true, Some(_)) => Err(TransferError::new(
            TransferErrorKind::Denied,
            format!(
                "{} is read by Docker, which knows no logins for a part of a registry; log in to {} itself, or keep this login elsewhere with --authfile FILE",
                file.path.display(),
                account.registry()
            ),
        )),
        (false, Some(_)) => Ok(account.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use std::os::unix::fs::PermissionsExt as _;

    struct Place {
        dir: tempfile::TempDir,
        keychain: Keychain,
    }

    fn place(name: &str, content: &str) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs_err::write(&path, content).unwrap();
        let keychain = Keychain::at(path);
        Place { dir, keychain }
    }

    impl Place {
        fn of(&self, registry: &str, repository: &str) -> Option<Proof> {
            let login = self.keychain.find(registry, repository).unwrap();
            login.map(|login| login.proof)
        }

        fn text(&self) -> String {
            fs_err::read_to_string(self.keychain.path().unwrap()).unwrap()
        }
    }

    fn password(user: &str, password: &str) -> Option<Proof> {
        Some(Proof::Password {
            user: user.into(),
            password: password.into(),
        })
    }

    #[test]
    fn entries_are_found_under_the_names_that_tools_write() {
        let auth = BASE64_STANDARD.encode("me:pass:word");
        let place = place(
            "config.json",
            &format!(
                r#"{{"auths":{{"localhost:5000":{{"auth":"{auth}"}},
            "https://index.docker.io/v1/":{{"username":"u","password":"p"}},
            "https://example.org/v2/":{{"auth":"{auth}"}},"empty.org":{{}},
            "idp.org":{{"auth":"bWU6","identitytoken":"it"}},"raw.org":{{"registrytoken":"rt"}}}}}}"#
            ),
        );
        assert_eq!(place.of("localhost:5000", "a"), password("me", "pass:word"));
        assert_eq!(place.of("docker.io", "library/a"), password("u", "p"));
        assert_eq!(place.of("example.org", "a"), password("me", "pass:word"));
        assert_eq!(place.of("empty.org", "a"), None);
        assert_eq!(place.of("other.org", "a"), None);
        assert_eq!(place.of("idp.org", "a"), Some(Proof::Identity("it".into())));
        assert_eq!(place.of("raw.org", "a"), Some(Proof::Registry("rt".into())));
    }

    #[test]
    fn the_entry_that_fits_best_is_the_repositorys() {
        let entry = |user: &str| BASE64_STANDARD.encode(format!("{user}:p"));
        let place = place(
            "auth.json",
            &format!(
                r#"{{"auths":{{"a.org":{{"auth":"{}"}},"a.org/team":{{"auth":"{}"}},"a.org/team/app":{{"auth":"{}"}},
                "docker.io/library":{{"auth":"{}"}}}}}}"#,
                entry("all"),
                entry("team"),
                entry("app"),
                entry("official"),
            ),
        );
        for (registry, repository, user) in [
            ("a.org", "team/app", "app"),
            ("a.org", "team/app/deeper", "app"),
            ("a.org", "team/apple", "team"),
            ("a.org", "other", "all"),
            ("docker.io", "library/busybox", "official"),
        ] {
            assert_eq!(
                place.of(registry, repository),
                password(user, "p"),
                "{repository}"
            );
        }
        assert_eq!(place.of("docker.io", "other/app"), None);
    }

    #[test]
    fn what_else_stands_in_the_file_stays() {
        let before = r#"{"psFormat":"table","auths":{"b.org":{"auth":"Yjpi","email":"b@b.org"},"a.org":{"auth":"YTph"}},"proxies":{"default":{"httpProxy":"x"}}}"#;
        let place = place("config.json", before);
        let link = place.dir.path().join("link.json");
        std::os::unix::fs::symlink(place.keychain.path().unwrap(), &link).unwrap();
        let account: Account = "b.org".parse().unwrap();
        let kept = Keychain::at(&link)
            .store(&account, &password("new", "pw").unwrap())
            .unwrap();
        assert_eq!(kept, Kept::File(link.clone()));
        assert!(fs_err::symlink_metadata(&link).unwrap().is_symlink());
        let after: serde_json::Value = serde_json::from_str(&place.text()).unwrap();
        assert_eq!(after["psFormat"], "table");
        assert_eq!(after["proxies"]["default"]["httpProxy"], "x");
        assert_eq!(after["auths"]["b.org"]["email"], "b@b.org");
        assert_eq!(
            after["auths"]["b.org"]["auth"],
            BASE64_STANDARD.encode("new:pw")
        );
        assert_eq!(after["auths"]["a.org"]["auth"], "YTph");
        let mode = fs_err::metadata(place.keychain.path().unwrap())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let keys: Vec<&String> = after.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["psFormat", "auths", "proxies"]);
        assert!(place.keychain.erase(&account).unwrap());
        assert!(!place.keychain.erase(&account).unwrap());
        assert_eq!(place.of("b.org", "x"), None);
        assert_eq!(place.of("a.org", "x"), password("a", "a"));
    }

    #[test]
    fn a_part_of_a_registry_is_kept_where_it_is_understood() {
        let account: Account = "a.org/team".parse().unwrap();
        let docker = place("config.json", "{}");
        let refused = docker
            .keychain
            .store(&account, &password("u", "p").unwrap());
        assert!(refused.unwrap_err().to_string().contains("--authfile"));
        let other = place("auth.json", "");
        other
            .keychain
            .store(&account, &password("u", "p").unwrap())
            .unwrap();
        assert_eq!(other.of("a.org", "team/x"), password("u", "p"));
        assert_eq!(other.of("a.org", "else"), None);
        assert_eq!(other.keychain.erase_all().unwrap(), ["a.org/team"]);
        assert_eq!(other.of("a.org", "team/x"), None);
    }

    #[test]
    fn logins_at_the_same_time_lose_none() {
        let place = place("auth.json", "{}");
        std::thread::scope(|scope| {
            for at in 0..8 {
                let keychain = &place.keychain;
                scope.spawn(move || {
                    let account: Account = format!("r{at}.org").parse().unwrap();
                    keychain
                        .store(&account, &password("u", "p").unwrap())
                        .unwrap();
                });
            }
        });
        for at in 0..8 {
            assert_eq!(place.of(&format!("r{at}.org"), "x"), password("u", "p"));
        }
    }

    #[test]
    fn a_helper_that_is_missing_is_named() {
        let place = place("config.json", r#"{"credHelpers":{"a.org":"of-nobody"}}"#);
        let error = place.keychain.find("a.org", "x").err().unwrap();
        assert!(
            error.to_string().contains("docker-credential-of-nobody"),
            "{error}"
        );
        assert_eq!(place.of("b.org", "x"), None);
    }

    #[test]
    fn a_broken_file_is_an_error_and_a_missing_one_is_none() {
        for text in ["{", r#"{"auths":{"a.org":{"auth":"%"}}}"#] {
            assert!(
                place("config.json", text)
                    .keychain
                    .find("a.org", "x")
                    .is_err()
            );
        }
        let missing = Keychain::at("/nonexistent/config.json");
        assert!(missing.find("a.org", "x").unwrap().is_none());
    }
}
