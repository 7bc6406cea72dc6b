//! `dhow inspect`

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::str::FromStr;

use dhow_engine::{Engine, EngineError, ErrorKind};
use dhow_image::ImageReference;
use dhow_image_store::{Image, Store};
use serde_json::{Value, json};

use crate::context::Context;
use crate::images;
use crate::table;
use crate::template::Template;

/// Shows all that is known of containers and images, as JSON.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Print parts of it by a Go template, like {{.Config.Env}} or {{range .RepoTags}}{{println .}}{{end}}; json for a line of each
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<Shape>,
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
    /// Print parts of it by a Go template, like {{.Config.Env}} or {{range .RepoTags}}{{println .}}{{end}}; json for a line of each
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<Shape>,
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

/// How it is shown.
#[derive(Clone, Debug)]
enum Shape {
    Json,
    Template(Template),
}

impl FromStr for Shape {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "json" => Self::Json,
            text => Self::Template(text.parse()?),
        })
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
            None => match container(&engine, name) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    image(&store, name).map_err(|error| match error.is::<images::Missing>() {
                        true => anyhow::anyhow!("no such container: {name}, and {error}"),
                        false => error,
                    })?
                }
                shown => shown?,
            },
        });
    }
    match &args.format {
        None => println!("{}", serde_json::to_string_pretty(&found)?),
        Some(Shape::Json) => table::print_lines(found.iter().map(Value::to_string)),
        Some(Shape::Template(template)) => {
            for value in &found {
                println!("{}", template.render(value)?);
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
    let named = all.iter().find(|other| other.id() == image.id());
    describe(store, &image, named.unwrap_or(&image))
}

/// The names with the digests of what they stand for, of those that came by digest, or whose registry is known to have the image.
fn repository_digests(store: &Store, image: &Image) -> BTreeSet<String> {
    let places = store.locations().places(image.id());
    let mut found = BTreeSet::new();
    for name in image.references() {
        let is_there = places.iter().any(|(registry, repository)| {
            registry == name.registry() && repository == name.repository()
        });
        if name.digest().is_some() || is_there {
            let digest = image.root_under(Some(name)).digest();
            found.insert(format!("{}@{digest}", name.familiar_name()));
        }
    }
    found
}

/// An image in the fields of Docker's answer; `named` is the same with all its names.
fn describe(store: &Store, image: &Image, named: &Image) -> anyhow::Result<Value> {
    let config = image.config();
    let tags: Vec<String> = named
        .references()
        .iter()
        .filter(|name| name.digest().is_none())
        .map(ImageReference::familiar)
        .collect();
    let author = config.author().as_deref().unwrap_or("");
    let history = config.history().as_ref().and_then(|all| all.last());
    let comment = history
        .and_then(|h| h.comment().clone())
        .unwrap_or_default();
    Ok(json!({
        "Id": image.id().to_string(),
        "RepoTags": tags,
        "RepoDigests": repository_digests(store, named),
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
