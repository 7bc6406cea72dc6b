//! `dhow image prune`

use std::process::ExitCode;

use crate::context::Context;
use crate::table::human_size;
use crate::verbs::system::prune::{Args, confirmed, print_removed};

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    if !args.force && !confirmed(args.images())? {
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
