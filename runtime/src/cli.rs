//! The program's command line: runc's commands, flags, output and exit statuses.

mod arguments;
mod output;
mod requests;

use clap::Parser;
use dhow_runtime::commands::{self, Outcome, Runtime};
use dhow_runtime::{Error, log, protect, signals};

use arguments::{Arguments, Command};

/// Parses, does one thing, and says how it went.
pub(crate) fn main() -> u8 {
    if let Some(error) = enters_containers()
        .then(protect::ensure)
        .and_then(Result::err)
    {
        log::error(&format!("dhow-runtime: {error}"), error.kind());
        return 1;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap's own status for wrong arguments is 2; runc's is 1.
            let _ = error.print();
            return u8::from(error.use_stderr());
        }
    };
    log::set(arguments.log_options());
    let name = arguments.command.name();
    let failure = match &arguments.command {
        Command::Exec(_) => 255,
        _ => 1,
    };
    match dispatch(arguments) {
        Ok(status) => status,
        Err(error) => {
            log::error(
                &format!("dhow-runtime {name} failed: {error}"),
                error.kind(),
            );
            failure
        }
    }
}

/// Whether this call makes a process that enters a container, as far as can be seen without parsing: parsing would be
/// done twice, since protecting the program executes it again. A word too many costs that and nothing else.
/// dhow-sys's entry point looks for the same words.
fn enters_containers() -> bool {
    let mut words = std::env::args_os().skip(1);
    let found = words.any(|word| {
        ["create", "run", "exec", "restore"]
            .iter()
            .any(|command| word == *command)
    });
    found && !words.any(|word| word == "--dry-run")
}

fn ended(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Detached => 0,
        Outcome::Ended(status) => status,
    }
}

fn dispatch(arguments: Arguments) -> Result<u8, Error> {
    if arguments.systemd_cgroup {
        return Err(Error::Asked(
            "--systemd-cgroup is not supported yet; leave it out (podman: --cgroup-manager=cgroupfs)"
                .to_owned(),
        ));
    }
    let runtime = Runtime {
        root: arguments.root(),
    };
    match arguments.command {
        Command::Create(args) => {
            if args.dry_run {
                print!("{}", commands::plan(&args.id, &args.options())?);
                return Ok(0);
            }
            commands::create(&runtime, &args.id, &args.options())?;
        }
        Command::Run(args) => {
            return Ok(ended(commands::run(
                &runtime,
                &args.create.id,
                &args.options(),
            )?));
        }
        Command::Start(args) => commands::start(&runtime, &args.id)?,
        Command::State(args) => {
            output::print_json(&output::state(&commands::state(&runtime, &args.id)?));
        }
        Command::Kill(args) => {
            let signal = signals::parse(&args.signal)
                .ok_or_else(|| Error::Asked(format!("unknown signal {:?}", args.signal)))?;
            commands::kill(&runtime, &args.id, signal, args.all)?;
        }
        Command::Delete(args) => commands::delete(&runtime, &args.id, args.force)?,
        Command::Exec(args) => {
            return Ok(ended(commands::exec(&runtime, &args.id, &args.options()?)?));
        }
        Command::Ps(args) => {
            let pids = commands::processes(&runtime, &args.id)?;
            output::processes(&pids, args.format == arguments::Format::Json, &args.options)?;
        }
        Command::List(args) => output::list(&commands::list(&runtime)?, &args),
        Command::Spec(args) => requests::write_template(&args)?,
        Command::Features => output::print_json(&commands::features()),
        Command::Pause(args) => commands::pause(&runtime, &args.id)?,
        Command::Resume(args) => commands::resume(&runtime, &args.id)?,
        Command::Update(args) => commands::update(&runtime, &args.id, &args.resources()?)?,
    }
    Ok(0)
}
