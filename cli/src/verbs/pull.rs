//! `dhow pull`

use std::process::ExitCode;

use dhow_image::{ImageReference, Platform, ReferenceError};

use crate::context::Context;
use crate::images::{self, Arrived};
use crate::progress::{self, bytes, count};
use crate::registry_args::{self, RegistryArgs};

/// Which image.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print the name alone
    #[arg(short, long)]
    quiet: bool,
    /// The platform to choose from an image for several, as OS/ARCHITECTURE[/VARIANT] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    #[command(flatten)]
    registry: RegistryArgs,
    /// The image's name: [REGISTRY/]REPOSITORY[:TAG|@DIGEST]
    #[arg(value_parser = checked)]
    name: String,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let lease = context.store()?.lease()?;
    let progress = progress::reporter(args.quiet);
    let client = args.registry.client()?;
    let mut failures = Vec::new();
    for name in registry_args::candidates(&args.name)? {
        match images::pull(&client, &lease, &name, &platform, progress.as_ref()) {
            Ok(arrived) => {
                if !args.quiet {
                    print_outcome(&name, &arrived);
                }
                println!("{name}");
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => failures.push(error),
        }
    }
    if failures.len() == 1 {
        return Err(failures.remove(0));
    }
    let each: Vec<String> = failures.iter().map(|error| format!("{error:#}")).collect();
    anyhow::bail!(
        "{} is in none of the registries that are searched: {}",
        args.name,
        each.join("; ")
    )
}

/// The text of a name, which may be short.
fn checked(text: &str) -> Result<String, ReferenceError> {
    text.parse::<ImageReference>().map(|_| text.to_owned())
}

fn print_outcome(name: &ImageReference, arrived: &Arrived) {
    println!("Digest: {}", arrived.digest);
    match &arrived.pulled {
        Some(pulled) => {
            println!("Status: Downloaded newer image for {}", name.familiar());
            let mut line = format!(
                "Received {} in {}",
                bytes(pulled.bytes),
                count(pulled.requests, "request")
            );
            if pulled.present > 0 {
                line = format!(
                    "{line}; {} of {} layers were here already, which saved {}",
                    pulled.present,
                    pulled.present + pulled.fetched,
                    bytes(pulled.bytes_saved)
                );
            }
            println!("{line}");
        }
        None => println!("Status: Image is up to date for {}", name.familiar()),
    }
}
