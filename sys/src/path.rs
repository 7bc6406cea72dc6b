//! Paths that the kernel resolves under conditions.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};
use rustix::path::Arg;

/// How often a path is looked up that others' renames disturb.
const MOST_ATTEMPTS: usize = 10_000;

/// `openat2(2)`, again where whatever is renamed or mounted on the machine while the kernel follows a `..` makes it answer EAGAIN: it cannot
/// tell then whether the path has left `directory`. It does not last. What is opened closes when the program executes another.
///
/// # Errors
/// As the system call; `EAGAIN` where somebody disturbs it without end.
pub fn open_within<P: Arg + Copy>(
    directory: impl AsFd,
    path: P,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    for _ in 0..MOST_ATTEMPTS {
        match rustix::fs::openat2(&directory, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN) => std::thread::yield_now(),
            answer => return answer,
        }
    }
    Err(Errno::AGAIN)
}
