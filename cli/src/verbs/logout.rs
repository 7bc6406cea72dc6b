//! `dhow logout`

use std::process::ExitCode;

use anyhow::ensure;
use dhow_registry_client::{Account, Keychain};

/// Where not to be known any more.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Forget all logins
    #[arg(short, long)]
    all: bool,
    /// The file of logins [default: $REGISTRY_AUTH_FILE, else ~/.docker/config.json and then containers' auth.json]
    #[arg(long, value_name = "FILE")]
    authfile: Option<std::path::PathBuf>,
    /// The registry, or a part of it [default: docker.io]
    #[arg(value_name = "SERVER")]
    server: Option<Account>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let keychain = match &args.authfile {
        Some(path) => Keychain::at(path),
        None => Keychain::standard(),
    };
    if args.all {
        ensure!(
            args.server.is_none(),
            "--all forgets every login; name no registry with it"
        );
        for name in keychain.erase_all()? {
            println!("Removing login credentials for {name}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let account = match &args.server {
        Some(account) => account.clone(),
        None => "".parse()?,
    };
    if keychain.erase(&account)? {
        println!("Removing login credentials for {account}");
    } else {
        println!("Not logged in to {account}");
    }
    Ok(ExitCode::SUCCESS)
}
