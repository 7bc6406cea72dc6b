//! Who a registry is told that we are.

mod account;
mod auth_file;
mod helper;
mod keychain;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dhow_image::{TransferError, TransferErrorKind};

pub use account::{Account, AccountError};
pub use keychain::{Kept, Keychain};

use keychain::Place;

/// Where names and passwords come from.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// From the files that Docker, Podman and dhow keep them in, and the helpers that those name.
    Kept(Keychain),
    /// This name and password, for the registry that is asked. Mirrors get none.
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

/// What proves who we are.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// A name and a password or access token.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token for which the token server gives out others.
    Identity(String),
    /// A token that is shown to the registry as it is.
    Registry(String),
}

impl std::fmt::Debug for Proof {
    /// Without the secret, which must not come into a message or a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "the password of {user:?}"),
            Self::Identity(_) => f.write_str("an identity token"),
            Self::Registry(_) => f.write_str("a registry token"),
        }
    }
}

/// A proof, and where it is kept.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) proof: Proof,
    place: Option<Place>,
}

impl Login {
    /// A proof that is kept nowhere.
    pub(crate) fn given(proof: Proof) -> Self {
        Self { proof, place: None }
    }

    /// Puts a new identity token where the old one was.
    pub(crate) fn renew(&mut self, token: &str) -> Result<(), TransferError> {
        self.proof = Proof::Identity(token.to_owned());
        match &self.place {
            Some(place) => place.renew(token),
            None => Ok(()),
        }
    }
}

impl Proof {
    /// The value of an `Authorization` header that needs no token server: RFC 7617 and RFC 6750.
    pub(crate) fn header(&self) -> Option<String> {
        match self {
            Self::Password { user, password } => {
                let pair = BASE64_STANDARD.encode(format!("{user}:{password}"));
                Some(format!("Basic {pair}"))
            }
            Self::Registry(token) => Some(format!("Bearer {token}")),
            Self::Identity(_) => None,
        }
    }
}

impl Credentials {
    /// The login for a repository of a registry, as references name them.
    pub(crate) fn login(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Login>, TransferError> {
        match self {
            Self::Anonymous => Ok(None),
            Self::Login { user, password } => Ok(Some(Login::given(Proof::Password {
                user: user.clone(),
                password: password.clone(),
            }))),
            Self::Kept(keychain) => keychain.find(registry, repository),
        }
    }
}

/// The error for a place of passwords that cannot be used.
fn unusable(
    doing: impl Into<String>,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> TransferError {
    TransferError::caused(TransferErrorKind::Denied, doing, error)
}

/// How many ways to log in a file with this text knows for a repository; no helper is asked.
pub(crate) fn trial_of_text(
    text: &[u8],
    registry: &str,
    repository: &str,
) -> Result<usize, TransferError> {
    let file = auth_file::AuthFile {
        path: "config.json".into(),
        is_dockers: true,
    };
    let known = file.known_in(&file.parse(text)?, registry, repository)?;
    Ok(known.len())
}
