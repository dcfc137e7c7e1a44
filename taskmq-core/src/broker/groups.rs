//! Settlements of messages that share the lease of their batch, sorted by what one statement can write.

use super::{BatchId, Outcome, Settlement};
use crate::{MessageId, Retention};

/// Settlements whose batch is known to be held.
#[derive(Debug, Default)]
pub(super) struct Groups<'a> {
    pub(super) done: Vec<DoneGroup<'a>>,
    /// Not begun: the batch lets go of them, and that is all.
    pub(super) handed_back: Vec<OtherGroup<'a>>,
    /// Failed: rare enough to be written one by one.
    pub(super) failed: Vec<OtherGroup<'a>>,
}

/// Acknowledged messages of one batch that are kept for the same time.
#[derive(Debug)]
pub(super) struct DoneGroup<'a> {
    pub(super) batch: BatchId,
    pub(super) retention: Retention,
    done: Vec<(MessageId, Option<&'a str>)>,
}

/// Messages of one batch that are not done.
#[derive(Debug)]
pub(super) struct OtherGroup<'a> {
    pub(super) batch: BatchId,
    pub(super) settlements: Vec<&'a Settlement>,
}

impl<'a> Groups<'a> {
    pub(super) fn add(&mut self, batch: BatchId, settlement: &'a Settlement) {
        let others = match &settlement.outcome {
            Outcome::Done { result, retention } => {
                let done = (settlement.id, result.as_deref());
                match self.done.iter_mut().find(|g| g.batch == batch && g.retention == *retention) {
                    Some(group) => group.done.push(done),
                    None => self.done.push(DoneGroup { batch, retention: *retention, done: vec![done] }),
                }
                return;
            }
            Outcome::HandBack => &mut self.handed_back,
            Outcome::Retry { .. } | Outcome::Dead { .. } | Outcome::Cancelled { .. } => &mut self.failed,
        };
        match others.iter_mut().find(|g| g.batch == batch) {
            Some(group) => group.settlements.push(settlement),
            None => others.push(OtherGroup { batch, settlements: vec![settlement] }),
        }
    }
}

// MariaDB takes acknowledgements of batches and of single messages with one statement.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl DoneGroup<'_> {
    pub(super) fn ids(&self) -> Vec<MessageId> {
        self.done.iter().map(|(id, _)| *id).collect()
    }

    pub(super) fn has_results(&self) -> bool {
        self.done.iter().any(|(_, result)| result.is_some())
    }

    /// What each message's consumer returned, in the order of [`ids`](Self::ids).
    pub(super) fn results(&self) -> Vec<Option<&str>> {
        self.done.iter().map(|(_, result)| *result).collect()
    }
}

impl OtherGroup<'_> {
    pub(super) fn ids(&self) -> Vec<MessageId> {
        self.settlements.iter().map(|s| s.id).collect()
    }
}
