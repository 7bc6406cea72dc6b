//! One verb, one file: each turns parsed arguments into a library's options, calls it, and prints its answer.

mod version;

use std::process::ExitCode;

use clap::Subcommand;

use crate::context::Context;

/// What a person can ask for.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Show the version of dhow and of the programs it uses
    Version(version::Args),
}

impl Verb {
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Version(args) => version::run(&args, context),
        }
    }
}
