//! `dhow run`

use std::process::ExitCode;

use dhow_engine::{Ending, Signals};

use crate::container_args::ContainerArgs;
use crate::context::Context;
use crate::terminal::OwnStreams;

/// A container, and whether to stay with it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave the container in the background and print its id
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    container: ContainerArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let container = &args.container;
    let own = OwnStreams::new(container.interactive);
    if !args.detach {
        own.check(container.tty)?;
    }
    let engine = context.engine()?;
    let request = container.request(context, &engine)?;
    // From here on a signal is the container's, and none can end this program between creation and removal.
    let signals = Signals::take()?;
    let prepared = engine.create(request)?;
    let id = prepared.spec().id.to_string();
    if let Err(error) = container.write_cidfile(&id) {
        engine.discard(prepared)?;
        return Err(error);
    }
    let spec = prepared.spec().clone();
    let session = match engine.start(prepared, !args.detach) {
        Ok(session) => session,
        Err(error) => {
            // What never ran is of no use to anybody; why it did not is the error to tell.
            let _ = engine.remove(&spec, true);
            return Err(error.into());
        }
    };
    if args.detach {
        println!("{id}");
        return Ok(ExitCode::SUCCESS);
    }
    let name = session.spec().name.to_string();
    let raw = own.raw(container.tty)?;
    let ending = engine.foreground(session, own.for_engine(), &signals);
    drop(raw);
    Ok(ending_status(&name, &ending?))
}

/// The exit status that tells how a foreground container ended; want of memory is told in words too.
pub(crate) fn ending_status(name: &str, ending: &Ending) -> ExitCode {
    match ending {
        Ending::Exited(exit) => {
            if exit.oom_killed {
                eprintln!(
                    "dhow: container {name} ran out of memory and was killed; give it more (--memory)"
                );
            }
            ExitCode::from(exit.code)
        }
        Ending::Left => ExitCode::from(130),
    }
}
