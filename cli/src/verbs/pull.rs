//! `dhow pull`

use std::process::ExitCode;

use dhow_image::ImageReference;
use dhow_registry_client::Wanted;
use serde_json::{Value, json};

use crate::context::Context;
use crate::platform_args::PlatformArgs;
use crate::platforms;
use crate::progress::{Telling, TellingArgs, bytes, count};
use crate::pulling::{Arrived, Pulling};
use crate::registry_args::{self, RegistryArgs};

/// Which image.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    telling: TellingArgs,
    #[command(flatten)]
    platforms: PlatformArgs,
    #[command(flatten)]
    registry: RegistryArgs,
    /// The image's name: [REGISTRY/]REPOSITORY[:TAG|@DIGEST]
    #[arg(value_parser = registry_args::name)]
    name: String,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let telling = args.telling.telling();
    telling.failing(pull(args, telling, context))
}

fn pull(args: &Args, telling: Telling, context: &Context) -> anyhow::Result<ExitCode> {
    let lease = context.store()?.lease()?;
    let progress = telling.reporter();
    let names = registry_args::candidates(&args.name)?;
    let pulling = Pulling {
        client: &args.registry.client()?,
        lease: &lease,
        wanted: Wanted {
            platform: &args.platforms.platform(),
            all_platforms: args.platforms.all(),
        },
        progress: progress.as_ref(),
    };
    let (name, arrived) = pulling.first(&names)?;
    if !args.platforms.all() {
        let platform = &args.platforms.platform();
        platforms::note_another(&arrived.image, &name, platform, progress.as_ref());
    }
    match telling {
        Telling::Program | Telling::ProgramBeside => telling.event(&outcome(&name, &arrived)),
        Telling::Quiet => println!("{name}"),
        Telling::People => {
            print_outcome(&name, &arrived);
            println!("{name}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The last event: what the name stands for now, and what came and did not have to come for it.
fn outcome(name: &ImageReference, arrived: &Arrived) -> Value {
    let mut aux = json!({
        "Name": name.to_string(),
        "Digest": arrived.digest,
        "ID": arrived.image.id().to_string(),
    });
    let status = match &arrived.pulled {
        Some(pulled) => {
            aux["Received"] = pulled.bytes.into();
            aux["Requests"] = pulled.requests.into();
            aux["LayersReceived"] = pulled.fetched.into();
            aux["LayersPresent"] = pulled.present.into();
            aux["Saved"] = pulled.bytes_saved.into();
            format!("Downloaded newer image for {}", name.familiar())
        }
        None => format!("Image is up to date for {}", name.familiar()),
    };
    json!({ "status": status, "aux": aux })
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
