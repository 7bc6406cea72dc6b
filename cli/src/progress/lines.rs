//! Plain lines: one for every part that ends, and now and then one for a part that takes long.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dhow_image::Progress;

use super::bytes;

/// How often a part that moves is told of.
const PERIOD: Duration = Duration::from_secs(5);

/// Parts that move, by their names.
#[derive(Default)]
pub(super) struct Lines {
    moving: Mutex<HashMap<String, Moving>>,
}

/// A part that moves.
#[derive(Clone, Debug)]
struct Moving {
    what: String,
    total: Option<u64>,
    done: u64,
    /// Of those done, the bytes that did not have to move now.
    before: u64,
    began: Instant,
    told: Instant,
}

impl Moving {
    fn new(what: &str, total: Option<u64>, now: Instant) -> Self {
        Self {
            what: what.to_owned(),
            total,
            done: 0,
            before: 0,
            began: now,
            told: now,
        }
    }

    /// Bytes a second.
    fn rate(&self, now: Instant) -> u64 {
        let moved = (self.done - self.before) as f64;
        (moved / (now - self.began).as_secs_f64().max(0.000_001)) as u64
    }

    /// What a line says of it while it moves: `pulling, 12.0 MB of 40.0 MB, 4.0 MB/s, 7 s left`.
    fn standing(&self, now: Instant) -> String {
        let rate = self.rate(now);
        let mut line = format!("{}, {}", self.what, bytes(self.done));
        if let Some(total) = self.total {
            line = format!("{line} of {}", bytes(total));
        }
        line = format!("{line}, {}/s", bytes(rate));
        match self.total.map(|total| total.saturating_sub(self.done)) {
            Some(left) if rate > 0 => format!("{line}, {} s left", left.div_ceil(rate)),
            _ => line,
        }
    }

    /// What a line says of it when it has ended well or not.
    fn summary(&self, now: Instant) -> String {
        match self.done - self.before {
            0 => String::new(),
            moved => format!(" ({}, {}/s)", bytes(moved), bytes(self.rate(now))),
        }
    }
}

impl Lines {
    fn moved(&self, part: &str, count: u64, before: u64) {
        let mut moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part_moving) = moving.get_mut(part) {
            part_moving.done += count;
            part_moving.before += before;
            let now = Instant::now();
            if now - part_moving.told >= PERIOD {
                part_moving.told = now;
                eprintln!("{part}: {}", part_moving.standing(now));
            }
        }
    }
}

impl Progress for Lines {
    fn begin(&self, part: &str, what: &str, total: Option<u64>) {
        let mut moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        moving.insert(part.to_owned(), Moving::new(what, total, Instant::now()));
    }

    fn advance(&self, part: &str, count: u64) {
        self.moved(part, count, 0);
    }

    fn resumed(&self, part: &str, count: u64) {
        self.moved(part, count, count);
    }

    fn end(&self, part: &str, outcome: &str) {
        let mut moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let summary = moving
            .remove(part)
            .map_or_else(String::new, |part| part.summary(Instant::now()));
        eprintln!("{part}: {outcome}{summary}");
    }

    fn note(&self, line: &str) {
        eprintln!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_moves_tells_bytes_rate_and_time_left() {
        let began = Instant::now();
        let mut moving = Moving::new("pulling", Some(40_000_000), began);
        moving.done = 12_000_000;
        let now = began + Duration::from_secs(3);
        assert_eq!(
            moving.standing(now),
            "pulling, 12.0 MB of 40.0 MB, 4.0 MB/s, 7 s left"
        );
        assert_eq!(moving.summary(now), " (12.0 MB, 4.0 MB/s)");
    }

    #[test]
    fn what_was_there_before_is_no_part_of_the_rate() {
        let began = Instant::now();
        let mut moving = Moving::new("pulling", Some(40_000_000), began);
        moving.done = 38_000_000;
        moving.before = 36_000_000;
        let now = began + Duration::from_secs(2);
        assert_eq!(
            moving.standing(now),
            "pulling, 38.0 MB of 40.0 MB, 1.0 MB/s, 2 s left"
        );
    }

    #[test]
    fn a_part_that_does_not_move_has_no_time_left() {
        let began = Instant::now();
        let moving = Moving::new("compressing", Some(10), began);
        let now = began + Duration::from_secs(2);
        assert_eq!(moving.standing(now), "compressing, 0 B of 10 B, 0 B/s");
        assert_eq!(moving.summary(now), "");
    }
}
