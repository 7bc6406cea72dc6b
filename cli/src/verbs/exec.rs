//! `dhow exec`

use std::process::ExitCode;

use dhow_container_spec::ExecOptions;
use dhow_engine::{ExecRequest, Signals};

use crate::context::Context;
use crate::environment::EnvironmentArgs;
use crate::terminal::OwnStreams;

/// A process in a container. Words after the container belong to its command.
#[derive(clap::Args)]
#[command(override_usage = "dhow exec [OPTIONS] CONTAINER COMMAND [ARG]...")]
pub(crate) struct Args {
    /// Leave it in the background
    #[arg(short, long, conflicts_with_all = ["interactive", "tty"])]
    detach: bool,
    /// Pass standard input on to it
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    #[command(flatten)]
    environment: EnvironmentArgs,
    /// The directory to start in [default: the container's]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Whom to run as, names or numbers [default: the container's]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Give it all capabilities
    #[arg(long)]
    privileged: bool,
    /// The container, and the command with its words
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "CONTAINER COMMAND [ARG]..."
    )]
    words: Vec<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let (container, command) = (&args.words[0], &args.words[1..]);
    anyhow::ensure!(
        !command.is_empty(),
        "no command to run in {container}; write dhow exec {container} COMMAND"
    );
    let own = OwnStreams::new(args.interactive);
    own.check(args.tty)?;
    let engine = context.engine()?;
    let spec = engine.find(container)?;
    let request = ExecRequest {
        options: ExecOptions {
            args: command.to_vec(),
            env: args.environment.variables()?,
            working_dir: args.workdir.clone(),
            user: args.user.clone(),
            terminal: args.tty,
            privileged: args.privileged,
        },
        stdin: args.interactive,
        detach: args.detach,
    };
    let signals = Signals::take()?;
    let raw = own.raw(args.tty)?;
    let code = engine.exec(&spec, &request, own.for_engine(), &signals);
    drop(raw);
    Ok(ExitCode::from(code?.unwrap_or(0)))
}
