use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use super::executors::Event;

/// Stops a worker; clones stop the same one.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    since: Arc<OnceLock<Instant>>,
    wakes: Arc<Mutex<Vec<Sender<Event>>>>,
}

impl Stop {
    /// The worker claims no more, hands back what it has not begun, and ends when its running handlers are finished or
    /// its time for that is over.
    pub fn stop(&self) {
        let _ = self.since.set(Instant::now());
        for wake in self.wakes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = wake.send(Event::Wake);
        }
    }

    /// Whether it was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.since().is_some()
    }

    pub(super) fn since(&self) -> Option<Instant> {
        self.since.get().copied()
    }

    /// Waits so long, or until the worker is told to stop.
    pub(super) fn wait(&self, time: Duration) {
        let (wake, woken) = bounded(1);
        self.wakes(wake);
        if !self.is_stopping() {
            let _ = woken.recv_timeout(time);
        }
    }

    pub(super) fn wakes(&self, events: Sender<Event>) {
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner).push(events);
    }
}

/// Ctrl-C, SIGTERM and SIGHUP stop every worker of this process; at the second one the process ends at once. Nothing
/// is lost by that either: what it held is rescued.
pub(super) fn on_signals(stop: &Stop) {
    static WORKERS: Mutex<Vec<Stop>> = Mutex::new(Vec::new());
    static INSTALLED: Once = Once::new();
    WORKERS.lock().unwrap_or_else(PoisonError::into_inner).push(stop.clone());
    INSTALLED.call_once(|| {
        let set = ctrlc::set_handler(|| {
            let workers = WORKERS.lock().unwrap_or_else(PoisonError::into_inner);
            if workers.iter().all(Stop::is_stopping) {
                tracing::warn!("second signal: ending at once");
                std::process::exit(130);
            }
            tracing::info!(
                "stopping: no new messages, waiting for the running ones (a second signal ends at once)"
            );
            workers.iter().for_each(Stop::stop);
        });
        if let Err(error) = set {
            tracing::warn!("signals are handled by another part of this program: {error}");
        }
    });
}
