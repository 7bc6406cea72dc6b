//! What registries answer and what files say of them, on its way through the client without a network: what is tried with hostile
//! texts.

use dhow_image::{DocumentKind, ImageReference, Links, Platform, TransferError};

use crate::challenge::Challenge;
use crate::{credentials, manifest, registries};

/// Reads a `WWW-Authenticate` header; gives what is answered to.
pub fn challenge(header: &str) -> Option<String> {
    Challenge::best(std::iter::once(header)).map(|challenge| format!("{challenge:?}"))
}

/// Reads a manifest or index that a registry says to be of this media type, as a pull does; of an index, chooses the manifest for the
/// platform.
///
/// # Errors
/// When it is neither, or has nothing for the platform.
pub fn document(
    bytes: &[u8],
    said: Option<&str>,
    reference: &ImageReference,
    platform: &Platform,
) -> Result<(), TransferError> {
    let media_type = manifest::media_type(bytes, said, reference)?;
    Links::read(&media_type, bytes)?;
    match DocumentKind::of(&media_type) {
        Some(DocumentKind::Index) => manifest::choose(bytes, platform, reference).map(drop),
        _ => Ok(()),
    }
}

/// Reads a `registries.conf` and asks it for a name; gives how many places the name has.
///
/// # Errors
/// When the text cannot be understood, or leads the name nowhere.
pub fn registries_conf(text: &str, name: &str) -> Result<usize, TransferError> {
    registries::trial_of_conf(text, name)
}

/// Reads a `hosts.toml` and asks it for a reference; gives how many places the reference has.
///
/// # Errors
/// As [`registries_conf`].
pub fn hosts_toml(text: &str, reference: &ImageReference) -> Result<usize, TransferError> {
    registries::trial_of_hosts(text, reference)
}

/// Reads a file of logins, Docker's or containers', for a repository; gives how many ways to log in it knows. No helper is asked.
///
/// # Errors
/// When the file cannot be understood.
pub fn logins(text: &[u8], registry: &str, repository: &str) -> Result<usize, TransferError> {
    credentials::trial_of_text(text, registry, repository)
}
