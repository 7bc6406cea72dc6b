//! `dhow clean-up`, which a monitor asks for when its container was to be removed at its end.

use std::process::ExitCode;

use crate::context::Context;

/// Which container.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Its id
    id: String,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    context.engine()?.remove_ended(&args.id)?;
    Ok(ExitCode::SUCCESS)
}
