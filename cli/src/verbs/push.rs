//! `dhow push`

use std::process::ExitCode;

use dhow_image::ImageReference;
use dhow_registry_client::Pushed;
use serde_json::{Value, json};

use crate::all_platforms;
use crate::context::Context;
use crate::images;
use crate::progress::{Telling, TellingArgs, bytes, count};
use crate::refetching::Refetching;
use crate::registry_args::{self, RegistryArgs};

/// Which image.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    telling: TellingArgs,
    /// Send the images for all platforms that were pulled with --all-platforms or loaded together [default: the one that is run here]
    #[arg(short, long)]
    all_platforms: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    /// The image's name, which says where to: [REGISTRY/]REPOSITORY[:TAG]
    #[arg(value_parser = registry_args::name)]
    name: String,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let telling = args.telling.telling();
    telling.failing(push(args, telling, context))
}

fn push(args: &Args, telling: Telling, context: &Context) -> anyhow::Result<ExitCode> {
    let store = context.store()?;
    let lease = store.lease()?;
    let (name, image) = images::find_named(&store, &args.name)?;
    let name = &name;
    let progress = telling.reporter();
    let manifest = &all_platforms::to_send(
        &lease,
        &image,
        Some(name),
        args.all_platforms,
        progress.as_ref(),
    )?;
    let client = args.registry.client()?;
    let source = Refetching {
        lease: &lease,
        client: &client,
        progress: progress.as_ref(),
    };
    let pushed = client.push(
        name,
        manifest,
        &source,
        &store.locations(),
        progress.as_ref(),
    )?;
    match telling {
        Telling::Quiet => println!("{}", name.familiar()),
        Telling::Program | Telling::ProgramBeside => telling.event(&outcome(name, &pushed)),
        Telling::People => print_outcome(name, &pushed),
    }
    Ok(ExitCode::SUCCESS)
}

/// The last event: what the registry has now, and what it took.
fn outcome(name: &ImageReference, pushed: &Pushed) -> Value {
    let status = match pushed.unchanged {
        true => format!("The registry has {} already", name.familiar()),
        false => format!("Pushed {}", name.familiar()),
    };
    json!({ "status": status, "aux": {
        "Name": name.to_string(),
        "Tag": name.tag(),
        "Digest": pushed.manifest.digest().to_string(),
        "Size": pushed.manifest.size(),
        "Sent": pushed.bytes,
        "Requests": pushed.requests,
    }})
}

fn print_outcome(name: &ImageReference, pushed: &Pushed) {
    let manifest = &pushed.manifest;
    println!(
        "{}: digest: {} size: {}",
        name.tag().unwrap_or(&name.manifest_name()),
        manifest.digest(),
        manifest.size()
    );
    let counted = format!(
        "{} in {}",
        bytes(pushed.bytes),
        count(pushed.requests, "request")
    );
    if pushed.unchanged {
        println!("The registry has this image under this name already; sent {counted}");
    } else {
        println!("Sent {counted}");
    }
}
