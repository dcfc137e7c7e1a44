//! The operations of taskmq's broker: what each does to the tables in one transaction.

use crate::bug::Bug;
use crate::server::{Archived, Batch, BatchId, Holder, Row, Server, WorkerId};
use crate::sets::Ids;
use crate::{MESSAGES, MessageId};

/// One attempt's end, as a worker reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settlement {
    /// The message.
    pub message: MessageId,
    /// The attempt.
    pub attempt: u8,
    /// The batch whose lease it shares, as far as the worker knows.
    pub batch: Option<BatchId>,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It succeeded.
    Done,
    /// It failed and is to be tried again.
    Retry,
    /// It failed for the last time.
    Dead,
    /// Its attempts were used up before it began.
    Buried,
    /// It did not begin, or is to begin anew.
    HandBack,
    /// It succeeded, but the worker reports a failure. Only with [`Bug::SuccessReportedAsFailure`].
    Unstored,
}

/// What a claim takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// These messages.
    pub messages: Ids,
    /// With one lease for all.
    pub as_batch: bool,
}

/// An operation that writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Writes outcomes, and claims.
    Exchange {
        /// The outcomes.
        settlements: Vec<Settlement>,
        /// The batches of which nothing is left then.
        ended: Vec<BatchId>,
        /// What to claim. The messages are fixed, and the worker's row was seen, before the commit.
        claim: Option<Claim>,
    },
    /// Turns the lease of a batch into leases of these messages.
    Promote {
        /// Which batch.
        batch: BatchId,
        /// All that is left of it.
        messages: Ids,
    },
    /// Leases a message that is set aside.
    ClaimAlone {
        /// Which.
        message: MessageId,
    },
    /// Notes that the worker may run more than one message again.
    AloneEnded,
}

/// What the broker answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The settlements whose lease was lost.
    pub lost: Ids,
    /// What was leased, and by which batch.
    pub claimed: Ids,
    /// Their batch.
    pub batch: Option<BatchId>,
    /// The batch was promoted.
    pub promoted: bool,
}

/// What a worker knows that it holds.
#[derive(Clone, Debug)]
pub struct Known {
    /// The attempt of each message.
    pub attempts: [Option<u8>; MESSAGES],
    /// The batches.
    pub batches: Vec<BatchId>,
}

impl Server {
    /// Commits an operation. `batch` is the id for a new batch.
    pub(crate) fn commit(
        &mut self,
        bug: Option<Bug>,
        worker: WorkerId,
        call: &Call,
        batch: BatchId,
    ) -> Answer {
        let mut answer = Answer::default();
        match call {
            Call::Exchange { settlements, ended, claim } => {
                if !settlements.is_empty() {
                    self.reach_disk();
                }
                for settlement in settlements {
                    if !self.settle(bug, worker, settlement) && !self.settled_before(worker, settlement) {
                        answer.lost.insert(settlement.message);
                    }
                }
                self.batches.retain(|batch| batch.worker != worker || !ended.contains(&batch.id));
                if let Some(claim) = claim {
                    answer.claimed = claim.messages;
                    answer.batch = claim.as_batch.then_some(batch);
                    self.claim(worker, *claim, batch, settlements.is_empty());
                }
            }
            Call::Promote { batch, messages } => {
                self.reach_disk();
                answer.promoted = self.batch_of(worker, *batch).is_some();
                if answer.promoted {
                    self.promote(worker, *batch, *messages);
                    self.batches.retain(|other| other.id != *batch);
                }
            }
            Call::ClaimAlone { message } => {
                self.reach_disk();
                let waits = self.set_aside().contains(*message);
                if let Some(entry) = self.entry_mut(worker).filter(|entry| waits && entry.registered) {
                    entry.alone_with = Some(*message);
                    self.lease(worker, *message, false);
                    answer.claimed.insert(*message);
                }
            }
            Call::AloneEnded => {
                self.reach_disk();
                if let Some(entry) = self.entry_mut(worker) {
                    entry.alone_with = None;
                }
            }
        }
        answer
    }

    /// A commit that waits for the disk takes what came before it along.
    pub(crate) fn reach_disk(&mut self) {
        self.batches.iter_mut().for_each(|batch| batch.volatile = false);
        self.rows.iter_mut().flatten().for_each(|row| row.volatile = false);
    }

    /// Some claim would be gone if the server crashed now.
    pub fn is_volatile(&self) -> bool {
        self.batches.iter().any(|batch| batch.volatile) || self.rows.iter().flatten().any(|row| row.volatile)
    }

    /// The server crashes before the last claims are on disk.
    pub(crate) fn forget_volatile(&mut self) {
        self.batches.retain(|batch| !batch.volatile);
        for row in self.rows.iter_mut().flatten().filter(|row| row.volatile) {
            *row = Row { holder: Holder::Nobody, attempts: row.attempts - 1, volatile: false, ..*row };
        }
    }

    fn batch_of(&self, worker: WorkerId, id: BatchId) -> Option<&Batch> {
        self.batches.iter().find(|batch| batch.id == id && batch.worker == worker)
    }

    fn claim(&mut self, worker: WorkerId, claim: Claim, id: BatchId, volatile: bool) {
        if claim.as_batch {
            self.batches.push(Batch { id, worker, messages: claim.messages, volatile });
            self.batches.sort_unstable_by_key(|batch| batch.id);
        } else {
            for message in claim.messages.iter() {
                self.lease(worker, message, volatile);
            }
        }
    }

    fn lease(&mut self, worker: WorkerId, message: MessageId, volatile: bool) {
        if let Some(row) = &mut self.rows[message] {
            *row = Row { holder: Holder::Worker(worker), attempts: row.attempts + 1, volatile, ..*row };
        }
    }

    /// From the lease of their batch to leases of their own.
    fn promote(&mut self, worker: WorkerId, id: BatchId, messages: Ids) {
        for message in messages.iter() {
            if self.rows[message].is_some_and(|row| row.holder == Holder::Nobody) {
                self.lease(worker, message, false);
            }
        }
        self.release(id, messages);
    }

    fn release(&mut self, id: BatchId, messages: Ids) {
        for batch in self.batches.iter_mut().filter(|batch| batch.id == id) {
            batch.messages = batch.messages.without(messages);
        }
    }

    /// Writes an outcome if its lease holds.
    fn settle(&mut self, bug: Option<Bug>, worker: WorkerId, settlement: &Settlement) -> bool {
        let Settlement { message, attempt, batch, outcome } = *settlement;
        let Some(row) = self.rows[message] else { return false };
        let batch = batch.and_then(|id| self.batch_of(worker, id)).copied();
        let only_the_batch = matches!(bug, Some(Bug::LeftBatchTakenBack | Bug::LeftBatchSettled));
        let batch = batch.filter(|batch| batch.messages.contains(message) || only_the_batch);
        let single = row.holder == Holder::Worker(worker) && row.attempts == attempt;
        let unchecked = match outcome {
            Outcome::HandBack => bug == Some(Bug::HandBackUnchecked),
            _ => bug == Some(Bug::SettleUnchecked),
        };
        match batch {
            Some(batch) => match outcome {
                Outcome::Done => {
                    let all = bug == Some(Bug::WholeBatchAcked);
                    let acked = if all { batch.messages } else { Ids::NONE.with_one(message) };
                    for message in acked.iter() {
                        self.finish(message, worker, attempt, true);
                    }
                    true
                }
                Outcome::HandBack => {
                    self.release(batch.id, Ids::NONE.with_one(message));
                    true
                }
                _ => {
                    self.promote(worker, batch.id, Ids::NONE.with_one(message));
                    let held = self.rows[message]
                        .is_some_and(|row| row.holder == Holder::Worker(worker) && row.attempts == attempt);
                    if held || bug == Some(Bug::LeftBatchSettled) {
                        self.end(worker, settlement);
                    }
                    held
                }
            },
            None if unchecked => {
                self.end(worker, settlement);
                true
            }
            None if settlement.batch.is_some() && bug == Some(Bug::PromotionForgotten) => false,
            None if single => {
                self.end(worker, settlement);
                true
            }
            None => false,
        }
    }

    /// Writes an outcome of a message that is leased by itself.
    fn end(&mut self, worker: WorkerId, settlement: &Settlement) {
        let Settlement { message, attempt, outcome, .. } = *settlement;
        match outcome {
            Outcome::Done => self.finish(message, worker, attempt, true),
            Outcome::Dead | Outcome::Buried => self.finish(message, worker, attempt, false),
            Outcome::Retry | Outcome::Unstored => {
                if let Some(row) = &mut self.rows[message] {
                    *row = Row { holder: Holder::Nobody, suspicions: 0, ..*row };
                }
            }
            Outcome::HandBack => self.give_back(message, Holder::Nobody),
        }
    }

    fn finish(&mut self, message: MessageId, worker: WorkerId, attempt: u8, done: bool) {
        if let Some(row) = self.rows[message].take() {
            let lease = Some((worker, attempt));
            self.archive[message] = Some(Archived { done, lease, suspicions: row.suspicions });
        }
    }

    fn give_back(&mut self, message: MessageId, to: Holder) {
        if let Some(row) = &mut self.rows[message] {
            *row = Row { holder: to, attempts: row.attempts.saturating_sub(1), ..*row };
        }
    }

    /// Whether this very lease has written its end already, in a transaction whose reply was lost.
    fn settled_before(&self, worker: WorkerId, settlement: &Settlement) -> bool {
        self.archive[settlement.message].is_some_and(|a| a.lease == Some((worker, settlement.attempt)))
    }

    /// The messages that are leased to a worker by themselves and that it does not know of.
    fn unknown(&self, bug: Option<Bug>, worker: WorkerId, known: &Known) -> Ids {
        Ids::of(|m| {
            self.rows[m].is_some_and(|row| {
                let by_id = bug == Some(Bug::KnownByIdAlone) && known.attempts[m].is_some();
                row.holder == Holder::Worker(worker) && known.attempts[m] != Some(row.attempts) && !by_id
            })
        })
    }

    /// The set-aside message of a worker that it does not know of.
    fn unknown_alone(&self, worker: WorkerId, known: &Known) -> Option<MessageId> {
        let alone_with = self.entry(worker).and_then(|entry| entry.alone_with);
        alone_with.filter(|message| known.attempts[*message].is_none())
    }

    /// Whether [`hand_back_unknown`](Self::hand_back_unknown) would do anything.
    pub(crate) fn holds_unknown(&self, bug: Option<Bug>, worker: WorkerId, known: &Known) -> bool {
        !self.unknown(bug, worker, known).is_empty()
            || self.unknown_alone(worker, known).is_some() && bug != Some(Bug::AloneForgotten)
            || self.batches.iter().any(|batch| batch.worker == worker && !known.batches.contains(&batch.id))
    }

    /// Gives back what this worker holds but does not know of.
    pub(crate) fn hand_back_unknown(&mut self, bug: Option<Bug>, worker: WorkerId, known: &Known) {
        self.reach_disk();
        let alone = self.unknown_alone(worker, known).filter(|_| bug != Some(Bug::AloneForgotten));
        for message in self.unknown(bug, worker, known).iter() {
            self.give_back(message, if alone == Some(message) { Holder::SetAside } else { Holder::Nobody });
        }
        if let Some(entry) = self.entry_mut(worker).filter(|_| alone.is_some()) {
            entry.alone_with = None;
        }
        self.batches.retain(|batch| batch.worker != worker || known.batches.contains(&batch.id));
    }

    /// Removes a worker that left.
    pub(crate) fn deregister(&mut self, worker: WorkerId) {
        if let Some(entry) = self.entry_mut(worker) {
            entry.registered = false;
        }
    }

    /// Removes a dead worker, if its counter still is what it was, and gives its messages back.
    pub(crate) fn rescue(&mut self, bug: Option<Bug>, worker: WorkerId, moved: bool) {
        let Some(entry) = self.entry_mut(worker) else { return };
        let registered = entry.registered;
        if registered && moved && bug != Some(Bug::BeatUnchecked) {
            return;
        }
        entry.registered = false;
        let unproven = std::mem::take(&mut entry.unproven);
        let alone_with = entry.alone_with.take().filter(|_| registered && !unproven);
        self.reach_disk();
        if bug == Some(Bug::WorkerPrunedFirst) && registered {
            return;
        }
        let batches: Vec<Batch> = self.batches.iter().filter(|b| b.worker == worker).copied().collect();
        for batch in batches {
            self.promote(worker, batch.id, batch.messages);
            self.batches.retain(|other| other.id != batch.id);
        }
        let held = Ids::of(|m| self.rows[m].is_some_and(|row| row.holder == Holder::Worker(worker)));
        // Whoever has no row was given up or left before: nothing is known of its end.
        let blames = registered || bug == Some(Bug::OrphanBlamed);
        let culprits = match alone_with {
            _ if !blames || unproven => Ids::NONE,
            _ if bug == Some(Bug::WholeBatchBlamed) => held,
            Some(message) => held.and(Ids::NONE.with_one(message)),
            None if held.len() == 1 => held,
            None => Ids::NONE,
        };
        for message in held.iter() {
            let Some(row) = self.rows[message] else { continue };
            let suspect = row.crashed || row.suspicions >= 1;
            let holder = if suspect && blames { Holder::SetAside } else { Holder::Nobody };
            self.rows[message] = Some(if culprits.contains(message) {
                let attempts = row.attempts + row.suspicions;
                Row { holder, attempts, crashed: true, suspicions: 0, ..row }
            } else if alone_with.is_some() || !blames {
                // It had not begun.
                Row { holder: Holder::Nobody, attempts: row.attempts - 1, ..row }
            } else {
                Row { holder, attempts: row.attempts - 1, suspicions: row.suspicions + 1, ..row }
            });
        }
    }
}
