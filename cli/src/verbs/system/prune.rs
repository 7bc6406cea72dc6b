//! `dhow system prune`

use std::io::{BufRead as _, IsTerminal as _};
use std::process::ExitCode;

use dhow_image_store::Removed;

use crate::context::Context;
use crate::table::human_size;

/// What to remove.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also the images with a name that no container uses
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
}

impl Args {
    /// Which images go, in words.
    pub(crate) fn images(&self) -> &'static str {
        match self.all {
            true => "all images that no container uses",
            false => "images without a name",
        }
    }
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    if !args.force && !confirmed(&format!("the build cache and {}", args.images()))? {
        return Ok(ExitCode::SUCCESS);
    }
    let store = context.store()?;
    if args.all {
        print_removed(&store.untag_unused(|_| true)?);
    }
    let collected = store.prune()?;
    println!("Total reclaimed space: {}", human_size(collected.bytes));
    Ok(ExitCode::SUCCESS)
}

/// Tells which names and images are gone.
pub(crate) fn print_removed(removed: &Removed) {
    for reference in &removed.untagged {
        println!("Untagged: {}", reference.familiar());
    }
    for id in &removed.deleted {
        println!("Deleted: {id}");
    }
}

/// Asks the person whether all this is to go.
pub(crate) fn confirmed(what: &str) -> anyhow::Result<bool> {
    let stdin = std::io::stdin();
    anyhow::ensure!(
        stdin.is_terminal(),
        "there is nobody to ask whether to prune; say --force"
    );
    eprint!("This removes {what}. Go on? [y/N] ");
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
