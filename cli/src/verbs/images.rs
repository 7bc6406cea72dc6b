//! `dhow images`

use std::process::ExitCode;

use dhow_image::ImageReference;
use dhow_image_store::Image;
use serde_json::json;

use crate::ago::ago;
use crate::context::Context;
use crate::table::{self, Format, human_size};

/// Lists the images of the store.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only images of this name (NAME or NAME:TAG)
    name: Option<String>,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// Show the digests of the manifests
    #[arg(long)]
    digests: bool,
    /// Show images without a name too (there are no others that are hidden)
    #[arg(short, long)]
    all: bool,
    /// Show whole ids
    #[arg(long)]
    no_trunc: bool,
    /// How to print: table, or a JSON object for each image
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// An image under one of its names.
struct Row<'a> {
    image: &'a Image,
    name: Option<&'a ImageReference>,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let images = context.store()?.images()?;
    let mut rows = Vec::new();
    for image in &images {
        if image.references().is_empty() {
            rows.push(Row { image, name: None });
        }
        let names = image.references().iter();
        rows.extend(names.map(|name| Row {
            image,
            name: Some(name),
        }));
    }
    if let Some(wanted) = &args.name {
        let reference: ImageReference = wanted.parse()?;
        let has_tag = reference.familiar() == *wanted || reference.to_string() == *wanted;
        rows.retain(|row| {
            row.name.is_some_and(|name| {
                name.familiar_name() == reference.familiar_name()
                    && (!has_tag || name.tag() == reference.tag())
            })
        });
    }
    if args.quiet {
        let mut last = None;
        for row in rows {
            if last != Some(row.image.id()) {
                println!("{}", row.id(args.no_trunc));
            }
            last = Some(row.image.id());
        }
        return Ok(ExitCode::SUCCESS);
    }
    match args.format {
        Format::Json => {
            for row in rows {
                println!("{}", row.json());
            }
        }
        Format::Table => print_table(args, &rows),
    }
    Ok(ExitCode::SUCCESS)
}

fn print_table(args: &Args, rows: &[Row<'_>]) {
    let mut head = vec!["REPOSITORY", "TAG"];
    if args.digests {
        head.push("DIGEST");
    }
    head.extend(["IMAGE ID", "CREATED", "SIZE"]);
    let rows = rows.iter().map(|row| {
        let mut cells = vec![row.repository(), row.tag()];
        if args.digests {
            cells.push(row.digest());
        }
        cells.push(row.id(args.no_trunc));
        cells.push(row.created());
        cells.push(human_size(row.image.size()));
        cells
    });
    table::print(&head, rows.collect());
}

impl Row<'_> {
    fn repository(&self) -> String {
        self.name
            .map_or_else(|| "<none>".into(), ImageReference::familiar_name)
    }

    fn tag(&self) -> String {
        let tag = self.name.and_then(ImageReference::tag);
        tag.unwrap_or("<none>").to_owned()
    }

    fn id(&self, whole: bool) -> String {
        if whole {
            self.image.id().to_string()
        } else {
            self.image.id().short().to_owned()
        }
    }

    /// The digest of what the name stands for: the manifest, or the index that is kept whole.
    fn digest(&self) -> String {
        let index = self.image.index_under(self.name);
        let named = index.unwrap_or_else(|| self.image.descriptor());
        named.digest().to_string()
    }

    /// The platforms that are kept under the name.
    fn platforms(&self) -> Vec<String> {
        let config = self.image.config();
        let own = || format!("{}/{}", config.os(), config.architecture());
        match self.image.index_under(self.name) {
            Some(_) => {
                let all = self.image.platforms().unwrap_or_default();
                all.iter().map(ToString::to_string).collect()
            }
            None => vec![own()],
        }
    }

    fn created(&self) -> String {
        self.image.created().map_or_else(|| "N/A".to_owned(), ago)
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "CreatedAt": self.image.created().unwrap_or(""),
            "CreatedSince": self.created(),
            "Digest": self.digest(),
            "ID": self.id(false),
            "Platforms": self.platforms(),
            "Repository": self.repository(),
            "Size": human_size(self.image.size()),
            "Tag": self.tag(),
        })
    }
}
