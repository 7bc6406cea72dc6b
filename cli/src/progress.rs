//! Progress as a person sees it: bars on a terminal, plain lines otherwise, nothing when quiet.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use dhow_image::{Progress, Silent};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The progress that fits standard error, where all of it goes: standard output is for answers.
pub(crate) fn reporter(quiet: bool) -> Box<dyn Progress> {
    if quiet {
        Box::new(Silent)
    } else if std::io::stderr().is_terminal() {
        Box::new(Bars::default())
    } else {
        Box::new(Lines)
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

/// A line for every part that ends.
struct Lines;

impl Progress for Lines {
    fn begin(&self, _part: &str, _what: &str, _total: Option<u64>) {}

    fn advance(&self, _part: &str, _bytes: u64) {}

    fn end(&self, part: &str, outcome: &str) {
        eprintln!("{part}: {outcome}");
    }

    fn note(&self, line: &str) {
        eprintln!("{line}");
    }
}

/// A bar for every part.
#[derive(Default)]
struct Bars {
    all: MultiProgress,
    bars: Mutex<HashMap<String, ProgressBar>>,
}

impl Bars {
    fn with<T>(&self, part: &str, act: impl FnOnce(&ProgressBar) -> T) -> Option<T> {
        let bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        bars.get(part).map(act)
    }
}

impl Progress for Bars {
    fn begin(&self, part: &str, what: &str, total: Option<u64>) {
        let bar = match total {
            Some(total) => ProgressBar::new(total).with_style(style(
                "{prefix}: {msg} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}",
            )),
            None => ProgressBar::new_spinner().with_style(style("{prefix}: {msg} {spinner}")),
        };
        bar.set_prefix(part.to_owned());
        bar.set_message(what.to_owned());
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        // What begins again, because a connection broke, keeps its line.
        let bar = match bars.get(part) {
            Some(earlier) => {
                let bar = self.all.insert_after(earlier, bar);
                self.all.remove(earlier);
                bar
            }
            None => self.all.add(bar),
        };
        bars.insert(part.to_owned(), bar);
    }

    fn advance(&self, part: &str, bytes: u64) {
        self.with(part, |bar| bar.inc(bytes));
    }

    fn end(&self, part: &str, outcome: &str) {
        let drawn = self.with(part, |bar| {
            bar.set_style(style("{prefix}: {msg}"));
            bar.finish_with_message(outcome.to_owned());
        });
        if drawn.is_none() {
            self.note(&format!("{part}: {outcome}"));
        }
    }

    fn note(&self, line: &str) {
        let _ = self.all.println(line);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
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
