//! One verb, one file: each turns parsed arguments into a library's options, calls it, and prints its answer.

mod completion;
mod manual;
mod version;

use std::process::ExitCode;

use clap::Subcommand;

use crate::context::Context;

/// What a person can ask for.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Print a shell's completion script
    Completion(completion::Args),
    /// Write the manual pages to a directory
    #[command(hide = true)]
    Manual(manual::Args),
    /// Show the version of dhow and of the programs it uses
    Version(version::Args),
}

impl Verb {
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Completion(args) => completion::run(&args),
            Self::Manual(args) => manual::run(&args),
            Self::Version(args) => version::run(&args, context),
        }
    }
}
