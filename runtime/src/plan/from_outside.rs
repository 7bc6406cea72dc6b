//! What a container with a user namespace of its own cannot do from inside: there root has no power over what is the host's, to which
//! limits of resources and the caller's pipes belong.

use dhow_sys::namespace;

use super::step::{Carrier, Step};
use super::{InitPlan, PlannedStep};

impl InitPlan {
    /// Has the limits that init would set itself set by `carrier`, right after its step `after`: raising a hard one takes
    /// CAP_SYS_RESOURCE on the host.
    pub(super) fn limit_from_outside(&mut self, carrier: Carrier, after: &Step) {
        let is_limit = |planned: &PlannedStep| matches!(planned.step, Step::SetRlimit { .. });
        let all = std::mem::take(&mut self.steps).into_iter();
        let (limits, rest): (Vec<_>, Vec<_>) = all.partition(is_limit);
        self.steps = rest;
        let found = |planned: &PlannedStep| planned.carrier == carrier && planned.step == *after;
        let at = self.steps.iter().position(found);
        let at = at.map_or(self.steps.len(), |at| at + 1);
        let moved = limits.into_iter().map(|planned| PlannedStep {
            carrier,
            step: planned.step,
        });
        self.steps.splice(at..at, moved);
    }
}

/// Whether the caller can do this from outside, where it has more power: it is root.
pub(super) fn helps(namespaces: u64) -> bool {
    namespaces & namespace::USER != 0 && dhow_sys::process::user_at_start() == 0
}
