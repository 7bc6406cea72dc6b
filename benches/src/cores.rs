//! Whether there is a second core, and whether it is free.

use std::time::Instant;

use sha2::{Digest as _, Sha256};

/// How much is digested.
const ROUNDS: usize = 300;

/// The time of two threads that each do what one thread alone did, as a multiple of that one's: 1.0 with a free second core, 2.0 without.
pub(crate) fn contention() -> f64 {
    let data = vec![7u8; 256 << 10];
    let work = || {
        for _ in 0..ROUNDS {
            std::hint::black_box(Sha256::digest(&data));
        }
    };
    work();
    let begun = Instant::now();
    work();
    let alone = begun.elapsed();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    begun.elapsed().as_secs_f64() / alone.as_secs_f64()
}
