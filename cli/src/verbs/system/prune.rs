//! `dhow system prune`

use std::io::{BufRead as _, IsTerminal as _};
use std::process::ExitCode;

use crate::context::Context;
use crate::table::human_size;

/// What to remove.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also the images with a name that no container uses
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    if !args.force && !confirmed(args.all)? {
        return Ok(ExitCode::SUCCESS);
    }
    let store = context.store()?;
    if args.all {
        let removed = store.untag_unused()?;
        for reference in removed.untagged {
            println!("Untagged: {}", reference.familiar());
        }
        for id in removed.deleted {
            println!("Deleted: {id}");
        }
    }
    let collected = store.prune()?;
    println!("Total reclaimed space: {}", human_size(collected.bytes));
    Ok(ExitCode::SUCCESS)
}

fn confirmed(all: bool) -> anyhow::Result<bool> {
    let stdin = std::io::stdin();
    anyhow::ensure!(
        stdin.is_terminal(),
        "there is nobody to ask whether to prune; say --force"
    );
    let images = if all {
        "all images that no container uses"
    } else {
        "images without a name"
    };
    eprint!("This removes the build cache and {images}. Go on? [y/N] ");
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
