//! `dhow history`

use std::process::ExitCode;

use dhow_image_store::Image;
use serde_json::json;

use crate::ago::ago;
use crate::context::Context;
use crate::images;
use crate::table::{Format, List, human_size, print_lines};

/// So much of a command is shown unless all of it is asked for.
const WIDTH: usize = 45;

/// Shows how an image came about, the latest step first.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A name or id
    image: String,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// Show whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Sizes in bytes and exact times with =false
    #[arg(short = 'H', long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    human: bool,
    /// How to print: table, json (an object a line), or a Go template such as '{{.CreatedBy}}', after the word table with a head
    #[arg(long, default_value = "table")]
    format: Format,
}

/// One step of the image's making.
struct Step {
    id: String,
    created: String,
    command: String,
    size: u64,
    comment: String,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let image = images::find(&context.store()?, &args.image)?;
    let steps = steps(&image);
    if args.quiet {
        print_lines(steps.iter().map(|step| shown_id(args, &step.id)));
        return Ok(ExitCode::SUCCESS);
    }
    List {
        shown: &[
            ("ID", "IMAGE"),
            ("CreatedSince", "CREATED"),
            ("CreatedBy", "CREATED BY"),
            ("Size", "SIZE"),
            ("Comment", "COMMENT"),
        ],
        others: &[("CreatedAt", "CREATED AT")],
        rows: steps.iter().map(|step| row(args, step)).collect(),
    }
    .print(&args.format)?;
    Ok(ExitCode::SUCCESS)
}

/// The image's steps, latest first. Steps that made a layer take theirs in order; an image whose config tells nothing has its layers.
fn steps(image: &Image) -> Vec<Step> {
    let mut sizes = image.layer_sizes().into_iter();
    let history = image.config().history().as_deref().unwrap_or_default();
    let mut steps: Vec<Step> = history
        .iter()
        .map(|step| Step {
            id: "<missing>".to_owned(),
            created: step.created().clone().unwrap_or_default(),
            command: step.created_by().clone().unwrap_or_default(),
            size: match step.empty_layer() {
                Some(true) => 0,
                _ => sizes.next().unwrap_or(0),
            },
            comment: step.comment().clone().unwrap_or_default(),
        })
        .collect();
    steps.extend(sizes.map(|size| Step {
        id: "<missing>".to_owned(),
        created: String::new(),
        command: String::new(),
        size,
        comment: String::new(),
    }));
    if let Some(last) = steps.last_mut() {
        last.id = image.id().to_string();
    }
    steps.reverse();
    steps
}

fn row(args: &Args, step: &Step) -> serde_json::Value {
    let created = match args.human {
        true => since(&step.created),
        false => step.created.clone(),
    };
    // Only where columns stand side by side a long command is in the way.
    let is_short = matches!(args.format, Format::Table | Format::Columns(_)) && !args.no_trunc;
    let command = match is_short {
        true => shortened(&step.command),
        false => step.command.clone(),
    };
    json!({
        "Comment": step.comment,
        "CreatedAt": step.created,
        "CreatedBy": command,
        "CreatedSince": created,
        "ID": shown_id(args, &step.id),
        "Size": size(args, step.size),
    })
}

fn shortened(command: &str) -> String {
    let command = command.replace(['\n', '\t'], " ");
    match command.char_indices().nth(WIDTH) {
        Some(_) => {
            let kept: String = command.chars().take(WIDTH - 1).collect();
            format!("{kept}…")
        }
        None => command,
    }
}

fn since(created: &str) -> String {
    match created {
        "" => "N/A".to_owned(),
        created => ago(created),
    }
}

fn size(args: &Args, bytes: u64) -> String {
    match args.human {
        true => human_size(bytes),
        false => bytes.to_string(),
    }
}

fn shown_id(args: &Args, id: &str) -> String {
    match (args.no_trunc, id.split_once(':')) {
        (false, Some((_, hex))) => hex.chars().take(12).collect(),
        _ => id.to_owned(),
    }
}
