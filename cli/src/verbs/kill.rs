//! `dhow kill`

use std::process::ExitCode;

use crate::context::Context;
use crate::each::each;

/// Which containers, and which signal.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The signal, by name or number
    #[arg(short, long, default_value = "KILL", value_name = "SIGNAL")]
    signal: String,
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let engine = context.engine()?;
    Ok(each(&args.containers, |name| {
        engine.kill(&engine.find(name)?, &args.signal)?;
        Ok(name.to_owned())
    }))
}
