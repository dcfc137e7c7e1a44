//! What this worker holds: every message whose end is not written yet, and the batches that leases are shared by.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::broker::{BatchId, Claimed, Leases, Outcome, Settlement, Tied};
use crate::consumer::context::Shared;
use crate::{Context, MessageId};

/// How an attempt ends that was none.
pub(super) fn unused(told: &Shared) -> Outcome {
    if told.is_asked_to_end() {
        Outcome::Cancelled { kind: None, error: "it was cancelled before it ended".to_owned() }
    } else {
        Outcome::HandBack
    }
}

#[derive(Debug, Default)]
pub(super) struct Holdings {
    messages: FxHashMap<MessageId, Held>,
    topics: FxHashMap<&'static str, usize>,
    batches: FxHashMap<BatchId, Batch>,
    suspects: FxHashSet<MessageId>,
}

#[derive(Debug)]
struct Held {
    topic: &'static str,
    attempt: i32,
    batch: Option<BatchId>,
    /// What others may wait for.
    tied: Tied,
    /// When the claim brought it.
    since: Instant,
    /// What its handler is told, whether it has begun or not.
    told: Arc<Shared>,
}

#[derive(Debug)]
struct Batch {
    left: usize,
    since: Instant,
}

impl Holdings {
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn messages(&self) -> Vec<MessageId> {
        self.messages.keys().copied().collect()
    }

    /// Each with its attempt.
    pub(super) fn attempts(&self) -> Vec<(MessageId, i32)> {
        self.messages.iter().map(|(&id, held)| (id, held.attempt)).collect()
    }

    /// They are held so, as the database says. What it does not name will be found lost when it is settled.
    pub(super) fn held_as(&mut self, leases: &Leases) {
        self.batches.clear();
        for held in self.messages.values_mut() {
            held.batch = None;
        }
        for (batch, ids) in &leases.batches {
            self.batches.insert(*batch, Batch { left: ids.len(), since: Instant::now() });
            for id in ids {
                if let Some(held) = self.messages.get_mut(id) {
                    held.batch = Some(*batch);
                }
            }
        }
    }

    /// How many of each topic.
    pub(super) fn topics(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.topics.iter().map(|(topic, number)| (*topic, *number))
    }

    pub(super) fn add(&mut self, claimed: &Claimed, since: Instant, context: &Context) {
        let Claimed { id, attempt, batch, .. } = *claimed;
        let (topic, told) = (context.topic, Arc::clone(&context.shared));
        self.messages.insert(id, Held { topic, attempt, batch, tied: claimed.tied(), since, told });
        *self.topics.entry(topic).or_default() += 1;
        if let Some(batch) = claimed.batch {
            self.batches.entry(batch).or_insert_with(|| Batch { left: 0, since: Instant::now() }).left += 1;
        }
    }

    /// This one of them is suspected.
    pub(super) fn suspect(&mut self, id: MessageId) {
        self.suspects.insert(id);
    }

    /// How many of them are suspected.
    pub(super) fn suspects(&self) -> usize {
        self.suspects.len()
    }

    /// The settlement that gives a message back unused, or ends it if a person wants that.
    pub(super) fn hand_back(&self, id: MessageId) -> Option<Settlement> {
        let Held { attempt, batch, tied, told, .. } = self.messages.get(&id)?;
        let outcome = unused(told);
        Some(Settlement { id, attempt: *attempt, batch: *batch, tied: *tied, outcome, log: Vec::new() })
    }

    /// A person wanted these ended, as was seen at that time: those that were held by then are told. Gives those to which that
    /// is news.
    pub(super) fn ask_to_end(&self, ids: &[MessageId], seen: Instant) -> FxHashSet<MessageId> {
        let was_held = |id: &&MessageId| self.messages.get(id).is_some_and(|held| held.since <= seen);
        let held = ids.iter().filter(was_held);
        held.copied().filter(|id| self.messages.get(id).is_some_and(|held| held.told.ask_to_end())).collect()
    }

    pub(super) fn holds(&self, id: MessageId) -> bool {
        self.messages.contains_key(&id)
    }

    pub(super) fn topic_of(&self, id: MessageId) -> Option<&'static str> {
        self.messages.get(&id).map(|held| held.topic)
    }

    /// The batch that a message is leased with by now.
    pub(super) fn batch_of(&self, id: MessageId) -> Option<BatchId> {
        self.messages.get(&id).and_then(|held| held.batch)
    }

    /// The batches of which nothing is left once these are written.
    pub(super) fn ended_by(&self, settlements: &[Settlement]) -> Vec<BatchId> {
        let mut counts: FxHashMap<BatchId, usize> = FxHashMap::default();
        for batch in settlements.iter().filter_map(|s| s.batch) {
            *counts.entry(batch).or_default() += 1;
        }
        let ended =
            |(batch, count): &(BatchId, usize)| self.batches.get(batch).is_none_or(|b| b.left <= *count);
        counts.into_iter().filter(ended).map(|(batch, _)| batch).collect()
    }

    /// Its end is written.
    pub(super) fn remove(&mut self, id: MessageId) {
        let Some(held) = self.messages.remove(&id) else { return };
        self.suspects.remove(&id);
        if let Some(number) = self.topics.get_mut(held.topic) {
            *number -= 1;
        }
        if let Some(batch) = held.batch {
            self.leave(batch);
        }
    }

    /// A batch that has lived for so long, with what is left of it.
    pub(super) fn older_than(&self, age: Duration) -> Option<(BatchId, Vec<MessageId>)> {
        let (&batch, _) = self.batches.iter().find(|(_, batch)| batch.since.elapsed() > age)?;
        let left = self.messages.iter().filter(|(_, held)| held.batch == Some(batch));
        Some((batch, left.map(|(&id, _)| id).collect()))
    }

    /// Everything left of the batch has a lease of its own now.
    pub(super) fn promoted(&mut self, batch: BatchId) {
        self.batches.remove(&batch);
        for held in self.messages.values_mut().filter(|held| held.batch == Some(batch)) {
            held.batch = None;
        }
    }

    /// The batch's lease is lost; what is left of it will find out when it is settled.
    pub(super) fn lost(&mut self, batch: BatchId) {
        self.batches.remove(&batch);
    }

    fn leave(&mut self, batch: BatchId) {
        if let Some(b) = self.batches.get_mut(&batch) {
            b.left -= 1;
            if b.left == 0 {
                self.batches.remove(&batch);
            }
        }
    }
}
