//! `dhow image`: the verbs on images, as a group.

mod copy;
mod prune;

use std::process::ExitCode;

use clap::Subcommand;

use super::{build, history, images, import, inspect, load, pull, push, rmi, save, tag};
use crate::context::Context;

/// All that concerns images.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build an image from a Dockerfile
    Build(Box<build::Args>),
    /// Copy an image between registries, OCI layouts, archives and the store, without unpacking it
    #[command(alias = "cp")]
    Copy(copy::Args),
    /// Show how an image came about, layer by layer
    History(history::Args),
    /// Make an image from a root file system's tar
    Import(import::Args),
    /// Show all that is known of images
    Inspect(inspect::ImageArgs),
    /// Take images from an archive
    Load(load::Args),
    /// List images
    #[command(alias = "list")]
    Ls(images::Args),
    /// Remove images that nothing uses
    Prune(prune::Args),
    /// Fetch an image from a registry
    Pull(pull::Args),
    /// Send an image to a registry
    Push(push::Args),
    /// Remove images
    #[command(alias = "remove")]
    Rm(rmi::Args),
    /// Write images into an archive
    Save(save::Args),
    /// Give an image another name
    Tag(tag::Args),
}

pub(crate) fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::Build(args) => build::run(&args, context),
        Verb::Copy(args) => copy::run(&args, context),
        Verb::History(args) => history::run(&args, context),
        Verb::Import(args) => import::run(&args, context),
        Verb::Inspect(args) => inspect::run(&args.into(), context),
        Verb::Load(args) => load::run(&args, context),
        Verb::Ls(args) => images::run(&args, context),
        Verb::Prune(args) => prune::run(&args, context),
        Verb::Pull(args) => pull::run(&args, context),
        Verb::Push(args) => push::run(&args, context),
        Verb::Rm(args) => rmi::run(&args, context),
        Verb::Save(args) => save::run(&args, context),
        Verb::Tag(args) => tag::run(&args, context),
    }
}
