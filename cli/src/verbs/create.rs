//! `dhow create`

use std::process::ExitCode;

use crate::container_args::ContainerArgs;
use crate::context::Context;

/// A container.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    container: ContainerArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let engine = context.engine()?;
    let request = args.container.request(context, &engine)?;
    anyhow::ensure!(
        !request.auto_remove,
        "--rm: a container that does not run yet would be removed at once; use dhow run"
    );
    let prepared = engine.create(request)?;
    let id = prepared.spec().id.to_string();
    args.container.write_cidfile(&id)?;
    println!("{id}");
    Ok(ExitCode::SUCCESS)
}
