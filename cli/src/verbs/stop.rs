//! `dhow stop`

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
    /// The signal that asks [default: the container's]
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let engine = context.engine()?;
    Ok(each(&args.containers, |name| {
        let spec = engine.find(name)?;
        let patience = Duration::from_secs(args.time);
        engine.stop(&spec, args.signal.as_deref(), patience)?;
        Ok(name.to_owned())
    }))
}
