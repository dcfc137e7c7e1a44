//! What the screen shows, read with a few cheap queries.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use taskmq_core::broker::{
    FinishedMessage, HeldMessage, LaneCount, LimitedTopic, PausedTopic, RunningWorkflows, Span, WorkerEntry,
};
use taskmq_core::{AnyConnection, BrokerConnection, Result, State};

use super::history::History;
use super::pace::{Lately, Pace};

/// Counting stops here, so that a second's look costs the same however many there are.
pub(super) const COUNTED: i64 = 10_000;
/// Topics times priorities, as many as the web page reads.
pub(super) const LANES: usize = 20_000;
/// So many are counted by one statement, so that none takes long.
const AT_ONCE: usize = 1000;
const WORKERS: i64 = 1000;
const DEAD_SHOWN: i64 = 200;

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
    pub(super) paused: Option<PausedTopic>,
    pub(super) limited: Option<LimitedTopic>,
    pub(super) pace: Pace,
}

impl Topic {
    /// Whether a person might want to look at it.
    fn matters(&self) -> bool {
        let lives = self.ready + self.scheduled + self.retrying + self.running > 0;
        lives || self.dead > 0 || self.paused.is_some()
    }
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) entry: WorkerEntry,
    /// Those that it has held longest first.
    pub(super) holds: Vec<HeldMessage>,
}

/// One look.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) now: DateTime<Utc>,
    pub(super) topics: Vec<Topic>,
    /// There are more lanes than were counted.
    pub(super) more_lanes: bool,
    /// Those that are entered, dead ones among them.
    pub(super) workers: Vec<Worker>,
    pub(super) dead: Vec<FinishedMessage>,
    /// Those that are not finished.
    pub(super) workflows: RunningWorkflows,
    /// Of all topics, a second.
    pub(super) produced: f64,
    pub(super) finished: f64,
}

impl Figures {
    /// How many workers live, and how many do not.
    pub(super) fn alive_and_dead(&self) -> (usize, usize) {
        let alive = self.workers.iter().filter(|worker| worker.entry.alive).count();
        (alive, self.workers.len() - alive)
    }
}

/// What came in and what finished.
#[derive(Debug, Default)]
pub(super) struct Charts {
    pub(super) produced: History,
    pub(super) finished: History,
}

pub(super) fn read(conn: &mut AnyConnection, charts: &mut Charts) -> Result<Figures> {
    let broker = conn.broker();
    let now = broker.now()?;
    let mut topics: BTreeMap<String, Topic> = BTreeMap::new();
    let mut lanes = broker.lanes(LANES + 1)?;
    let more_lanes = lanes.len() > LANES;
    lanes.truncate(LANES);
    let at_most = LaneCount::bound(lanes.len());
    let mut counts = Vec::with_capacity(lanes.len());
    for some in lanes.chunks(AT_ONCE) {
        counts.extend(broker.count_lanes(some, at_most)?);
    }
    for (lane, count) in lanes.into_iter().zip(counts) {
        let topic = topics.entry(lane.topic).or_default();
        topic.ready += count.due;
        topic.scheduled += count.scheduled;
        topic.retrying += count.retrying;
        topic.more_ready |= count.due >= at_most;
        topic.more_later |= count.scheduled + count.retrying >= at_most;
        topic.oldest_due = [topic.oldest_due, count.oldest_due].into_iter().flatten().min();
    }
    let mut holds: HashMap<i64, Vec<HeldMessage>> = HashMap::new();
    for held in broker.held(COUNTED)? {
        let topic = topics.entry(held.topic.clone()).or_default();
        match held.worker_id {
            Some(worker) => {
                topic.running += 1;
                // Those of a batch were counted as waiting.
                topic.ready = (topic.ready - i64::from(held.in_batch)).max(0);
                holds.entry(worker).or_default().push(held);
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
        let topic = topics.entry(paused.topic.clone()).or_default();
        topic.paused = Some(paused);
    }
    for limited in broker.limits()? {
        let topic = topics.entry(limited.topic.clone()).or_default();
        topic.limited = Some(limited);
    }
    let workers = broker.workers(WORKERS)?;
    for worker in workers.iter().filter(|worker| worker.alive) {
        for topic in worker.topics.split(',') {
            topics.entry(topic.to_owned()).or_default().workers += 1;
        }
    }
    let dead = broker.finished(State::Dead, &Span::everything(DEAD_SHOWN))?;
    let lately = Lately::read(broker, now)?;
    let (produced, finished) = (lately.produced(), lately.finished(&dead, DEAD_SHOWN));
    charts.produced.add(&produced, now);
    charts.finished.add(&finished, now);
    for (topic, pace) in lately.paces(&produced, &finished) {
        topics.entry(topic.to_owned()).or_default().pace = pace;
    }
    let (produced, finished) = (produced.rate(now), finished.rate(now));
    let mut topics: Vec<Topic> = topics.into_iter().map(|(name, topic)| Topic { name, ..topic }).collect();
    topics.sort_by_key(|topic| !topic.matters()); // and by name
    holds.values_mut().for_each(|held| held.sort_by_key(|message| message.claimed_at));
    Ok(Figures {
        now,
        dead,
        workflows: broker.running_workflows(COUNTED)?,
        topics,
        more_lanes,
        workers: workers
            .into_iter()
            .map(|entry| Worker { holds: holds.remove(&entry.id).unwrap_or_default(), entry })
            .collect(),
        produced,
        finished,
    })
}
