//! `dhow save`

use std::io::{BufWriter, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use dhow_image_store::ArchiveForm;
use serde_json::json;

use crate::context::Context;
use crate::images;
use crate::progress::{Format, Telling};
use crate::refetching::{self, Refetching};
use crate::registry_args;

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
    #[arg(long, value_enum, default_value_t = Form::OciArchive)]
    format: Form,
    /// Show no progress
    #[arg(short, long, conflicts_with = "progress")]
    quiet: bool,
    /// How to tell of progress; JSON goes to standard error where standard output takes the archive
    #[arg(long, value_enum, default_value_t)]
    progress: Format,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Form {
    /// The OCI image layout in a tar; layers as they are
    OciArchive,
    /// For tools that know only Docker's older form; layers are not compressed
    DockerArchive,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let mut telling = Telling::new(args.quiet, args.progress);
    if telling.is_json() && args.output.is_none() {
        telling = Telling::ProgramBeside;
    }
    telling.failing(save(args, telling, context))?;
    Ok(ExitCode::SUCCESS)
}

fn save(args: &Args, telling: Telling, context: &Context) -> anyhow::Result<()> {
    let store = context.store()?;
    let mut wanted = Vec::new();
    for name in &args.images {
        let image = images::find(&store, name)?;
        match args.format {
            // An id's names may stand for several manifests, each of which stays what it is.
            Form::OciArchive => wanted.extend(image.apart()?),
            Form::DockerArchive => wanted.push(image),
        }
    }
    let lease = store.lease()?;
    let form = match args.format {
        Form::OciArchive => ArchiveForm::Oci,
        Form::DockerArchive => ArchiveForm::Docker,
    };
    let missing = refetching::lacking(&lease, &wanted, form)?;
    let progress = telling.reporter();
    if !missing.is_empty() {
        let refetching = Refetching {
            lease: &lease,
            client: &registry_args::client()?,
            progress: progress.as_ref(),
        };
        refetching.fetch_all(&missing)?;
    }
    match &args.output {
        None => {
            let out = std::io::stdout();
            anyhow::ensure!(
                !out.is_terminal(),
                "an archive is nothing to look at; name a file with -o, or send the output elsewhere"
            );
            store.save(&wanted, form, BufWriter::new(out.lock()), &*progress)?;
        }
        Some(path) => {
            let file = fs_err::File::create(path)?;
            let out = BufWriter::with_capacity(256 * 1024, &file);
            let written = store.save(&wanted, form, out, &*progress);
            if written.is_err() && file.metadata().is_ok_and(|found| found.is_file()) {
                let _ = fs_err::remove_file(path);
            }
            written?;
        }
    }
    let ids: Vec<String> = wanted.iter().map(|image| image.id().to_string()).collect();
    telling.event(&json!({ "status": "Saved", "aux": { "IDs": ids, "Path": args.output } }));
    Ok(())
}
