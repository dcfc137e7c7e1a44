use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::Payload;
use crate::message::now;

static HANDLED: AtomicU64 = AtomicU64::new(0);
static FIRST: AtomicU64 = AtomicU64::new(0);
static LATENCIES: Mutex<Vec<u64>> = Mutex::new(Vec::new());

/// What a synchronous handler does.
pub fn handle(payload: &Payload) {
    let takes = begin(payload);
    if !takes.is_zero() {
        std::thread::sleep(takes);
    }
    end();
}

/// What an asynchronous handler does first; it then sleeps for the time that this gives, and calls [`end`].
pub fn begin(payload: &Payload) -> Duration {
    if FIRST.load(Ordering::Relaxed) == 0 {
        // Only the first of all is noted.
        let _ = FIRST.compare_exchange(0, now(), Ordering::Relaxed, Ordering::Relaxed);
    }
    if payload.at != 0 {
        let latency = now().saturating_sub(payload.at);
        LATENCIES.lock().unwrap_or_else(PoisonError::into_inner).push(latency);
    }
    Duration::from_millis(payload.ms)
}

/// What an asynchronous handler does last.
pub fn end() {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// How many messages were handled, and when the first began.
pub(crate) fn count() -> (u64, u64) {
    (HANDLED.load(Ordering::Relaxed), FIRST.load(Ordering::Relaxed))
}

/// The latencies noted since the last call.
pub(crate) fn take_latencies() -> Vec<u64> {
    std::mem::take(&mut LATENCIES.lock().unwrap_or_else(PoisonError::into_inner))
}
