//! What the screen shows, read with a few cheap queries.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use taskmq_core::broker::{FinishedMessage, LaneCount, Place, RunningWorkflows, Span, WorkerEntry};
use taskmq_core::{AnyConnection, BrokerConnection, MessageId, Result, State};

/// Counting stops here, so that a second's look costs the same however many there are.
pub(super) const COUNTED: i64 = 10_000;
/// Topics times priorities.
const LANES: usize = 1000;
const WORKERS: i64 = 1000;
const DEAD_SHOWN: i64 = 200;
/// So many rates are kept, one for each look.
const HISTORY: usize = 300;

#[derive(Clone, Debug, Default)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) ready: i64,
    pub(super) scheduled: i64,
    pub(super) retrying: i64,
    /// More wait than were counted: that are due, and that wait for their time.
    pub(super) more_ready: bool,
    pub(super) more_later: bool,
    pub(super) running: i64,
    pub(super) dead: i64,
    pub(super) workers: usize,
    pub(super) oldest_due: Option<DateTime<Utc>>,
    pub(super) paused: bool,
    pub(super) limited: bool,
}

impl Topic {
    /// Whether a person might want to look at it.
    fn matters(&self) -> bool {
        let lives = self.ready + self.scheduled + self.retrying + self.running > 0;
        lives || self.dead > 0 || self.paused
    }
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) entry: WorkerEntry,
    pub(super) holds: usize,
}

/// One look.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) now: DateTime<Utc>,
    pub(super) topics: Vec<Topic>,
    pub(super) workers: Vec<Worker>,
    pub(super) dead: Vec<FinishedMessage>,
    /// Those that are not finished.
    pub(super) workflows: RunningWorkflows,
}

/// What came in and what finished, a second, newest last.
#[derive(Debug, Default)]
pub(super) struct Rates {
    last: Option<(Instant, MessageId, DateTime<Utc>)>,
    pub(super) produced: Vec<u64>,
    pub(super) finished: Vec<u64>,
}

pub(super) fn read(conn: &mut AnyConnection) -> Result<Figures> {
    let broker = conn.broker();
    let mut topics: BTreeMap<String, Topic> = BTreeMap::new();
    let lanes = broker.lanes(LANES)?;
    let at_most = LaneCount::bound(lanes.len());
    let counts = broker.count_lanes(&lanes, at_most)?;
    for (lane, count) in lanes.into_iter().zip(counts) {
        let topic = topics.entry(lane.topic).or_default();
        topic.ready += count.due;
        topic.scheduled += count.scheduled;
        topic.retrying += count.retrying;
        topic.more_ready |= count.due >= at_most;
        topic.more_later |= count.scheduled + count.retrying >= at_most;
        topic.oldest_due = [topic.oldest_due, count.oldest_due].into_iter().flatten().min();
    }
    let mut holds: HashMap<i64, usize> = HashMap::new();
    for held in broker.held(COUNTED)? {
        let topic = topics.entry(held.topic).or_default();
        match held.worker_id {
            Some(worker) => {
                *holds.entry(worker).or_default() += 1;
                topic.running += 1;
                // Those of a batch were counted as waiting.
                topic.ready = (topic.ready - i64::from(held.in_batch)).max(0);
            }
            None => topic.ready += 1,
        }
    }
    for waiting in broker.in_line(None, COUNTED)? {
        let topic = topics.entry(waiting.topic).or_default();
        topic.ready += 1;
        topic.oldest_due = Some(topic.oldest_due.map_or(waiting.run_at, |oldest| oldest.min(waiting.run_at)));
    }
    for (topic, count) in broker.count_finished(State::Dead, COUNTED)? {
        topics.entry(topic).or_default().dead = count;
    }
    for paused in broker.paused()? {
        topics.entry(paused.topic).or_default().paused = true;
    }
    for limited in broker.limits()? {
        topics.entry(limited.topic).or_default().limited = true;
    }
    let workers = broker.workers(WORKERS)?;
    for worker in &workers {
        for topic in worker.topics.split(',') {
            topics.entry(topic.to_owned()).or_default().workers += 1;
        }
    }
    let span = Span::everything(DEAD_SHOWN);
    let mut topics: Vec<Topic> = topics.into_iter().map(|(name, topic)| Topic { name, ..topic }).collect();
    topics.sort_by_key(|topic| !topic.matters()); // and by name
    Ok(Figures {
        now: broker.now()?,
        dead: broker.finished(State::Dead, &span)?,
        workflows: broker.running_workflows(COUNTED)?,
        topics,
        workers: workers
            .into_iter()
            .map(|entry| Worker { holds: holds.get(&entry.id).copied().unwrap_or_default(), entry })
            .collect(),
    })
}

impl Rates {
    /// What has come and gone since the last look. Messages that are not kept once they are done are not seen to finish.
    pub(super) fn read(&mut self, conn: &mut AnyConnection, now: DateTime<Utc>) -> Result<()> {
        let broker = conn.broker();
        let newest = broker.newest(MessageId::MAX, 1)?.first().map_or(0, |newest| newest.id);
        let looked = Instant::now();
        if let Some((before, id, at)) = self.last {
            let span = Span { from: Place::after(at), to: Place::after(now), limit: COUNTED };
            let finished =
                broker.finished(State::Done, &span)?.len() + broker.finished(State::Dead, &span)?.len();
            let took = looked.duration_since(before).max(Duration::from_millis(1)).as_secs_f64();
            let per_second = |count: u64| (count as f64 / took).round() as u64;
            push(&mut self.produced, per_second(newest.saturating_sub(id).max(0).unsigned_abs()));
            push(&mut self.finished, per_second(u64::try_from(finished).unwrap_or_default()));
        }
        self.last = Some((looked, newest, now));
        Ok(())
    }
}

fn push(rates: &mut Vec<u64>, rate: u64) {
    if rates.len() == HISTORY {
        rates.remove(0);
    }
    rates.push(rate);
}
