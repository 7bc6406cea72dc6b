//! `dhow inspect`

mod template;

use std::process::ExitCode;

use dhow_engine::{Engine, EngineError, ErrorKind};
use dhow_image::ImageReference;
use dhow_image_store::{Image, Store, StoreError};
use serde_json::{Value, json};

use crate::context::Context;
use crate::images;

/// Shows all that is known of containers and images, as JSON.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Print parts of it: text with paths in braces, like {{.Config.Env}} or {{json .Config}}
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Look only for one kind [default: a container, then an image]
    #[arg(long = "type", value_enum)]
    kind: Option<Kind>,
}

/// Shows all that is known of images, as JSON.
#[derive(clap::Args)]
pub(crate) struct ImageArgs {
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    names: Vec<String>,
    /// Print parts of it: text with paths in braces, like {{.Config.Env}} or {{json .Config}}
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
}

impl From<ImageArgs> for Args {
    fn from(args: ImageArgs) -> Self {
        Self {
            names: args.names,
            format: args.format,
            kind: Some(Kind::Image),
        }
    }
}

/// What may be shown.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Kind {
    /// A container
    Container,
    /// An image
    Image,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let store = context.store()?;
    let engine = context.engine()?;
    let mut found = Vec::new();
    for name in &args.names {
        found.push(match args.kind {
            Some(Kind::Image) => image(&store, name)?,
            Some(Kind::Container) => container(&engine, name)?,
            // A container's name comes first, as in Docker.
            None => {
                match container(&engine, name) {
                    Err(error) if error.kind() == ErrorKind::NotFound => image(&store, name)
                        .map_err(|error| match error.downcast_ref::<StoreError>() {
                            Some(StoreError::NoSuchImage(_)) => {
                                anyhow::anyhow!("no such container or image: {name}; `dhow ps -a` and `dhow images` list what there is")
                            }
                            _ => error,
                        })?,
                    shown => shown?,
                }
            }
        });
    }
    match &args.format {
        None => println!("{}", serde_json::to_string_pretty(&found)?),
        Some(template) => {
            for value in &found {
                println!("{}", template::render(template, value)?);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A container in the fields of Docker's answer.
fn container(engine: &Engine, name: &str) -> Result<Value, EngineError> {
    let pod = engine.status(engine.find(name)?)?;
    Ok(engine.inspect(&pod))
}

/// An image with all its names, not only the one that it was found by.
fn image(store: &Store, name: &str) -> anyhow::Result<Value> {
    let image = images::find(store, name)?;
    let all = store.images()?;
    let named = all.into_iter().find(|other| other.id() == image.id());
    describe(&named.unwrap_or(image))
}

/// An image in the fields of Docker's answer.
fn describe(image: &Image) -> anyhow::Result<Value> {
    let config = image.config();
    let names = |digest: bool| -> Vec<String> {
        let names = image.references().iter();
        let names = names.filter(|name| name.digest().is_some() == digest);
        names.map(ImageReference::familiar).collect()
    };
    let author = config.author().as_deref().unwrap_or("");
    let history = config.history().as_ref().and_then(|all| all.last());
    let comment = history
        .and_then(|h| h.comment().clone())
        .unwrap_or_default();
    Ok(json!({
        "Id": image.id().to_string(),
        "RepoTags": names(false),
        "RepoDigests": names(true),
        "Comment": comment,
        "Created": image.created().unwrap_or(""),
        "Author": author,
        "Architecture": config.architecture().to_string(),
        "Variant": config.variant(),
        "Os": config.os().to_string(),
        "Size": image.size(),
        "Config": serde_json::to_value(config.config())?,
        "RootFS": { "Type": "layers", "Layers": image.diff_ids() },
        "Descriptor": serde_json::to_value(image.descriptor())?,
        "Index": image.index(),
        "Platforms": image.platforms()?.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "Manifest": serde_json::to_value(image.manifest())?,
        "History": serde_json::to_value(config.history())?,
    }))
}
