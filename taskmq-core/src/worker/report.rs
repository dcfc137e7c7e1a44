//! What a person sees of a worker's work. While messages are few, each has its line when it begins and when it ends;
//! when there are thousands a second, a line a second sums them up, for nobody could read the others.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::backtrace;
use super::executors::Finished;
use crate::Context;
use crate::broker::Outcome;

/// At most so many single messages are shown in a second.
const SHOWN_PER_SECOND: i64 = 20;
/// A worker says that it is idle after so long without a message,
const IDLE_AFTER: Duration = Duration::from_secs(1);
/// and again this often.
const IDLE_AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Report {
    /// How many more messages may be shown in this second.
    lines: AtomicI64,
    sums: Mutex<Sums>,
}

#[derive(Debug)]
struct Sums {
    second: Instant,
    topics: BTreeMap<&'static str, Sum>,
    done: u64,
    last_ended: Instant,
    idle_said: Option<Instant>,
}

#[derive(Debug, Default)]
struct Sum {
    done: u64,
    failed: u64,
    took: Duration,
}

impl Report {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let sums = Sums { second: now, topics: BTreeMap::new(), done: 0, last_ended: now, idle_said: None };
        Self { lines: AtomicI64::new(SHOWN_PER_SECOND), sums: Mutex::new(sums) }
    }

    /// Whether the beginning was shown, for then the end is to be shown as well.
    pub(super) fn began(&self, context: &Context) -> bool {
        let shown = self.may_show();
        if shown {
            let (topic, id, attempt) = (context.topic(), context.id(), context.attempt());
            if attempt > 1 {
                tracing::info!(
                    topic,
                    id,
                    attempt,
                    "{topic} #{id} began, attempt {attempt} of {}",
                    context.max_attempts()
                );
            } else {
                tracing::info!(topic, id, attempt, "{topic} #{id} began");
            }
        }
        shown
    }

    /// The outcome is committed.
    pub(super) fn ended(&self, finished: &Finished, lost: bool) {
        let Finished { id, attempt, max_attempts, .. } = *finished;
        let topic = finished.metered.consumer.topic;
        let took = finished.took.unwrap_or_default();
        let ms = took.as_secs_f64() * 1000.0;
        // Most ends are only counted, and have no use for it as text.
        let time = || human(took);
        if lost {
            tracing::warn!(
                topic,
                id,
                attempt,
                "{topic} #{id}: its lease was lost while it ran ({}); it is run elsewhere, and what it returned is not used",
                time()
            );
            return;
        }
        let outcome = finished.settlement.as_ref().map(|s| &s.outcome);
        let failed =
            matches!(outcome, Some(Outcome::Retry { .. } | Outcome::Dead { .. } | Outcome::Cancelled { .. }));
        {
            let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
            sums.done += u64::from(!failed);
            sums.idle_said = None;
            sums.last_ended = Instant::now();
            if !finished.shown {
                let sum = sums.topics.entry(topic).or_default();
                sum.took += took;
                sum.done += u64::from(!failed);
                sum.failed += u64::from(failed);
            }
        }
        match outcome {
            Some(Outcome::Retry { delay, error, kind }) if finished.shown || self.may_show() => {
                let next = human(*delay);
                tracing::warn!(
                    topic,
                    id,
                    attempt,
                    ms,
                    kind,
                    error,
                    "{topic} #{id} failed after {}, attempt {attempt} of {max_attempts}, retried in {next}: {}",
                    time(),
                    one_line(error)
                );
            }
            Some(Outcome::Dead { error, kind }) if finished.shown || self.may_show() => {
                tracing::error!(
                    topic,
                    id,
                    attempt,
                    ms,
                    kind,
                    error,
                    "{topic} #{id} is dead after {attempt} of {max_attempts} attempts, `taskmq-cli retry {id}` revives it: {}",
                    one_line(error)
                );
            }
            Some(Outcome::Cancelled { error, kind }) => {
                tracing::info!(
                    topic,
                    id,
                    attempt,
                    ms,
                    kind,
                    error,
                    "{topic} #{id} is cancelled after {}: {}",
                    time(),
                    one_line(error)
                );
            }
            Some(Outcome::HandBack) => tracing::info!(topic, id, attempt, "{topic} #{id} was handed back"),
            Some(Outcome::Done { .. }) | None if finished.shown => {
                tracing::info!(topic, id, attempt, ms, "{topic} #{id} done in {}", time());
            }
            _ => {}
        }
    }

    /// To be called now and then: sums up what was not shown, once a second.
    pub(super) fn tick(&self) {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        if sums.second.elapsed() < Duration::from_secs(1) {
            return;
        }
        let seconds = sums.second.elapsed().as_secs_f64();
        sums.second = Instant::now();
        self.lines.store(SHOWN_PER_SECOND, Ordering::Relaxed);
        for (topic, sum) in std::mem::take(&mut sums.topics) {
            let (done, failed) = (sum.done, sum.failed);
            let each = human(sum.took.div_f64(((done + failed) as f64).max(1.0)));
            let failures = if failed > 0 { format!(", {failed} failed") } else { String::new() };
            tracing::info!(
                topic,
                done,
                failed,
                seconds,
                "{topic}: {done} more done{failures} in {seconds:.1} s, {each} each"
            );
        }
    }

    /// Nothing to do, and nothing runs.
    pub(super) fn idle(&self, topics: &str) {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let soon = match sums.idle_said {
            Some(said) => said.elapsed() < IDLE_AGAIN,
            None => sums.last_ended.elapsed() < IDLE_AFTER,
        };
        if soon {
            return;
        }
        sums.idle_said = Some(Instant::now());
        let done = sums.done;
        tracing::info!(done, "idle, waiting for messages of {topics} ({done} done so far)");
    }

    fn may_show(&self) -> bool {
        self.lines.load(Ordering::Relaxed) > 0 && self.lines.fetch_sub(1, Ordering::Relaxed) > 0
    }
}

fn human(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s < 0.001 => format!("{:.0} us", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 60.0 => format!("{s:.1} s"),
        _ => humantime::format_duration(Duration::from_secs(time.as_secs())).to_string(),
    }
}

/// A handler's error must not be able to forge lines of the log.
fn one_line(error: &str) -> String {
    backtrace::without(error).replace(['\n', '\r'], " | ")
}
