//! `dhow images`

use std::process::ExitCode;

use dhow_image::ImageReference;
use dhow_image_store::Image;
use serde_json::json;

use crate::ago::ago;
use crate::context::Context;
use crate::image_filter::{Filter, Filters};
use crate::table::{Format, List, human_size, print_lines};

/// Lists the images of the store.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only images of this name (NAME or NAME:TAG), in which * and ? stand for what they stand for in file names
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
    /// How to print: table, json (an object a line), or a Go template such as '{{.Repository}}:{{.Tag}}', after the word table with a head
    #[arg(long, default_value = "table")]
    format: Format,
    /// Only those that fit: dangling=true|false, label=KEY[=VALUE], before=IMAGE, since=IMAGE, reference=PATTERN
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
}

/// An image under one of its names.
struct Row<'a> {
    image: &'a Image,
    name: Option<&'a ImageReference>,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let store = context.store()?;
    let images = store.images_and(|name, error| eprintln!("dhow: {name}: {error}"))?;
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
    let mut filters = args.filter.clone();
    filters.extend(args.name.clone().map(Filter::Reference));
    let filters = Filters::new(&filters, &store)?;
    rows.retain(|row| filters.fit(row.image, row.name));
    if args.quiet {
        rows.dedup_by_key(|row| row.image.id());
        print_lines(rows.iter().map(|row| row.id(args.no_trunc)));
        return Ok(ExitCode::SUCCESS);
    }
    let mut shown = vec![("Repository", "REPOSITORY"), ("Tag", "TAG")];
    if args.digests {
        shown.push(("Digest", "DIGEST"));
    }
    shown.extend([
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
    ]);
    List {
        shown: &shown,
        others: &[
            ("Digest", "DIGEST"),
            ("CreatedAt", "CREATED AT"),
            ("Platforms", "PLATFORMS"),
        ],
        rows: rows.iter().map(|row| row.json(args.no_trunc)).collect(),
    }
    .print(&args.format)?;
    Ok(ExitCode::SUCCESS)
}

impl Row<'_> {
    fn repository(&self) -> String {
        self.name
            .map_or_else(|| "<none>".into(), ImageReference::familiar_name)
    }

    fn tag(&self) -> String {
        // A name with a digest stands for that, whatever tag led to it.
        let tagged = self.name.filter(|name| name.digest().is_none());
        let tag = tagged.and_then(ImageReference::tag);
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
        self.image.root_under(self.name).digest().to_string()
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

    fn json(&self, whole: bool) -> serde_json::Value {
        json!({
            "CreatedAt": self.image.created().unwrap_or(""),
            "CreatedSince": self.created(),
            "Digest": self.digest(),
            "ID": self.id(whole),
            "Platforms": self.platforms(),
            "Repository": self.repository(),
            "Size": human_size(self.image.size()),
            "Tag": self.tag(),
        })
    }
}
