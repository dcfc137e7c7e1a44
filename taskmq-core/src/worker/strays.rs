//! Handlers that run on though nobody waits for them any more: their time was over, or their worker was given up. A
//! thread cannot be stopped, so they can still end the process, for which no message that runs beside them is to blame.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Those of this process, whichever worker began them.
static STRAYS: AtomicUsize = AtomicUsize::new(0);

/// Whether there are any.
pub(super) fn exist() -> bool {
    STRAYS.load(Ordering::Acquire) > 0
}

/// A handler that runs, held by what runs it until it has really ended, and by what waits for it.
#[derive(Debug, Default)]
pub(super) struct Run(AtomicBool);

impl Run {
    /// Nobody waits for it any more.
    pub(super) fn give_up(&self) {
        if !self.0.swap(true, Ordering::AcqRel) {
            STRAYS.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if *self.0.get_mut() {
            STRAYS.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
