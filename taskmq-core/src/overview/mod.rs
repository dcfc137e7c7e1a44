//! A queue at a glance: how much waits, runs and died, how fast it goes and how long it takes, of each topic and of all. The web
//! page and `taskmq-cli watch` show it. It is read with few and cheap queries, and costs the same however many messages
//! there are: what waits is counted up to [a bound](LaneCount::bound), and what happened lately is worked out from the
//! newest 2,000 messages of each kind.
//!
//! ```no_run
//! # #[cfg(feature = "sqlite")] {
//! use taskmq_core::overview::Overview;
//! use taskmq_core::{AnyConnection, BrokerConnection};
//!
//! # fn main() -> taskmq_core::Result<()> {
//! let mut conn = AnyConnection::establish("app.db")?;
//! for (topic, figures) in Overview::read(conn.broker())?.topics {
//!     println!("{topic}: {} ready, {:.1} a second", figures.ready.number, figures.rate_out);
//! }
//! # Ok(()) }
//! # }
//! ```

mod count;
mod events;
mod flow;
mod history;

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};

pub use self::count::Count;
pub use self::events::Events;
use self::flow::Newest;
pub use self::history::{History, Throughput};
use crate::broker::{
    Broker, HeldMessage, InLine, Lane, LaneCount, LimitedTopic, PausedTopic, Place, Quantiles,
    RunningWorkflows, Span, WorkerEntry,
};
use crate::{MessageId, Result, State};

/// So many of the newest messages tell how fast it goes,
const NEWEST: i64 = 2_000;
/// if they are of this time.
const HOUR: TimeDelta = TimeDelta::hours(1);
/// What waits is counted in so many lanes, which are topics times priorities.
pub const LANES: usize = 20_000;
/// So many messages that are held, dead ones and workflows are counted, each.
pub const MOST: i64 = 10_000;
const WORKERS: i64 = 1_000;
/// So many lanes are counted by one statement, so that none takes long.
const AT_ONCE: usize = 1_000;

/// The figures of a topic, or of all.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Due, and held by no worker.
    pub ready: Count,
    /// Held by a worker.
    pub running: Count,
    /// Produced for later.
    pub scheduled: Count,
    /// Wait for another attempt.
    pub retrying: Count,
    /// Given up.
    pub dead: Count,
    /// Since when the first of those that are ready is due.
    pub oldest_due: Option<DateTime<Utc>>,
    /// How many were produced a second, of the last minute or as much of it as was read;
    pub rate_in: f64,
    /// and how many finished. Done ones count while they are kept.
    pub rate_out: f64,
    /// The share of those that failed among the attempts that ended within the last hour, 0 to 1, as far as they were read;
    /// `None`: none ended.
    pub error_share: Option<f64>,
    /// How long those that were done in that hour waited from due to claimed;
    pub wait: Option<Quantiles>,
    /// and how long they ran.
    pub run: Option<Quantiles>,
}

impl Figures {
    /// Whether something of it waits for a worker, now or soon.
    pub fn waits(&self) -> bool {
        self.ready.number > 0 || self.retrying.number > 0
    }
}

/// See [the module](self).
#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// When it was read, by the database's clock.
    pub now: DateTime<Utc>,
    /// Of all topics.
    pub total: Figures,
    /// By name: those that have messages, or had some lately, or are paused or limited.
    pub topics: BTreeMap<String, Figures>,
    /// There are more than the [`LANES`] in which was counted what waits.
    pub more_lanes: bool,
    /// Those that are entered, dead ones among them.
    pub workers: Vec<WorkerEntry>,
    /// Messages that are leased or set aside, [`MOST`] at most.
    pub held: Vec<HeldMessage>,
    /// Topics that are paused.
    pub paused: Vec<PausedTopic>,
    /// Topics that have a limit.
    pub limited: Vec<LimitedTopic>,
    /// Those that are not finished, counted up to [`MOST`].
    pub workflows: RunningWorkflows,
    /// When messages were produced,
    pub produced: Events,
    /// when they were done,
    pub done: Events,
    /// and when they were given up.
    pub dead: Events,
}

/// The lanes of which an overview counts what waits.
#[derive(Clone, Debug)]
pub struct Lanes {
    counted: Vec<Lane>,
    are_more: bool,
}

impl Lanes {
    /// The first [`LANES`].
    ///
    /// # Errors
    /// What the database reports.
    pub fn read(broker: &mut dyn Broker) -> Result<Self> {
        let mut counted = broker.lanes(LANES + 1)?;
        let are_more = counted.len() > LANES;
        counted.truncate(LANES);
        Ok(Self { counted, are_more })
    }

    /// Each of them.
    pub fn all(&self) -> &[Lane] {
        &self.counted
    }

    /// Whether there are others.
    pub fn are_more(&self) -> bool {
        self.are_more
    }

    /// How far what waits in each is counted.
    pub fn bound(&self) -> i64 {
        LaneCount::bound(self.counted.len())
    }

    /// What waits in each, counted up to `at_most`, in their order.
    ///
    /// # Errors
    /// What the database reports.
    pub fn count(&self, broker: &mut dyn Broker, at_most: i64) -> Result<Vec<LaneCount>> {
        let mut counts = Vec::with_capacity(self.counted.len());
        for some in self.counted.chunks(AT_ONCE) {
            counts.extend(broker.count_lanes(some, at_most)?);
        }
        Ok(counts)
    }
}

/// All of an overview but what waits in lanes.
#[derive(Debug)]
pub struct Rest {
    now: DateTime<Utc>,
    held: Vec<HeldMessage>,
    in_line: Vec<InLine>,
    dead: Vec<(String, i64)>,
    paused: Vec<PausedTopic>,
    limited: Vec<LimitedTopic>,
    newest: Newest,
    workers: Vec<WorkerEntry>,
    workflows: RunningWorkflows,
}

impl Rest {
    /// Reads it.
    ///
    /// # Errors
    /// What the database reports.
    pub fn read(broker: &mut dyn Broker) -> Result<Self> {
        let now = broker.now()?;
        let span = Span { from: Place::before(now - HOUR), ..Span::everything(NEWEST) };
        Ok(Self {
            now,
            held: broker.held(MOST)?,
            in_line: broker.in_line(None, MOST)?,
            dead: broker.count_finished(State::Dead, MOST)?,
            paused: broker.paused()?,
            limited: broker.limits()?,
            newest: Newest {
                produced: broker.newest(MessageId::MAX, NEWEST)?,
                done: broker.finished(State::Done, &span)?,
                dead: broker.finished(State::Dead, &span)?,
                failed: broker.failed(NEWEST)?,
            },
            workers: broker.workers(WORKERS)?,
            workflows: broker.running_workflows(MOST)?,
        })
    }
}

impl Overview {
    /// Reads it on one connection.
    ///
    /// # Errors
    /// What the database reports.
    pub fn read(broker: &mut dyn Broker) -> Result<Self> {
        let lanes = Lanes::read(broker)?;
        let counts = lanes.count(broker, lanes.bound())?;
        Ok(Self::of(lanes, &counts, Rest::read(broker)?))
    }

    /// Puts it together, for who has several connections to read it on. The counts are those of
    /// [`count_lanes`](crate::broker::Administration::count_lanes), up to [the bound](Lanes::bound), in the order of the lanes.
    pub fn of(lanes: Lanes, counts: &[LaneCount], rest: Rest) -> Self {
        let mut topics: BTreeMap<String, Figures> = BTreeMap::new();
        let (at_most, more_lanes) = (lanes.bound(), lanes.are_more);
        for (lane, count) in lanes.counted.into_iter().zip(counts) {
            let figures = topics.entry(lane.topic).or_default();
            figures.ready += Count::up_to(count.due, at_most);
            // The two are counted together, in the order of their times.
            let or_more = count.scheduled + count.retrying >= at_most;
            figures.scheduled += Count { number: count.scheduled, or_more };
            figures.retrying += Count { number: count.retrying, or_more };
            figures.oldest_due = first(figures.oldest_due, count.oldest_due);
        }
        add_held(&mut topics, &rest.held);
        let or_more = is_full(&rest.in_line, MOST);
        for message in rest.in_line {
            let figures = topics.entry(message.lane.topic).or_default();
            figures.ready += Count { number: 1, or_more };
            figures.oldest_due = first(figures.oldest_due, Some(message.place.at));
        }
        let or_more = rest.dead.iter().map(|(_, number)| number).sum::<i64>() >= MOST;
        for (topic, number) in rest.dead {
            topics.entry(topic).or_default().dead = Count { number, or_more };
        }
        // One that has no messages at all must be found, too, to be resumed, or to have its limit lifted.
        let (paused, limited) = (rest.paused, rest.limited);
        for topic in paused.iter().map(|p| &p.topic).chain(limited.iter().map(|l| &l.topic)) {
            topics.entry(topic.clone()).or_default();
        }
        let mut total = total(&topics);
        rest.newest.fill_in(&mut topics, &mut total, rest.now);
        Self {
            now: rest.now,
            total,
            topics,
            more_lanes,
            workers: rest.workers,
            held: rest.held,
            paused,
            limited,
            workflows: rest.workflows,
            produced: rest.newest.produced(),
            done: rest.newest.done(),
            dead: rest.newest.dead(),
        }
    }

    /// Whether there is nothing, and was nothing lately.
    pub fn is_empty(&self) -> bool {
        let Self { topics, produced, done, dead, .. } = self;
        topics.is_empty() && produced.is_empty() && done.is_empty() && dead.is_empty()
    }

    /// The limit of a topic, if it has one.
    pub fn limit_of(&self, topic: &str) -> Option<&LimitedTopic> {
        self.limited.iter().find(|limited| limited.topic == topic)
    }

    /// Whether a topic is paused.
    pub fn is_paused(&self, topic: &str) -> bool {
        self.paused.iter().any(|paused| paused.topic == topic)
    }

    /// The workers that live.
    pub fn alive(&self) -> impl Iterator<Item = &WorkerEntry> {
        self.workers.iter().filter(|worker| worker.alive)
    }

    /// How many of these consume each topic that any does.
    pub fn consumers(&self) -> HashMap<&str, usize> {
        let mut consumers = HashMap::new();
        for topic in self.alive().flat_map(|worker| worker.topics.split(',')) {
            *consumers.entry(topic).or_default() += 1;
        }
        consumers
    }
}

fn add_held(topics: &mut BTreeMap<String, Figures>, held: &[HeldMessage]) {
    let or_more = is_full(held, MOST);
    for message in held {
        let figures = topics.entry(message.topic.clone()).or_default();
        if message.worker_id.is_some() {
            figures.running += Count { number: 1, or_more };
        }
        // Those of batches were counted as ready, and those that are set aside are due but nobody's.
        match (message.in_batch, message.worker_id) {
            (true, _) if !figures.ready.or_more => {
                figures.ready.number = (figures.ready.number - 1).max(0);
            }
            (false, None) => figures.ready.number += 1,
            _ => {}
        }
    }
}

/// Of what can be summed up.
fn total(topics: &BTreeMap<String, Figures>) -> Figures {
    let mut total = Figures::default();
    for figures in topics.values() {
        total.ready += figures.ready;
        total.running += figures.running;
        total.scheduled += figures.scheduled;
        total.retrying += figures.retrying;
        total.dead += figures.dead;
        total.oldest_due = first(total.oldest_due, figures.oldest_due);
    }
    total
}

fn first(one: Option<DateTime<Utc>>, other: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    [one, other].into_iter().flatten().min()
}

/// Whether there are as many as were asked for.
fn is_full<T>(all: &[T], asked_for: i64) -> bool {
    i64::try_from(all.len()).is_ok_and(|number| number >= asked_for)
}
