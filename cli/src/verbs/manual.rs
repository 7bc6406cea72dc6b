//! `dhow manual`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory;

/// Where to.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The directory (.../man1) that the pages are written to
    dir: PathBuf,
}

/// Writes a page for dhow and one for each verb.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    fs_err::create_dir_all(&args.dir)?;
    clap_mangen::generate_to(crate::Cli::command(), &args.dir)
        .with_context(|| format!("writing the manual to {}", args.dir.display()))?;
    Ok(ExitCode::SUCCESS)
}
