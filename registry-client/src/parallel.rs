//! Work on the parts of an image side by side, begun in their order.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use dhow_image::{TransferError, TransferErrorKind};

/// Set when one part has failed, so that the others need not go on.
#[derive(Default)]
pub(crate) struct Stop(AtomicBool);

impl Stop {
    /// Fails when another part has failed.
    pub(crate) fn check(&self) -> Result<(), TransferError> {
        match self.0.load(Ordering::Acquire) {
            true => Err(TransferError::new(
                TransferErrorKind::Other,
                "given up because another part failed",
            )),
            false => Ok(()),
        }
    }
}

/// Calls `work` for each of `parts`, at most `width` at a time, each begun after those before it. The results in the order of the
/// parts, or the first error.
pub(crate) fn each<P: Sync, R: Send>(
    parts: &[P],
    width: usize,
    work: impl Fn(&P, &Stop) -> Result<R, TransferError> + Sync,
) -> Result<Vec<R>, TransferError> {
    each_announced(parts, width, &Silent, work)
}

/// Who is told of parts.
pub(crate) trait Announce<P>: Sync {
    /// The part is about to be begun.
    fn announce(&self, part: &P);
    /// It was announced and failed.
    fn withdraw(&self, part: &P);
}

/// Tells nobody.
struct Silent;

impl<P> Announce<P> for Silent {
    fn announce(&self, _: &P) {}
    fn withdraw(&self, _: &P) {}
}

/// The same, where each part is announced before it and any that stands after it is begun: a thread that is held up between
/// taking a part and beginning it is overtaken by the others.
pub(crate) fn each_announced<P: Sync, R: Send>(
    parts: &[P],
    width: usize,
    told: &impl Announce<P>,
    work: impl Fn(&P, &Stop) -> Result<R, TransferError> + Sync,
) -> Result<Vec<R>, TransferError> {
    let stop = Stop::default();
    let rest = Mutex::new(parts.iter().enumerate());
    let take = || {
        let mut rest = lock(&rest);
        stop.check().ok()?;
        let next = rest.next();
        if let Some((_, part)) = next {
            told.announce(part);
        }
        next
    };
    let failure: Mutex<Option<TransferError>> = Mutex::new(None);
    let results: Vec<Mutex<Option<R>>> = parts.iter().map(|_| Mutex::new(None)).collect();
    let worker = || {
        while let Some((at, part)) = take() {
            match work(part, &stop) {
                Ok(result) => *lock(&results[at]) = Some(result),
                Err(error) => {
                    // In this order: who stops because of it, or fails for want of this part, must find it there.
                    lock(&failure).get_or_insert(error);
                    stop.0.store(true, Ordering::Release);
                    told.withdraw(part);
                    return;
                }
            }
        }
    };
    match parts.len().min(width.max(1)) {
        0 => {}
        1 => worker(),
        count => std::thread::scope(|scope| {
            for _ in 0..count {
                scope.spawn(worker);
            }
        }),
    }
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(results
            .into_iter()
            .filter_map(|result| result.into_inner().unwrap_or_else(PoisonError::into_inner))
            .collect()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn results_keep_the_order_and_the_first_error_ends_it() {
        let parts: Vec<u32> = (0..50).collect();
        let doubled = each(&parts, 4, |part, _| Ok(part * 2)).unwrap();
        assert_eq!(doubled, (0..50).map(|part| part * 2).collect::<Vec<_>>());
        assert!(
            each(&[] as &[u32], 4, |part, _| Ok(*part))
                .unwrap()
                .is_empty()
        );
        let begun = AtomicUsize::new(0);
        let failed = each(&parts, 2, |part, _| {
            begun.fetch_add(1, Ordering::Relaxed);
            match part {
                3 => Err(TransferError::new(TransferErrorKind::Corrupt, "three")),
                _ => Ok(()),
            }
        });
        assert_eq!(failed.unwrap_err().to_string(), "three");
        assert!(begun.into_inner() < 50);
    }
}
