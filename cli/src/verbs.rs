//! One verb, one file: each turns parsed arguments into a library's options, calls it, and prints its answer.

mod build;
mod clean_up;
mod completion;
mod create;
mod exec;
mod history;
mod image;
mod images;
mod import;
mod inspect;
mod kill;
mod load;
mod login;
mod logout;
mod logs;
mod manual;
mod ps;
mod pull;
mod push;
mod registry;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod start;
mod stop;
mod sweep;
mod system;
mod tag;
mod version;
mod wait;

use std::process::ExitCode;

use clap::Subcommand;

use crate::context::Context;
use crate::rootless;

/// What a person can ask for.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Build an image from a Dockerfile
    Build(Box<build::Args>),
    /// Clean up after a build that was killed; every build starts one for its RUN steps
    #[command(name = "build-guard", hide = true)]
    BuildGuard(build::GuardArgs),
    /// Remove a container that has ended and was to be removed then; its monitor asks for it
    #[command(name = "clean-up", hide = true)]
    CleanUp(clean_up::Args),
    /// Remove what nothing uses any more; a removal starts one that nobody waits for
    #[command(name = "sweep", hide = true)]
    Sweep,
    /// Create a container without starting it
    Create(Box<create::Args>),
    /// Run a command in a running container
    Exec(exec::Args),
    /// Show how an image came about, layer by layer
    History(history::Args),
    /// All that concerns images
    Image(image::Args),
    /// Send a signal to containers
    Kill(kill::Args),
    /// Show what a container wrote
    Logs(logs::Args),
    /// List containers
    Ps(ps::Args),
    /// Stop containers and start them again
    Restart(restart::Args),
    /// Remove containers
    Rm(rm::Args),
    /// Run a command in a new container
    Run(Box<run::Args>),
    /// Start containers that were created or have ended
    Start(start::Args),
    /// Ask containers to end, and kill those that do not
    Stop(stop::Args),
    /// Wait until containers end, and print their exit statuses
    Wait(wait::Args),
    /// Print a shell's completion script
    Completion(completion::Args),
    /// List images
    Images(images::Args),
    /// Make an image from a root file system's tar
    Import(import::Args),
    /// Show all that is known of containers and images
    Inspect(inspect::Args),
    /// Take images from an archive
    Load(load::Args),
    /// Log in to a registry
    Login(login::Args),
    /// Log out of a registry
    Logout(logout::Args),
    /// Map a user's ids from outside his user namespace; the program starts it where it runs without root
    #[command(name = rootless::MAPPER, hide = true)]
    MapIds(rootless::MapArgs),
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
    /// Write images into an archive
    Save(save::Args),
    /// Look after the store: its room, its health
    System(system::Args),
    /// Give an image another name
    Tag(tag::Args),
    /// Show the version of dhow and of the programs it uses
    Version(version::Args),
}

impl Verb {
    /// Whether it works on files of many owners, on mounts or on containers, for which users enter a user namespace.
    pub(crate) fn needs_root(&self) -> bool {
        match self {
            Self::Completion(_)
            | Self::Login(_)
            | Self::Logout(_)
            | Self::Manual(_)
            | Self::MapIds(_)
            | Self::Version(_) => false,
            Self::Registry(args) => args.serves_images(),
            _ => true,
        }
    }

    pub(crate) fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Build(args) => build::run(&args, context),
            Self::BuildGuard(args) => build::guard(&args, context),
            Self::CleanUp(args) => clean_up::run(&args, context),
            Self::Sweep => sweep::run(context),
            Self::Create(args) => create::run(&args, context),
            Self::Exec(args) => exec::run(&args, context),
            Self::History(args) => history::run(&args, context),
            Self::Image(args) => image::run(args, context),
            Self::Kill(args) => kill::run(&args, context),
            Self::Logs(args) => logs::run(&args, context),
            Self::Ps(args) => ps::run(&args, context),
            Self::Restart(args) => restart::run(&args, context),
            Self::Rm(args) => rm::run(&args, context),
            Self::Run(args) => run::run(&args, context),
            Self::Start(args) => start::run(&args, context),
            Self::Stop(args) => stop::run(&args, context),
            Self::Wait(args) => wait::run(&args, context),
            Self::Completion(args) => completion::run(&args),
            Self::Images(args) => images::run(&args, context),
            Self::Import(args) => import::run(&args, context),
            Self::Inspect(args) => inspect::run(&args, context),
            Self::Load(args) => load::run(&args, context),
            Self::Login(args) => login::run(&args),
            Self::Logout(args) => logout::run(&args),
            Self::MapIds(args) => rootless::map_ids(&args),
            Self::Manual(args) => manual::run(&args),
            Self::Pull(args) => pull::run(&args, context),
            Self::Push(args) => push::run(&args, context),
            Self::Registry(args) => registry::run(args, context),
            Self::Rmi(args) => rmi::run(&args, context),
            Self::Save(args) => save::run(&args, context),
            Self::System(args) => system::run(&args, context),
            Self::Tag(args) => tag::run(&args, context),
            Self::Version(args) => version::run(&args, context),
        }
    }
}
