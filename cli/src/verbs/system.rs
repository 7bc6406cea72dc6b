//! `dhow system`

mod check;
mod df;
pub(super) mod prune;

use std::process::ExitCode;

use clap::Subcommand;

use crate::context::Context;

/// The store as a whole.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Read everything in the store and tell what is damaged
    Check(check::Args),
    /// Show how much room the store takes
    Df,
    /// Remove the build cache, and images that nothing uses
    Prune(prune::Args),
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Check(args) => check::run(args, context),
        Verb::Df => df::run(context),
        Verb::Prune(args) => prune::run(args, context),
    }
}
