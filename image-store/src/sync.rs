//! Syncs of the store's file system that are shared: layers that end at about the same time wait for one.

use std::fs::File;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::error::io;
use crate::{Store, StoreError};

/// The syncs of one process, counted.
#[derive(Debug, Default)]
pub(crate) struct SharedSync {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How many have begun, and how many of them have ended: one at a time.
    begun: u64,
    done: u64,
    /// The latest that failed, and why.
    failed: Option<(u64, Errno)>,
}

impl SharedSync {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns after a sync that began after this was called: our own, or the one of another who waited as long.
    fn wait(&self, sync: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
        let mut state = self.state();
        // One that is under way may have passed what we wrote.
        let own = state.begun + 1;
        while state.done < state.begun && state.done < own {
            state = self
                .ended
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.done >= own {
            return match state.failed {
                Some((number, error)) if number >= own => Err(error),
                _ => Ok(()),
            };
        }
        state.begun += 1;
        let number = state.begun;
        drop(state);
        let result = sync();
        let mut state = self.state();
        state.done = number;
        if let Err(error) = result {
            state.failed = Some((number, error));
        }
        self.ended.notify_all();
        result
    }
}

impl Store {
    /// Flushes all that was written to the store's file system.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let root = File::open(self.root()).map_err(io("opening", self.root()))?;
        self.inner
            .syncs
            .wait(|| rustix::fs::syncfs(&root))
            .map_err(io("syncing", self.root()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn what_was_written_before_is_covered_by_a_sync_that_began_after() {
        let shared = SharedSync::default();
        let written = AtomicU64::new(0);
        let synced = AtomicU64::new(0);
        let syncs = AtomicU64::new(0);
        let work = || {
            for _ in 0..200 {
                let own = written.fetch_add(1, Ordering::SeqCst) + 1;
                let sync = || {
                    // All that is written by now, and no more.
                    let seen = written.load(Ordering::SeqCst);
                    std::thread::yield_now();
                    syncs.fetch_add(1, Ordering::SeqCst);
                    synced.fetch_max(seen, Ordering::SeqCst);
                    Ok(())
                };
                shared.wait(sync).unwrap();
                assert!(synced.load(Ordering::SeqCst) >= own);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(work);
            }
        });
        assert!(syncs.into_inner() <= 1600);
    }

    #[test]
    fn a_failure_is_told_to_who_waited_and_not_to_who_comes_later() {
        let shared = SharedSync::default();
        assert_eq!(shared.wait(|| Err(Errno::IO)), Err(Errno::IO));
        assert_eq!(shared.wait(|| Ok(())), Ok(()));
        let begun = std::sync::Barrier::new(4);
        let failing = || Err(Errno::NOSPC);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| {
                shared.wait(|| {
                    begun.wait();
                    Ok(())
                })
            });
            let others: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        begun.wait();
                        shared.wait(failing)
                    })
                })
                .collect();
            assert_eq!(first.join().unwrap(), Ok(()));
            for other in others {
                assert_eq!(other.join().unwrap(), Err(Errno::NOSPC));
            }
        });
    }
}
