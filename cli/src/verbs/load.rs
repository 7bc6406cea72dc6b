//! `dhow load`

use std::io::IsTerminal;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;

use crate::context::Context;
use crate::progress::{Telling, TellingArgs};

/// Takes images from an archive, OCI's or Docker's.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The file [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    #[command(flatten)]
    telling: TellingArgs,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let telling = args.telling.telling();
    telling.failing(load(args, telling, context))
}

fn load(args: &Args, telling: Telling, context: &Context) -> anyhow::Result<ExitCode> {
    let input = match &args.input {
        Some(path) => fs_err::File::open(path)?.into_file(),
        None => {
            anyhow::ensure!(
                !std::io::stdin().is_terminal(),
                "there is no archive on standard input; name a file with -i"
            );
            std::fs::File::from(std::io::stdin().as_fd().try_clone_to_owned()?)
        }
    };
    let progress = telling.reporter();
    let loaded = context.store()?.load(input, &*progress);
    let loaded = loaded.with_context(|| match &args.input {
        Some(path) => format!("loading {}", path.display()),
        None => "loading from standard input".to_owned(),
    })?;
    for (name, image) in loaded {
        if telling.is_json() {
            telling.event(&json!({ "status": "Loaded image", "aux": {
                "Name": name.map(|name| name.to_string()),
                "Digest": image.descriptor().digest().to_string(),
                "ID": image.id().to_string(),
            }}));
            continue;
        }
        match name {
            Some(name) => println!("Loaded image: {}", name.familiar()),
            None => println!("Loaded image ID: {}", image.id()),
        }
    }
    Ok(ExitCode::SUCCESS)
}
