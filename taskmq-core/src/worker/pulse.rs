//! Whether the worker lives and can work, told to whoever asks from another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Stop;

/// The dispatching thread turns its loop once a second or more often, and no silent server keeps it for so long.
const LONGEST_TURN: Duration = Duration::from_secs(60);

/// Whether a worker lives and can work; clones are of the same one. Nobody waits for an answer: what the worker's own
/// thread did last is all that is looked at.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<Felt>);

#[derive(Debug)]
struct Felt {
    first: Instant,
    /// When the loop turned last, in milliseconds after that.
    turned: AtomicU64,
    has_database: AtomicBool,
    stop: Stop,
}

impl Pulse {
    pub(super) fn new(stop: &Stop) -> Self {
        Self(Arc::new(Felt {
            first: Instant::now(),
            turned: AtomicU64::default(),
            has_database: AtomicBool::default(),
            stop: stop.clone(),
        }))
    }

    /// Whether its dispatching thread has turned its loop within the last minute. One that has not hangs.
    pub fn is_alive(&self) -> bool {
        self.is_alive_at(Instant::now())
    }

    /// Whether it takes messages: it has begun, can use its database, and was told neither to drain nor to stop.
    pub fn is_ready(&self) -> bool {
        self.is_alive() && self.0.has_database.load(Ordering::Relaxed) && !self.0.stop.is_stopping()
    }

    pub(super) fn turn(&self) {
        self.turn_at(Instant::now());
    }

    fn turn_at(&self, now: Instant) {
        let since = now.saturating_duration_since(self.0.first);
        self.0.turned.store(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn has_database(&self, has: bool) {
        self.0.has_database.store(has, Ordering::Relaxed);
    }

    fn is_alive_at(&self, now: Instant) -> bool {
        let turned = self.0.first + Duration::from_millis(self.0.turned.load(Ordering::Relaxed));
        now.saturating_duration_since(turned) < LONGEST_TURN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_hangs_is_not_alive() {
        let pulse = Pulse::new(&Stop::default());
        let first = pulse.0.first;
        let later = |seconds| first + Duration::from_secs(seconds);
        assert!(pulse.is_alive() && pulse.is_alive_at(later(59)) && !pulse.is_alive_at(later(61)));
        pulse.turn_at(later(10));
        assert!(pulse.is_alive_at(later(69)) && !pulse.is_alive_at(later(71)));
    }

    #[test]
    fn it_is_ready_while_it_has_its_database_and_is_not_to_stop() {
        let stop = Stop::default();
        let pulse = Pulse::new(&stop);
        assert!(!pulse.is_ready(), "it has not begun");
        pulse.has_database(true);
        assert!(pulse.is_ready() && pulse.clone().is_ready());
        pulse.has_database(false);
        assert!(!pulse.is_ready());
        pulse.has_database(true);
        stop.stop();
        assert!(!pulse.is_ready() && pulse.is_alive());
    }
}
