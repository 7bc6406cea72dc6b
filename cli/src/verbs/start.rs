//! `dhow start`

use std::process::ExitCode;

use anyhow::ensure;
use dhow_engine::Signals;

use super::run::ending_status;
use crate::context::Context;
use crate::each::each;
use crate::terminal::OwnStreams;

/// Which containers, and whether to stay with one.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Stay until it ends, show what it writes, and pass signals on
    #[arg(short, long)]
    attach: bool,
    /// Pass standard input on to it (implies --attach)
    #[arg(short, long)]
    interactive: bool,
    /// Names or ids of containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let engine = context.engine()?;
    if !args.attach && !args.interactive {
        return Ok(each(&args.containers, |name| {
            let prepared = engine.prepare(engine.find(name)?)?;
            engine.start(prepared, false)?;
            Ok(name.to_owned())
        }));
    }
    ensure!(
        args.containers.len() == 1,
        "only one container can be stayed with; name one, or leave -a out"
    );
    let spec = engine.find(&args.containers[0])?;
    let tty = spec.first().options.terminal;
    let own = OwnStreams::new(args.interactive && spec.first().stdin);
    own.check(tty)?;
    let signals = Signals::take()?;
    let name = spec.name.to_string();
    let session = engine.start(engine.prepare(spec)?, true)?;
    let raw = own.raw(tty)?;
    let ending = engine.foreground(session, own.for_engine(), &signals);
    drop(raw);
    Ok(ending_status(&name, &ending?))
}
