//! One verb, one file: each turns parsed arguments into a library's options, calls it, and prints its answer.

mod completion;
mod import;
mod manual;
mod pull;
mod push;
mod registry;
mod rmi;
mod tag;
mod version;

use std::process::ExitCode;

use clap::Subcommand;

use crate::context::Context;

/// What a person can ask for.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Print a shell's completion script
    Completion(completion::Args),
    /// Make an image from a root file system's tar
    Import(import::Args),
    /// Write the manual pages to a directory
    #[command(hide = true)]
    Manual(manual::Args),
    /// Fetch an image from a registry
    Pull(pull::Args),
    /// Send an image to a registry
    Push(push::Args),
    /// Serve a registry of your own
    Registry(registry::Args),
    /// Remove images
    Rmi(rmi::Args),
    /// Give an image another name
    Tag(tag::Args),
    /// Show the version of dhow and of the programs it uses
    Version(version::Args),
}

impl Verb {
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Completion(args) => completion::run(&args),
            Self::Import(args) => import::run(&args, context),
            Self::Manual(args) => manual::run(&args),
            Self::Pull(args) => pull::run(&args, context),
            Self::Push(args) => push::run(&args, context),
            Self::Registry(args) => registry::run(args, context),
            Self::Rmi(args) => rmi::run(&args, context),
            Self::Tag(args) => tag::run(&args, context),
            Self::Version(args) => version::run(&args, context),
        }
    }
}
