//! `dhow version`

use std::process::ExitCode;

use crate::context::Context;

/// No arguments.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    println!("dhow version {}", env!("CARGO_PKG_VERSION"));
    println!("root: {}", context.root().display());
    println!("state: {}", context.state().display());
    println!("runtime: {}", context.runtime_program()?.display());
    println!("monitor: {}", context.monitor_program()?.display());
    Ok(ExitCode::SUCCESS)
}
