//! `dhow save`

use std::io::{BufWriter, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::context::Context;

/// Writes images into one file: an OCI archive.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// The file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let store = context.store()?;
    let mut images = Vec::new();
    for name in &args.images {
        images.push(store.find(name)?);
    }
    let Some(path) = &args.output else {
        let out = std::io::stdout();
        anyhow::ensure!(
            !out.is_terminal(),
            "an archive is nothing to look at; name a file with -o, or send the output elsewhere"
        );
        store.save(&images, BufWriter::new(out.lock()))?;
        return Ok(ExitCode::SUCCESS);
    };
    let file = fs_err::File::create(path)?;
    let written = store.save(&images, BufWriter::with_capacity(256 * 1024, &file));
    if written.is_err() && file.metadata().is_ok_and(|found| found.is_file()) {
        let _ = fs_err::remove_file(path);
    }
    written?;
    Ok(ExitCode::SUCCESS)
}
