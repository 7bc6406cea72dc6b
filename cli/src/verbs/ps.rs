//! `dhow ps`

use std::io::Write;
use std::process::ExitCode;

use anyhow::bail;
use comfy_table::Table;
use dhow_engine::{ContainerState, PodStatus};
use serde_json::json;

use crate::ago::{ago, since};
use crate::context::Context;

/// How many characters of a command are shown.
const COMMAND_WIDTH: usize = 20;

/// Which containers, and how to show them.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// table, or json: one document a line
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    format: String,
    /// Only those that fit: name=TEXT, id=TEXT, status=created|running|exited, label=KEY[=VALUE], ancestor=IMAGE
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let filters: Vec<Filter> = args
        .filter
        .iter()
        .map(|text| Filter::read(text))
        .collect::<anyhow::Result<_>>()?;
    // Who asks for a state wants to see it, running or not.
    let all = args.all || filters.iter().any(|f| matches!(f, Filter::Status(_)));
    let pods: Vec<PodStatus> = context
        .engine()?
        .list()?
        .into_iter()
        .filter(|pod| all || pod.is_running())
        .filter(|pod| filters.iter().all(|filter| filter.fits(pod)))
        .collect();
    let lines: Vec<String> = match args.format.as_str() {
        _ if args.quiet => pods.iter().map(|pod| id(pod, args).to_owned()).collect(),
        "json" => pods
            .iter()
            .map(|pod| document(pod, args).to_string())
            .collect(),
        "table" => table(&pods, args),
        other => bail!("--format {other} is not supported; use table or json"),
    };
    let mut stdout = std::io::stdout().lock();
    for line in lines {
        // Who has read enough (head) is no fault.
        if writeln!(stdout, "{line}").is_err() {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

enum Filter {
    Name(String),
    Id(String),
    Status(String),
    Label(String),
    Ancestor(String),
}

impl Filter {
    fn read(text: &str) -> anyhow::Result<Self> {
        Ok(match text.split_once('=') {
            Some(("name", value)) => Self::Name(value.into()),
            Some(("id", value)) => Self::Id(value.into()),
            Some(("status", value @ ("created" | "running" | "exited"))) => {
                Self::Status(value.into())
            }
            Some(("label", value)) => Self::Label(value.into()),
            Some(("ancestor", value)) => Self::Ancestor(value.into()),
            _ => bail!(
                "--filter {text}: use name=TEXT, id=TEXT, status=created|running|exited, label=KEY[=VALUE] or ancestor=IMAGE"
            ),
        })
    }

    fn fits(&self, pod: &PodStatus) -> bool {
        let container = pod.spec.first();
        match self {
            Self::Name(text) => pod
                .spec
                .name
                .as_str()
                .contains(text.trim_start_matches('/')),
            Self::Id(text) => container.id.as_str().starts_with(text),
            Self::Status(text) => state(pod) == text,
            Self::Label(text) => match text.split_once('=') {
                Some((key, value)) => container.labels.get(key).is_some_and(|v| v == value),
                None => container.labels.contains_key(text),
            },
            Self::Ancestor(text) => &container.image == text,
        }
    }
}

fn state(pod: &PodStatus) -> &'static str {
    match pod.state() {
        ContainerState::Created => "created",
        ContainerState::Running { .. } => "running",
        ContainerState::Exited { .. } => "exited",
    }
}

fn status(pod: &PodStatus) -> String {
    match pod.state() {
        ContainerState::Created => "Created".into(),
        ContainerState::Running { started, .. } => match started {
            Some(started) => format!("Up {}", since(&started)),
            None => "Starting".into(),
        },
        ContainerState::Exited { exit, .. } => {
            let oom = if exit.oom_killed { ", OOM" } else { "" };
            format!("Exited ({}{oom}) {}", exit.code, ago(&exit.finished))
        }
    }
}

fn id<'a>(pod: &'a PodStatus, args: &Args) -> &'a str {
    let id = &pod.spec.first().id;
    if args.no_trunc {
        id.as_str()
    } else {
        id.short()
    }
}

fn command(pod: &PodStatus, args: &Args) -> String {
    let whole = pod.spec.first().command.join(" ");
    if args.no_trunc || whole.chars().count() <= COMMAND_WIDTH {
        return format!("\"{whole}\"");
    }
    let start: String = whole.chars().take(COMMAND_WIDTH - 1).collect();
    format!("\"{start}…\"")
}

fn table(pods: &[PodStatus], args: &Args) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header([
        "CONTAINER ID",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "PORTS",
        "NAMES",
    ]);
    for pod in pods {
        table.add_row([
            id(pod, args).to_owned(),
            pod.spec.first().image.clone(),
            command(pod, args),
            ago(&pod.spec.created),
            status(pod),
            String::new(),
            pod.spec.name.to_string(),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

/// The keys that Docker's `{{json .}}` has.
fn document(pod: &PodStatus, args: &Args) -> serde_json::Value {
    let container = pod.spec.first();
    let labels: Vec<String> = container
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    json!({
        "ID": id(pod, args),
        "Image": container.image,
        "Command": command(pod, args),
        "CreatedAt": pod.spec.created,
        "RunningFor": ago(&pod.spec.created),
        "State": state(pod),
        "Status": status(pod),
        "Ports": "",
        "Names": pod.spec.name,
        "Labels": labels.join(","),
        "Networks": pod.spec.first().options.network,
    })
}
