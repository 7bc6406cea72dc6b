//! dhow: builds, ships and runs containers without a daemon.

mod ago;
mod all_platforms;
mod container_args;
mod context;
mod each;
mod environment;
mod image_filter;
mod images;
mod platform_args;
mod platforms;
mod progress;
mod pulling;
mod refetching;
mod registry_args;
mod rootless;
mod table;
mod template;
mod terminal;
mod usage;
mod user_namespace_args;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

use crate::context::Context;
use crate::verbs::Verb;

/// The exit status of an error of dhow's own, as Docker has it.
const OWN_ERROR: u8 = 125;

/// Builds, ships and runs containers without a daemon.
#[derive(Parser)]
#[command(
    name = "dhow",
    version,
    propagate_version = true,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(flatten)]
    places: context::Places,
    #[command(subcommand)]
    verb: Verb,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let words: Vec<String> = std::env::args_os()
                .skip(1)
                .map(|word| word.to_string_lossy().into_owned())
                .collect();
            match usage::mistake(&error, &words) {
                Some(line) => eprintln!("dhow: {line}"),
                None => drop(error.print()),
            }
            return if error.use_stderr() {
                ExitCode::from(OWN_ERROR)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let ran = Context::new(cli.places).and_then(|context| {
        if cli.verb.needs_root() {
            rootless::enter(context.state())?;
        }
        cli.verb.run(&context)
    });
    match ran {
        Ok(code) => code,
        Err(error) => {
            eprintln!("dhow: {}{}", one_line(&error), remedy(&error));
            ExitCode::from(exit_status(&error))
        }
    }
}

/// The engine knows of programs that cannot be run (126) or found (127).
fn exit_status(error: &anyhow::Error) -> u8 {
    error
        .chain()
        .find_map(|cause| cause.downcast_ref::<dhow_engine::EngineError>())
        .map_or(OWN_ERROR, dhow_engine::EngineError::exit_status)
}

/// The whole chain of causes in one line; what a cause repeats of the message above it is said once.
fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = without_numbers(&cause.to_string());
        if line.is_empty() {
            line = text;
        } else if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
    }
    line
}

/// A system's answer in words alone: "No such file or directory", not "No such file or directory (os error 2)".
fn without_numbers(text: &str) -> String {
    let mut words = text.to_owned();
    while let Some(start) = words.find(" (os error ") {
        let Some(length) = words[start..].find(')') else {
            break;
        };
        words.replace_range(start..=start + length, "");
    }
    words
}

/// What to do where the system refused for want of privileges.
fn remedy(error: &anyhow::Error) -> &'static str {
    if rootless::is_root() {
        return "";
    }
    // Many rooms wrap the system's answer each in its own way; its words are the same everywhere.
    let line = one_line(error);
    if ["Operation not permitted", "Permission denied"]
        .iter()
        .any(|words| line.contains(words))
    {
        "; this needs root: run it as root (sudo dhow ...)"
    } else if rootless::outer_user().is_some() && line.contains("Invalid argument") {
        "; without root there are only the ids that /etc/subuid and /etc/subgid give you: have more of them, or run it as root"
    } else {
        ""
    }
}
