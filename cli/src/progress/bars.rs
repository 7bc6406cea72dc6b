//! A line for every part on a terminal, redrawn in place: bytes, rate and time left.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use dhow_image::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// A bar for every part.
#[derive(Default)]
pub(super) struct Bars {
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
                "{prefix}: {msg} [{bar:24}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}, {eta} left",
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

    fn resumed(&self, part: &str, bytes: u64) {
        self.with(part, |bar| {
            bar.inc(bytes);
            bar.reset_eta();
        });
    }

    fn end(&self, part: &str, outcome: &str) {
        let drawn = self.with(part, |bar| {
            bar.set_style(style(match bar.length() {
                Some(1..) => "{prefix}: {msg} ({decimal_total_bytes} in {elapsed})",
                _ => "{prefix}: {msg}",
            }));
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
