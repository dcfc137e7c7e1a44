//! When to look for schedules that are due.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// By this machine's monotonic clock: as of the last look around, or of the last round of ticks if that was later.
#[derive(Debug, Default)]
pub(super) struct NextTick(Mutex<Option<Instant>>);

impl NextTick {
    /// Whether it comes sooner than was known.
    pub(super) fn is_in(&self, wait: Option<Duration>) -> bool {
        // What is due at the very moment it is looked for would have to be looked for again.
        const AFTER: Duration = Duration::from_millis(1);
        let at = wait.map(|wait| Instant::now() + wait + AFTER);
        let before = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), at);
        at.is_some_and(|at| before.is_none_or(|before| at < before))
    }

    pub(super) fn at(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
