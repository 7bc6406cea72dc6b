//! `dhow image prune`

use std::process::ExitCode;

use dhow_image_store::Image;

use crate::context::Context;
use crate::image_filter::{Filter, Filters};
use crate::progress::count;
use crate::table::human_size;
use crate::verbs::system::prune::{self, confirmed, print_removed};

/// What to remove.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: prune::Args,
    /// Instead of images, the compressed blobs of layers that a registry is known to hold; they are fetched again when they are
    /// needed, to push them elsewhere or to save them
    #[arg(long, conflicts_with = "all")]
    blobs: bool,
    /// Only images that fit: until=TIME (how long ago, or a date), label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "blobs")]
    filter: Vec<Filter>,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let what = match args.blobs {
        true => "the compressed blobs that a registry is known to hold",
        false => args.common.images(),
    };
    if !args.common.force && !confirmed(what)? {
        return Ok(ExitCode::SUCCESS);
    }
    let store = context.store()?;
    if args.blobs {
        let dropped = store.drop_blobs()?;
        println!(
            "Dropped {} that registries hold",
            count(dropped.blobs, "compressed blob")
        );
        println!("Total reclaimed space: {}", human_size(dropped.bytes));
        return Ok(ExitCode::SUCCESS);
    }
    let filters = Filters::new(&args.filter, &store)?;
    let fits = |image: &Image| filters.fit(image, image.references().first());
    if args.common.all {
        print_removed(&store.untag_unused(fits)?);
    }
    let collected = store.prune_nameless(fits)?;
    println!("Total reclaimed space: {}", human_size(collected.bytes));
    Ok(ExitCode::SUCCESS)
}
