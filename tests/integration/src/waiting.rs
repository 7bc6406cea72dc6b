//! Waiting until something holds, with an end to it.

use std::time::{Duration, Instant};

/// How long a program may take for what it does at once on a machine that has nothing else to do. Many tests run side by side.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until something holds.
///
/// # Panics
/// When that takes longer than [`PATIENCE`].
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not in {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
