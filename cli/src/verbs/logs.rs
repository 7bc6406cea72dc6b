//! `dhow logs`

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context as _;
use dhow_engine::LogOptions;
use dhow_engine::StreamName;
use jiff::{SignedDuration, Timestamp};

use crate::context::Context;

/// Which container's log, and how much of it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Go on with what is written until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Only so many of the last lines, or all
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "all")]
    tail: String,
    /// Write before each line when it was written
    #[arg(short, long)]
    timestamps: bool,
    /// Nothing older than a time (2024-01-31T12:00:00Z) or than so long ago (10m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// A container's name or id
    container: String,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let options =
        LogOptions {
            tail: match args.tail.as_str() {
                "all" | "-1" => None,
                number => Some(number.parse().with_context(|| {
                    format!("--tail {number}: write a number of lines, or all")
                })?),
            },
            since: args.since.as_deref().map(since).transpose()?,
            follow: args.follow,
        };
    let engine = context.engine()?;
    let spec = engine.find(&args.container)?;
    let mut stdout = std::io::stdout().lock();
    let mut stderr = std::io::stderr().lock();
    engine.logs(&spec, &options, |line| {
        let out: &mut dyn Write = match line.stream {
            StreamName::Stdout => &mut stdout,
            StreamName::Stderr => &mut stderr,
        };
        let time = if args.timestamps {
            format!("{} ", line.time)
        } else {
            String::new()
        };
        // Who does not read any more wants no more.
        write!(out, "{time}{}", line.log)
            .and_then(|()| out.flush())
            .is_ok()
    })?;
    Ok(ExitCode::SUCCESS)
}

fn since(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(Timestamp::from_second(seconds)?);
    }
    let ago: SignedDuration = text.parse().with_context(|| {
        format!("--since {text}: write a time as 2024-01-31T12:00:00Z, or how long ago as 10m")
    })?;
    Ok(Timestamp::now() - ago)
}
