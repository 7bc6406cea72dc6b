//! `dhow rmi`

use std::process::ExitCode;

use super::system::prune::print_removed;
use crate::context::Context;
use crate::images;

/// Removes images' names; what then nothing uses goes after the answer.
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
    let mut any = false;
    for name in &args.images {
        // A short name means here what it means elsewhere; an id stays one.
        let full = images::find_named(&store, name).map(|(name, _)| name.to_string());
        match store.untag(full.as_ref().unwrap_or(name), args.force) {
            Ok(removed) => {
                print_removed(&removed);
                any = true;
            }
            Err(error)
                if args.force && error.kind() == dhow_image_store::StoreErrorKind::NotFound =>
            {
                eprintln!("dhow: {error}");
            }
            Err(error) => failures.push(error),
        }
    }
    if any {
        super::sweep::begin(context)?;
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
