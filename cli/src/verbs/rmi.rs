//! `dhow rmi`

use std::process::ExitCode;

use super::system::prune::print_removed;
use crate::context::Context;

/// Removes images' names, and what then nothing uses.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Remove the name although a container uses the image, or all names of an id; no error where there is no such image
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let store = context.store()?;
    let mut failures = Vec::new();
    for name in &args.images {
        match store.remove(name, args.force) {
            Ok(removed) => print_removed(&removed),
            Err(error)
                if args.force && error.kind() == dhow_image_store::StoreErrorKind::NotFound =>
            {
                eprintln!("dhow: {error}");
            }
            Err(error) => failures.push(error),
        }
    }
    let last = failures.pop();
    for error in failures {
        eprintln!("dhow: {error}");
    }
    match last {
        Some(error) => Err(error.into()),
        None => Ok(ExitCode::SUCCESS),
    }
}
