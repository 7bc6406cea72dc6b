//! `dhow save`

use std::io::{BufWriter, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use dhow_image_store::ArchiveForm;

use crate::context::Context;

/// Writes images into one file.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// The file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The archive's form; Docker reads both
    #[arg(long, value_enum, default_value_t = Format::OciArchive)]
    format: Format,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// The OCI image layout in a tar; layers as they are
    OciArchive,
    /// For tools that know only Docker's older form; layers are not compressed
    DockerArchive,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let store = context.store()?;
    let mut images = Vec::new();
    for name in &args.images {
        images.push(store.find(name)?);
    }
    let form = match args.format {
        Format::OciArchive => ArchiveForm::Oci,
        Format::DockerArchive => ArchiveForm::Docker,
    };
    let Some(path) = &args.output else {
        let out = std::io::stdout();
        anyhow::ensure!(
            !out.is_terminal(),
            "an archive is nothing to look at; name a file with -o, or send the output elsewhere"
        );
        store.save(&images, form, BufWriter::new(out.lock()))?;
        return Ok(ExitCode::SUCCESS);
    };
    let file = fs_err::File::create(path)?;
    let written = store.save(&images, form, BufWriter::with_capacity(256 * 1024, &file));
    if written.is_err() && file.metadata().is_ok_and(|found| found.is_file()) {
        let _ = fs_err::remove_file(path);
    }
    written?;
    Ok(ExitCode::SUCCESS)
}
