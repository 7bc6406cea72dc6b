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
                "{prefix}: {msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}",
            )),
            None => ProgressBar::new_spinner().with_style(style("{prefix}: {msg} {spinner}")),
        };
        bar.set_prefix(part.to_owned());
        bar.set_message(what.to_owned());
        let bar = self.all.add(bar);
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
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
