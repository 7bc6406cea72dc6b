//! `dhow rm`

use std::process::ExitCode;

use crate::context::Context;
use crate::each::each;

/// Which containers.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kill those that run
    #[arg(short, long)]
    force: bool,
    /// Remove their anonymous volumes too; they always go with their container here
    #[arg(short, long)]
    volumes: bool,
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let _ = args.volumes;
    let engine = context.engine()?;
    Ok(each(&args.containers, |name| {
        engine.remove(&engine.find(name)?, args.force)?;
        Ok(name.to_owned())
    }))
}
