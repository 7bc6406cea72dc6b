//! Input that is changed by chance: what the tests of several rooms try in bounds, without a nightly toolchain. They take this
//! file in by its path. `DHOW_TEST_SEED` repeats a run, `DHOW_TEST_CASES` makes it longer.

#![allow(dead_code, reason = "each test takes a part")]

use std::time::{Duration, Instant};

/// The most memory that a program of such tests may ever have, in KiB.
pub(crate) const MEMORY: u64 = 512 << 10;
/// What takes longer hangs, on a busy machine too.
const LONGEST: Duration = Duration::from_secs(20);

/// Marsaglia's xorshift.
pub(crate) struct Chance(u64);

impl Chance {
    /// A new one, whose seed is told.
    pub(crate) fn new() -> Self {
        let seed =
            from_environment("DHOW_TEST_SEED").unwrap_or_else(|| u64::from(std::process::id()) | 1);
        println!("DHOW_TEST_SEED={seed}");
        Self(seed.max(1))
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    pub(crate) fn of<'v, T>(&mut self, values: &'v [T]) -> &'v T {
        &values[self.below(values.len())]
    }
}

/// How many cases to try.
pub(crate) fn cases(otherwise: u64) -> u64 {
    from_environment("DHOW_TEST_CASES").unwrap_or(otherwise)
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Changes some bytes somewhere.
pub(crate) fn change_bytes(text: &mut Vec<u8>, chance: &mut Chance) {
    for _ in 0..1 + chance.below(4) {
        let at = chance.below(text.len());
        match chance.below(4) {
            0 => text.truncate(at),
            1 => text.insert(at, chance.below(256) as u8),
            2 if !text.is_empty() => text[at] = chance.below(256) as u8,
            _ => {
                let end = (at + chance.below(64)).min(text.len());
                let piece = text[at..end].to_vec();
                text.splice(at..at, piece);
            }
        }
    }
}

/// What means something in most languages.
const WORDS: [&str; 30] = [
    "",
    "0",
    "-1",
    "1",
    "255",
    "256",
    "4096",
    "65536",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e9",
    "0x7f",
    "%",
    "%2e%2e",
    "%00",
    "\0",
    "\n",
    "\r\n",
    "\"",
    "\\",
    "..",
    "/../",
    "//",
    ":",
    "@",
    "\u{1b}[2J",
    "ü€😀",
];

/// Changes a seed at places that mean something: words come, go, are exchanged and taken over from another seed.
fn change(seeds: &[Vec<u8>], words: &[&str], chance: &mut Chance) -> Vec<u8> {
    let mut text = chance.of(seeds).clone();
    for _ in 0..1 + chance.below(4) {
        let at = chance.below(text.len() + 1);
        let length = 1 << chance.below(8);
        let end = (at + chance.below(length)).min(text.len());
        match chance.below(8) {
            0 => change_bytes(&mut text, chance),
            1 => drop(text.drain(at..end)),
            2 => {
                let other = chance.of(seeds);
                let from = chance.below(other.len() + 1);
                let to = (from + chance.below(200)).min(other.len());
                text.splice(at..end, other[from..to].iter().copied());
            }
            3 => {
                let word = chance.of(&WORDS).repeat(1 + chance.below(3));
                text.splice(at..end, word.into_bytes());
            }
            4 => {
                let most = 1 << chance.below(12);
                let piece = text[at..end].repeat(1 + chance.below(most));
                text.splice(at..at, piece);
            }
            // A number becomes another one.
            5 => {
                let digits = |b: &u8| b.is_ascii_digit();
                if let Some(first) = text[at..].iter().position(digits).map(|i| at + i) {
                    let count = text[first..].iter().take_while(|b| digits(b)).count();
                    let word = chance.of(&WORDS).as_bytes().to_vec();
                    text.splice(first..first + count, word);
                }
            }
            _ => {
                let word = match words.is_empty() {
                    true => chance.of(&WORDS),
                    false => chance.of(words),
                };
                text.splice(at..end, word.bytes());
            }
        }
    }
    text
}

/// How many inputs were taken, and how many refused.
pub(crate) struct Tried {
    pub(crate) taken: u64,
    pub(crate) refused: u64,
}

/// Tries so many changed seeds: each is taken or refused, none takes the program down, long or much memory.
pub(crate) fn try_many(
    seeds: &[Vec<u8>],
    words: &[&str],
    count: u64,
    mut is_taken: impl FnMut(&[u8]) -> bool,
) -> Tried {
    let mut chance = Chance::new();
    let mut tried = Tried {
        taken: 0,
        refused: 0,
    };
    for _ in 0..cases(count) {
        let input = change(seeds, words, &mut chance);
        let begin = Instant::now();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| is_taken(&input)));
        let case = || String::from_utf8_lossy(&input).into_owned();
        match done {
            Ok(true) => tried.taken += 1,
            Ok(false) => tried.refused += 1,
            Err(_) => panic!("the program would go down by {:?}", case()),
        }
        let took = begin.elapsed();
        assert!(took < LONGEST, "{took:?} for {:?}", case());
    }
    println!("{} taken, {} refused", tried.taken, tried.refused);
    assert!(peak() < MEMORY, "it took {} KiB", peak());
    tried
}

/// The most memory that this process ever had, in KiB.
pub(crate) fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_ascii_whitespace().nth(1));
    number.and_then(|text| text.parse().ok()).expect("VmHWM")
}
