//! `dhow image prune`

use std::process::ExitCode;

use crate::context::Context;
use crate::table::human_size;
use crate::verbs::system::prune::{confirmed, print_removed, which_images};

/// What to remove.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also the images with a name that no container uses
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    if !args.force && !confirmed(which_images(args.all))? {
        return Ok(ExitCode::SUCCESS);
    }
    let store = context.store()?;
    if args.all {
        print_removed(&store.untag_unused()?);
    }
    let collected = store.prune_nameless()?;
    println!("Total reclaimed space: {}", human_size(collected.bytes));
    Ok(ExitCode::SUCCESS)
}
