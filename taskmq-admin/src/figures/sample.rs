use std::collections::{BTreeMap, HashSet};
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::{try_join, try_join_all};
use taskmq_core::broker::{
    Broker, FailedLately, FinishedMessage, HeldMessage, Lane, LaneCount, LimitedTopic, LineMessage,
    PausedTopic, Place, ProducedMessage, Quantiles, Span, WorkerEntry,
};
use taskmq_core::{MessageId, Result, State};

use super::history::rate;
use crate::database::Pool;
use crate::problem::Problem;

/// So many of the newest messages tell how fast it goes.
const NEWEST: i64 = 2_000;
/// So many dead ones are counted.
const DEAD: i64 = 10_000;
const LANES: usize = 20_000;
/// If there are more than this, they are counted on two connections. Further ones would be missed elsewhere.
const MANY_LANES: usize = 500;
const HELD: i64 = 10_000;
const WORKERS: i64 = 1_000;
#[cfg(feature = "metrics")]
const WORKFLOWS: i64 = 10_000;

/// A number that is counted up to some bound only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) number: i64,
    pub(crate) or_more: bool,
}

impl Count {
    pub(crate) fn up_to(number: i64, at_most: i64) -> Self {
        Self { number, or_more: number >= at_most }
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.number += other.number;
        self.or_more |= other.or_more;
    }
}

/// The figures of a topic, or of all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) ready: Count,
    pub(crate) running: i64,
    pub(crate) scheduled: Count,
    pub(crate) retrying: Count,
    pub(crate) dead: Count,
    pub(crate) oldest_due: Option<DateTime<Utc>>,
    /// A second, produced and finished.
    pub(crate) rate_in: f64,
    pub(crate) rate_out: f64,
    /// The share of those that failed among the attempts that ended within the last hour, as far as they were read.
    pub(crate) error_share: Option<f64>,
    pub(crate) wait: Option<Quantiles>,
    pub(crate) run: Option<Quantiles>,
}

impl Figures {
    /// For a worker, now or soon.
    pub(crate) fn waits(&self) -> bool {
        self.ready.number > 0 || self.retrying.number > 0
    }
}

/// What is read at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) now: DateTime<Utc>,
    /// Why nothing newer could be read.
    pub(crate) old: Option<Arc<Problem>>,
    /// How long reading it took.
    pub(crate) took: Duration,
    pub(crate) total: Figures,
    pub(crate) topics: BTreeMap<String, Figures>,
    /// Those that are entered, dead ones among them.
    pub(crate) workers: Vec<WorkerEntry>,
    pub(crate) held: Vec<HeldMessage>,
    pub(crate) paused: Vec<PausedTopic>,
    pub(crate) limited: Vec<LimitedTopic>,
    /// Those that are not finished, which no page shows.
    #[cfg(feature = "metrics")]
    pub(crate) workflows: taskmq_core::broker::RunningWorkflows,
    /// When messages were produced and when they finished, the last one first, and whether there are more.
    pub(crate) produced: (Vec<DateTime<Utc>>, bool),
    pub(crate) finished: (Vec<DateTime<Utc>>, bool),
    /// Ready ones at the last looks, of all and of each topic.
    pub(crate) backlog: BTreeMap<Option<String>, Vec<i64>>,
    /// A second, of the last ones: produced and finished.
    pub(crate) chart: (Vec<Option<f64>>, Vec<Option<f64>>),
}

/// What all topics have in common, and what of each is found without its lanes.
struct Rest {
    now: DateTime<Utc>,
    held: Vec<HeldMessage>,
    in_line: Vec<LineMessage>,
    dead: Vec<(String, i64)>,
    paused: Vec<PausedTopic>,
    limited: Vec<LimitedTopic>,
    newest: Vec<ProducedMessage>,
    /// Those that are done, and those that are dead.
    finished: [Vec<FinishedMessage>; 2],
    failed: Vec<FailedLately>,
    workers: Vec<WorkerEntry>,
    #[cfg(feature = "metrics")]
    workflows: taskmq_core::broker::RunningWorkflows,
}

impl Rest {
    fn read(broker: &mut dyn Broker) -> Result<Self> {
        let now = broker.now()?;
        let span = Span {
            from: Place::before(now - TimeDelta::hours(1)),
            to: Place::after(now + TimeDelta::days(1)),
            limit: NEWEST,
        };
        Ok(Self {
            now,
            held: broker.held(HELD)?,
            in_line: broker.in_line(None, HELD)?,
            dead: broker.count_finished(State::Dead, DEAD)?,
            paused: broker.paused()?,
            limited: broker.limits()?,
            newest: broker.newest(MessageId::MAX, NEWEST)?,
            finished: [broker.finished(State::Done, &span)?, broker.finished(State::Dead, &span)?],
            failed: broker.failed(NEWEST)?,
            workers: broker.workers(WORKERS)?,
            #[cfg(feature = "metrics")]
            workflows: broker.running_workflows(WORKFLOWS)?,
        })
    }
}

impl Sample {
    /// Each figure is counted as far as all of them together stay a matter of milliseconds; of many lanes on two
    /// connections at once.
    pub(crate) async fn read(pool: &Pool) -> Result<Self, Problem> {
        let lanes = pool.ask(|broker| broker.lanes(LANES)).await?;
        let at_most = LaneCount::bound(lanes.len());
        let counts = lanes.chunks(lanes.len().div_ceil(2).max(MANY_LANES)).map(|some| {
            let some = some.to_vec();
            pool.ask(move |broker| broker.count_lanes(&some, at_most))
        });
        let (counts, rest) = try_join(try_join_all(counts), pool.ask(Rest::read)).await?;
        let lanes = lanes.into_iter().zip(counts.into_iter().flatten());
        Ok(Self::of(lanes, at_most, rest))
    }

    fn of(lanes: impl Iterator<Item = (Lane, LaneCount)>, at_most: i64, rest: Rest) -> Self {
        let mut topics: BTreeMap<String, Figures> = BTreeMap::new();
        for (lane, count) in lanes {
            let figures = topics.entry(lane.topic).or_default();
            figures.ready += Count::up_to(count.due, at_most);
            // The two are counted together, in the order of their times.
            let or_more = count.scheduled + count.retrying >= at_most;
            figures.scheduled += Count { number: count.scheduled, or_more };
            figures.retrying += Count { number: count.retrying, or_more };
            figures.oldest_due = [figures.oldest_due, count.oldest_due].into_iter().flatten().min();
        }
        let Rest { now, held, in_line, paused, limited, newest, finished: [done, dead], failed, .. } = rest;
        for message in &held {
            let figures = topics.entry(message.topic.clone()).or_default();
            if message.worker_id.is_some() {
                figures.running += 1;
            }
            // Those of batches were counted as ready, and those that are set aside are due but nobody's.
            match (message.in_batch, message.worker_id) {
                (true, _) if !figures.ready.or_more => {
                    figures.ready.number = (figures.ready.number - 1).max(0)
                }
                (false, None) => figures.ready.number += 1,
                _ => {}
            }
        }
        for message in &in_line {
            let figures = topics.entry(message.topic.clone()).or_default();
            figures.ready += Count { number: 1, or_more: in_line.len() as i64 == HELD };
            figures.oldest_due = [figures.oldest_due, Some(message.run_at)].into_iter().flatten().min();
        }
        for (topic, number) in rest.dead {
            topics.entry(topic).or_default().dead = Count { number, or_more: false };
        }
        // One that has no messages at all must be found, too, to be resumed, or to have its limit lifted.
        for topic in paused.iter().map(|p| &p.topic).chain(limited.iter().map(|l| &l.topic)) {
            topics.entry(topic.clone()).or_default();
        }
        let total = sum(&mut topics, now, &newest, &done, &dead, &failed);
        let mut finished: Vec<DateTime<Utc>> = done.iter().chain(&dead).map(|f| f.finished_at).collect();
        finished.sort_unstable_by(|a, b| b.cmp(a));
        let more = is_full(done.len()) || is_full(dead.len());
        if more {
            finished.truncate(usize::try_from(NEWEST).unwrap_or_default());
        }
        let produced = (newest.iter().map(|message| message.created_at).collect(), is_full(newest.len()));
        Self {
            now,
            total,
            topics,
            workers: rest.workers,
            held,
            paused,
            limited,
            #[cfg(feature = "metrics")]
            workflows: rest.workflows,
            produced,
            finished: (finished, more),
            ..Self::default()
        }
    }

    pub(crate) fn limit_of(&self, topic: &str) -> Option<&LimitedTopic> {
        self.limited.iter().find(|limited| limited.topic == topic)
    }

    /// The workers that live.
    pub(crate) fn alive(&self) -> impl Iterator<Item = &WorkerEntry> {
        self.workers.iter().filter(|worker| worker.alive)
    }

    /// The topics that running workers consume.
    pub(crate) fn consumed(&self) -> HashSet<&str> {
        self.alive().flat_map(|worker| worker.topics.split(',')).collect()
    }

    pub(crate) fn is_paused(&self, topic: &str) -> bool {
        self.paused.iter().any(|paused| paused.topic == topic)
    }
}

fn is_full(number: usize) -> bool {
    i64::try_from(number).is_ok_and(|number| number >= NEWEST)
}

/// Fills in what the newest and last finished ones tell of each topic, and gives the same of all of them.
fn sum(
    topics: &mut BTreeMap<String, Figures>,
    now: DateTime<Utc>,
    newest: &[ProducedMessage],
    done: &[FinishedMessage],
    dead: &[FinishedMessage],
    failed: &[FailedLately],
) -> Figures {
    let mut total = Figures::default();
    for figures in topics.values() {
        total.ready += figures.ready;
        total.running += figures.running;
        total.scheduled += figures.scheduled;
        total.retrying += figures.retrying;
        total.dead += figures.dead;
        total.oldest_due = [total.oldest_due, figures.oldest_due].into_iter().flatten().min();
    }
    total.dead.or_more = total.dead.number >= DEAD;
    if total.dead.or_more {
        topics.values_mut().for_each(|figures| figures.dead.or_more = true);
    }
    let minute = now - TimeDelta::seconds(60);
    let finished = |list: &[FinishedMessage]| Speed::of(list.iter().map(|m| m.finished_at).collect(), now);
    let speeds =
        [Speed::of(newest.iter().map(|m| m.created_at).collect(), now), finished(done), finished(dead)];
    let mut flows: BTreeMap<&str, Flow<'_>> = BTreeMap::new();
    for message in newest.iter().filter(|message| message.created_at >= minute) {
        flows.entry(&message.topic).or_default().produced += 1;
    }
    for message in done {
        flows.entry(&message.topic).or_default().done.push(message);
    }
    for message in dead {
        flows.entry(&message.topic).or_default().dead.push(message);
    }
    let since = both_known_since(now, done, failed);
    let failed = failed.iter().filter(|attempt| attempt.failed_at >= since);
    let mut all = Flow { produced: speeds[0].recent, ..Flow::default() };
    for attempt in failed {
        flows.entry(&attempt.topic).or_default().failed += 1;
        all.failed += 1;
    }
    (all.done, all.dead) = (done.iter().collect(), dead.iter().collect());
    let times = Times { minute, since };
    all.fill_in(&mut total, &times, &speeds);
    for (topic, flow) in flows {
        flow.fill_in(topics.entry(topic.to_owned()).or_default(), &times, &speeds);
    }
    total
}

/// Of either only the newest are read, so they can be compared no further back than both are known.
fn both_known_since(now: DateTime<Utc>, done: &[FinishedMessage], failed: &[FailedLately]) -> DateTime<Utc> {
    let done = done.last().filter(|_| is_full(done.len())).map(|message| message.finished_at);
    let failed = failed.last().filter(|_| is_full(failed.len())).map(|attempt| attempt.failed_at);
    [done, failed].into_iter().flatten().fold(now - TimeDelta::hours(1), DateTime::max)
}

/// How far back what counts.
struct Times {
    /// For rates.
    minute: DateTime<Utc>,
    /// For the share of failed attempts.
    since: DateTime<Utc>,
}

/// How fast all that was read goes.
struct Speed {
    rate: f64,
    /// So many of the last minute were read.
    recent: usize,
}

impl Speed {
    fn of(times: Vec<DateTime<Utc>>, now: DateTime<Utc>) -> Self {
        let minute = now - TimeDelta::seconds(60);
        let recent = times.iter().filter(|at| **at >= minute).count();
        Self { rate: rate(&times, is_full(times.len()), now), recent }
    }

    fn share(&self, part: usize) -> f64 {
        self.rate * share(part, self.recent)
    }
}

/// What was read of a topic, or of all.
#[derive(Default)]
struct Flow<'a> {
    produced: usize,
    done: Vec<&'a FinishedMessage>,
    dead: Vec<&'a FinishedMessage>,
    failed: usize,
}

impl Flow<'_> {
    fn fill_in(&self, figures: &mut Figures, times: &Times, [produced, done, dead]: &[Speed; 3]) {
        let later = |list: &[&FinishedMessage], than: DateTime<Utc>| {
            list.iter().filter(|message| message.finished_at >= than).count()
        };
        figures.rate_in = produced.share(self.produced);
        let minute = times.minute;
        figures.rate_out = done.share(later(&self.done, minute)) + dead.share(later(&self.dead, minute));
        let ended = self.failed + later(&self.done, times.since);
        figures.error_share = (ended > 0).then(|| share(self.failed, ended));
        let waits = self.done.iter().filter_map(|message| Some(message.claimed_at? - message.run_at));
        figures.wait = Quantiles::of(waits.collect());
        let runs = self.done.iter().filter_map(|message| Some(message.finished_at - message.claimed_at?));
        figures.run = Quantiles::of(runs.collect());
    }
}

fn share(part: usize, all: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "both are small")]
    let share = part as f64 / all.max(1) as f64;
    share
}
