//! `dhow push`

use std::process::ExitCode;

use anyhow::Context as _;
use dhow_image::ImageReference;

use crate::context::Context;
use crate::progress::{self, bytes, count};
use crate::registry_args::RegistryArgs;

/// Which image.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print the name alone
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    /// The image's name, which says where to: [REGISTRY/]REPOSITORY[:TAG]
    name: ImageReference,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let name = &args.name;
    let store = context.store()?;
    let lease = store.lease()?;
    let image = store.image(name)?.with_context(|| {
        format!(
            "there is no image {}; `dhow images` lists what there is, and `dhow tag` names it",
            name.familiar()
        )
    })?;
    let progress = progress::reporter(args.quiet);
    let image = store.distributable(&lease, &image, progress.as_ref())?;
    let manifest = image.descriptor();
    let pushed = args.registry.client()?.push(
        name,
        manifest,
        &store,
        &store.locations(),
        progress.as_ref(),
    )?;
    if args.quiet {
        println!("{}", name.familiar());
        return Ok(ExitCode::SUCCESS);
    }
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
    Ok(ExitCode::SUCCESS)
}
