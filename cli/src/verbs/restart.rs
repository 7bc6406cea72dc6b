//! `dhow restart`

use std::process::ExitCode;
use std::time::Duration;

use crate::context::Context;
use crate::each::each;

/// Which containers, and how patiently.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many seconds to wait before killing
    #[arg(
        short,
        long = "time",
        alias = "timeout",
        default_value_t = 10,
        value_name = "SECONDS"
    )]
    time: u64,
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let engine = context.engine()?;
    Ok(each(&args.containers, |name| {
        let spec = engine.find(name)?;
        engine.stop(&spec, None, Duration::from_secs(args.time))?;
        let prepared = engine.prepare(spec)?;
        engine.start(prepared, false)?;
        Ok(name.to_owned())
    }))
}
