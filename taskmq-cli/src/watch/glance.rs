//! What the screen shows, read with a few cheap queries.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use taskmq_core::broker::{
    FinishedMessage, HeldMessage, LimitedTopic, PausedTopic, RunningWorkflows, Span, WorkerEntry,
};
use taskmq_core::overview::{Figures, Overview, Throughput};
use taskmq_core::{AnyConnection, BrokerConnection, Result, State};

const DEAD_SHOWN: i64 = 200;

#[derive(Clone, Debug, Default)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) figures: Figures,
    /// How many consume it.
    pub(super) workers: usize,
    pub(super) paused: Option<PausedTopic>,
    pub(super) limited: Option<LimitedTopic>,
}

impl Topic {
    /// Whether a person might want to look at it.
    fn matters(&self) -> bool {
        let Figures { ready, running, scheduled, retrying, dead, .. } = &self.figures;
        let numbers = [ready, running, scheduled, retrying, dead];
        numbers.iter().any(|count| count.number > 0) || self.paused.is_some()
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
pub(super) struct Glance {
    pub(super) now: DateTime<Utc>,
    /// Of all topics.
    pub(super) total: Figures,
    pub(super) topics: Vec<Topic>,
    /// There are more lanes than were counted.
    pub(super) more_lanes: bool,
    /// Those that are entered, dead ones among them.
    pub(super) workers: Vec<Worker>,
    /// The last ones.
    pub(super) dead: Vec<FinishedMessage>,
    /// Those that are not finished.
    pub(super) workflows: RunningWorkflows,
}

impl Glance {
    pub(super) fn read(conn: &mut AnyConnection, throughput: &mut Throughput) -> Result<Self> {
        let broker = conn.broker();
        let overview = Overview::read(broker)?;
        let dead = broker.finished(State::Dead, &Span::everything(DEAD_SHOWN))?;
        throughput.add(&overview);
        Ok(Self {
            now: overview.now,
            topics: topics(&overview),
            more_lanes: overview.more_lanes,
            dead,
            workflows: overview.workflows,
            total: overview.total,
            workers: workers(overview.workers, overview.held),
        })
    }

    /// How many workers live, and how many do not.
    pub(super) fn alive_and_dead(&self) -> (usize, usize) {
        let alive = self.workers.iter().filter(|worker| worker.entry.alive).count();
        (alive, self.workers.len() - alive)
    }
}

/// Those that matter first, each by name; those without any message, too, that somebody consumes.
fn topics(overview: &Overview) -> Vec<Topic> {
    let consumers = overview.consumers();
    let mut paused: HashMap<&str, &PausedTopic> = overview.paused.iter().map(|p| (&*p.topic, p)).collect();
    let mut limited: HashMap<&str, &LimitedTopic> = overview.limited.iter().map(|l| (&*l.topic, l)).collect();
    let idle = consumers.keys().filter(|topic| !overview.topics.contains_key(**topic));
    let idle = idle.map(|topic| (*topic, Figures::default()));
    let known = overview.topics.iter().map(|(topic, figures)| (&**topic, figures.clone()));
    let topic = |(name, figures): (&str, Figures)| Topic {
        name: name.to_owned(),
        figures,
        workers: consumers.get(name).copied().unwrap_or_default(),
        paused: paused.remove(name).cloned(),
        limited: limited.remove(name).cloned(),
    };
    let mut topics: Vec<Topic> = known.chain(idle).map(topic).collect();
    topics.sort_by(|a, b| (!a.matters(), &a.name).cmp(&(!b.matters(), &b.name)));
    topics
}

fn workers(entries: Vec<WorkerEntry>, held: Vec<HeldMessage>) -> Vec<Worker> {
    let mut holds: HashMap<i64, Vec<HeldMessage>> = HashMap::new();
    for message in held {
        if let Some(worker) = message.worker_id {
            holds.entry(worker).or_default().push(message);
        }
    }
    holds.values_mut().for_each(|held| held.sort_by_key(|message| message.claimed_at));
    let worker = |entry: WorkerEntry| Worker { holds: holds.remove(&entry.id).unwrap_or_default(), entry };
    entries.into_iter().map(worker).collect()
}
