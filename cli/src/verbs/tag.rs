//! `dhow tag`

use std::process::ExitCode;

use dhow_image::ImageReference;

use crate::context::Context;
use crate::images;

/// Gives an image another name.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The image: a name or an id
    image: String,
    /// The new name
    name: ImageReference,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        args.name.digest().is_none(),
        "a name with a digest cannot be given to an image; write NAME[:TAG]"
    );
    let store = context.store()?;
    let image = images::find(&store, &args.image)?;
    store.tag_whole(&args.name, image.descriptor(), image.index())?;
    Ok(ExitCode::SUCCESS)
}
