//! How registries are spoken to, as the verbs that speak to them take it.

use std::path::PathBuf;

use dhow_image::{ImageReference, ReferenceError};
use dhow_registry_client::{Client, ClientOptions, Credentials, Keychain, Registries, Trust};

/// Registries that may have any certificate or speak plain HTTP, separated by commas; those of this machine itself need not be named.
const INSECURE: &str = "DHOW_INSECURE_REGISTRIES";
/// Directories of certificates by host, separated by colons, in the place of the usual ones.
const CERTIFICATES: &str = "DHOW_CERTS_D";

// No doc comment: it would take the place of the verb's own.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct RegistryArgs {
    /// Whether registries have to speak TLS and prove who they are
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    tls_verify: bool,
    /// A directory with the certificates of the registry's authority (*.crt) and of this client (*.cert, *.key) [default: HOST[:PORT]
    /// in /etc/containers/certs.d or /etc/docker/certs.d]
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// The file of logins [default: $REGISTRY_AUTH_FILE, else ~/.docker/config.json and then containers' auth.json]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
}

impl RegistryArgs {
    /// The logins of this machine.
    pub(crate) fn keychain(&self) -> Keychain {
        match &self.authfile {
            Some(path) => Keychain::at(path),
            None => Keychain::standard(),
        }
    }

    /// A client that works as was asked, and asks with the logins that there are.
    ///
    /// # Errors
    /// When a file was named that is not there: nobody means to be nobody by it.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        if let Some(path) = &self.authfile {
            let path_shown = path.display();
            anyhow::ensure!(
                path.exists(),
                "there is no file of logins {path_shown}; `dhow login --authfile {path_shown} SERVER` makes it"
            );
        }
        Ok(Client::new(self.options()?))
    }

    /// How such a client works.
    pub(crate) fn options(&self) -> anyhow::Result<ClientOptions> {
        let mut options = options()?;
        options.credentials = Credentials::Kept(self.keychain());
        options.trust.all_insecure = !self.tls_verify;
        options.trust.directory.clone_from(&self.cert_dir);
        Ok(options)
    }
}

/// A client that works as the environment has it.
pub(crate) fn client() -> anyhow::Result<Client> {
    Ok(Client::new(options()?))
}

/// The text of a name, which may be short.
pub(crate) fn name(text: &str) -> Result<String, ReferenceError> {
    text.parse::<ImageReference>().map(|_| text.to_owned())
}

/// What a name without a registry can mean on this machine, best first.
pub(crate) fn candidates(text: &str) -> anyhow::Result<Vec<ImageReference>> {
    Ok(Registries::standard(Vec::new())?.candidates(text)?)
}

fn options() -> anyhow::Result<ClientOptions> {
    let insecure = std::env::var(INSECURE).unwrap_or_default();
    let insecure = insecure.split(',').map(str::trim);
    let mut trust = Trust {
        insecure: insecure
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect(),
        ..Trust::default()
    };
    if let Some(directories) = std::env::var_os(CERTIFICATES) {
        trust.directories = std::env::split_paths(&directories).collect();
    }
    Ok(ClientOptions {
        registries: Registries::standard(trust.directories.clone())?,
        trust,
        ..ClientOptions::default()
    })
}
