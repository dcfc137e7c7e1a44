use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use super::executors::Event;
use super::supervised;

/// Stops a worker; clones stop the same one.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    since: Arc<OnceLock<Instant>>,
    at_once: Arc<AtomicBool>,
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

    /// What runs gets no more time.
    pub(super) fn is_at_once(&self) -> bool {
        self.at_once.load(Ordering::Acquire)
    }

    pub(super) fn since(&self) -> Option<Instant> {
        self.since.get().copied()
    }

    /// Waits so long, or until the worker is told to stop.
    pub(super) fn wait(&self, time: Duration) {
        let (wake, woken) = bounded(1);
        self.wakes(wake.clone());
        if !self.is_stopping() {
            let _ = woken.recv_timeout(time);
        }
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| !other.same_channel(&wake));
    }

    pub(super) fn wakes(&self, events: Sender<Event>) {
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner).push(events);
    }
}

/// The exit code after a second signal.
pub(super) const AT_ONCE: u8 = 130;
/// So long workers have then to hand back what they run.
const LAST_WORD: Duration = Duration::from_secs(1);

static WORKERS: Mutex<Vec<Stop>> = Mutex::new(Vec::new());

/// This worker is one that [`stop_all`] stops.
pub(super) fn enlist(stop: &Stop) {
    WORKERS.lock().unwrap_or_else(PoisonError::into_inner).push(stop.clone());
}

/// Stops every worker of this process.
pub(super) fn stop_all() {
    let workers = WORKERS.lock().unwrap_or_else(PoisonError::into_inner);
    if !workers.iter().all(Stop::is_stopping) {
        tracing::info!(
            "stopping: no new messages, waiting for the running ones (a second signal ends at once)"
        );
    }
    workers.iter().for_each(Stop::stop);
}

/// Ends this process, which hands back what it runs if the database answers in a moment. If not, it is rescued.
pub(super) fn end_at_once() {
    tracing::warn!("second signal: ending at once");
    supervised::ended();
    for worker in WORKERS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        worker.at_once.store(true, Ordering::Release);
        worker.stop();
    }
    thread::sleep(LAST_WORD);
    std::process::exit(AT_ONCE.into());
}

/// Ctrl-C, SIGTERM and SIGHUP stop every worker of this process; at the second one the process ends at once. A stop
/// that a supervisor asked for is no signal, for a service manager may send one to both.
pub(super) fn on_signals() {
    static INSTALLED: Once = Once::new();
    static SIGNALLED: AtomicBool = AtomicBool::new(false);
    INSTALLED.call_once(|| {
        let set = ctrlc::set_handler(|| {
            if SIGNALLED.swap(true, Ordering::AcqRel) {
                end_at_once();
            }
            stop_all();
        });
        if let Err(error) = set {
            tracing::warn!("signals are handled by another part of this program: {error}");
        }
    });
}
