//! Events for programs: a JSON object a line, in the form of Docker's API: status, id, progressDetail.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dhow_image::Progress;
use serde_json::{Value, json};

use super::Telling;

/// How often a part that moves is told of.
const PERIOD: Duration = Duration::from_millis(100);

/// Prints an event for every change.
pub(super) struct Events {
    telling: Telling,
    moving: Mutex<HashMap<String, Moving>>,
}

/// A part that moves.
struct Moving {
    what: String,
    total: Option<u64>,
    current: u64,
    told: Instant,
}

impl Moving {
    fn event(&self, part: &str) -> Value {
        let mut detail = json!({ "current": self.current });
        if let Some(total) = self.total {
            detail["total"] = total.into();
        }
        json!({ "status": self.what, "id": part, "progressDetail": detail })
    }
}

impl Events {
    pub(super) fn new(telling: Telling) -> Self {
        Self {
            telling,
            moving: Mutex::default(),
        }
    }
}

impl Progress for Events {
    fn begin(&self, part: &str, what: &str, total: Option<u64>) {
        let begun = Moving {
            what: what.to_owned(),
            total,
            current: 0,
            told: Instant::now(),
        };
        let mut moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        self.telling.event(&begun.event(part));
        moving.insert(part.to_owned(), begun);
    }

    fn advance(&self, part: &str, bytes: u64) {
        let mut moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(advanced) = moving.get_mut(part) {
            advanced.current += bytes;
            // The last bytes are always told of.
            if advanced.told.elapsed() >= PERIOD || advanced.total == Some(advanced.current) {
                advanced.told = Instant::now();
                self.telling.event(&advanced.event(part));
            }
        }
    }

    fn end(&self, part: &str, outcome: &str) {
        let mut moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        moving.remove(part);
        self.telling
            .event(&json!({ "status": outcome, "id": part, "progressDetail": {} }));
    }

    fn note(&self, line: &str) {
        self.telling.event(&json!({ "status": line }));
    }
}
