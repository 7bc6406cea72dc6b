//! `dhow wait`

use std::process::ExitCode;

use crate::context::Context;
use crate::each::each;

/// Which containers.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let engine = context.engine()?;
    Ok(each(&args.containers, |name| {
        let exit = engine.wait(&engine.find(name)?)?;
        Ok(exit.code.to_string())
    }))
}
