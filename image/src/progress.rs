//! How long work is reported; only a front end draws it.

/// Takes reports of parts of a long work (layers that move, steps that run), from any thread.
pub trait Progress: Sync {
    /// A part begins: its name (a short digest, a step), what happens to it, and its size in bytes where it is known.
    fn begin(&self, part: &str, what: &str, total: Option<u64>);
    /// So many more bytes of the part are done.
    fn advance(&self, part: &str, bytes: u64);
    /// The part has ended, with this outcome: `pushed`, `already there`.
    fn end(&self, part: &str, outcome: &str);
    /// A line about the whole.
    fn note(&self, line: &str);
}

/// Reports nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _part: &str, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _part: &str, _bytes: u64) {}
    fn end(&self, _part: &str, _outcome: &str) {}
    fn note(&self, _line: &str) {}
}
