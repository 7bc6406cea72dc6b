//! `dhow import`

mod changes;

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use dhow_image::{ImageReference, Platform};
use dhow_image_store::ImportConfig;

use crate::context::Context;

/// Makes an image of one layer from a root file system's tar, compressed or not.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The tar (plain, gzip or zstd); - for standard input
    tar: PathBuf,
    /// The image's name; without one it is known by its id
    name: Option<ImageReference>,
    /// Set a part of the image's config, as a Dockerfile would: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR, STOPSIGNAL
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,
    /// A word on where the image came from
    #[arg(short, long)]
    message: Option<String>,
    /// For which platform the image is [default: this machine's]
    #[arg(long, value_name = "OS/ARCHITECTURE")]
    platform: Option<Platform>,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let config = ImportConfig {
        config: changes::config(&args.changes)?,
        platform: args.platform.clone().unwrap_or_else(Platform::host),
        created: Some(jiff::Timestamp::now().to_string()),
        message: Some(
            args.message
                .clone()
                .unwrap_or_else(|| format!("Imported from {}", args.tar.display())),
        ),
    };
    let tar: Box<dyn Read + Send> = if args.tar.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(fs_err::File::open(&args.tar)?)
    };
    let store = context.store()?;
    let lease = store.lease()?;
    let image = store
        .import(&lease, tar, config)
        .with_context(|| format!("importing {}", args.tar.display()))?;
    match &args.name {
        Some(name) => store.tag(name, image.descriptor())?,
        None => store.keep(image.descriptor())?,
    }
    println!("{}", image.id());
    Ok(ExitCode::SUCCESS)
}
