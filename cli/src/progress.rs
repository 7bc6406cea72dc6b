//! How a verb that moves images tells of it: lines or bars for people, events for programs, an answer alone when quiet.

mod bars;
mod events;
mod lines;

use std::io::{self, IsTerminal, Write};

use dhow_image::{Progress, Silent};
use serde_json::Value;

use self::bars::Bars;
use self::events::Events;
use self::lines::Lines;

/// The progress that fits standard error, where all of it goes that is for people: standard output is for answers.
pub(crate) fn reporter(quiet: bool) -> Box<dyn Progress> {
    if quiet {
        Box::new(Silent)
    } else if io::stderr().is_terminal() {
        Box::new(Bars::default())
    } else {
        Box::new(Lines::default())
    }
}

/// In which form a verb tells what it does and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Lines for people; on a terminal they are redrawn while bytes move
    #[default]
    Text,
    /// A JSON object a line, on standard output: status, id, progressDetail (current, total), at the end aux, or error
    Json,
}

// No doc comment: it would take the place of the verb's own.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct TellingArgs {
    /// Print the answer alone, and no progress
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// How to tell of progress and outcome
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl TellingArgs {
    /// To whom the verb speaks.
    pub(crate) fn telling(self) -> Telling {
        Telling::new(self.quiet, self.format)
    }
}

/// To whom a verb speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// People.
    People,
    /// A program or a person who wants the answer alone.
    Quiet,
    /// A program that follows each event, on standard output.
    Program,
    /// The same on standard error, because standard output takes an archive.
    ProgramBeside,
}

impl Telling {
    /// What these two flags ask for.
    pub(crate) fn new(quiet: bool, format: Format) -> Self {
        match (quiet, format) {
            (true, _) => Self::Quiet,
            (false, Format::Text) => Self::People,
            (false, Format::Json) => Self::Program,
        }
    }

    /// Whether each event is told to a program.
    pub(crate) fn is_json(self) -> bool {
        matches!(self, Self::Program | Self::ProgramBeside)
    }

    /// What takes the reports of the work.
    pub(crate) fn reporter(self) -> Box<dyn Progress> {
        match self {
            Self::People => reporter(false),
            Self::Quiet => reporter(true),
            Self::Program | Self::ProgramBeside => Box::new(Events::new(self)),
        }
    }

    /// Prints one event, where a program is told of them.
    pub(crate) fn event(self, event: &Value) {
        // Who no longer listens does not keep the work from being done.
        let _ = match self {
            Self::Program => writeln!(io::stdout().lock(), "{event}"),
            Self::ProgramBeside => writeln!(io::stderr().lock(), "{event}"),
            Self::People | Self::Quiet => Ok(()),
        };
    }

    /// Lets a program that follows the events know of an error, too.
    pub(crate) fn failing<T>(self, outcome: anyhow::Result<T>) -> anyhow::Result<T> {
        if let Err(error) = &outcome {
            let message = format!("{error:#}");
            self.event(
                &serde_json::json!({ "errorDetail": { "message": message }, "error": message }),
            );
        }
        outcome
    }
}

/// A number of bytes as people read it, exact where that is short: `312 B`, `4.2 MB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 999.95 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// A number with its noun: `1 request`, `3 requests`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_rounded_for_people() {
        for (number, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_951, "1.0 MB"),
            (41_943_040, "41.9 MB"),
            (5_000_000_000_000_000, "5000.0 TB"),
        ] {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(
            (count(1, "request"), count(0, "request")),
            ("1 request".into(), "0 requests".into())
        );
    }
}
