//! The database: what its tables hold, and what each operation of taskmq's broker does to them in one transaction.

use std::fmt;

use crate::bug::Bug;
use crate::sets::Ids;
use crate::{MESSAGES, MessageId, PROCESSES, ProcessId};

/// The id that a process takes at its start, and anew when the others have given it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId {
    /// Whose.
    pub process: ProcessId,
    /// Which of its ids. A number that nothing refers to any more is taken again: ids only have to differ, and so the
    /// model stays finite.
    pub life: u8,
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", crate::name(self.process), self.life)
    }
}

/// A row of `taskmq_claims` has this id. As with workers, only numbers that nothing refers to are taken again.
pub type BatchId = u8;

/// Who holds a live message: `taskmq_messages.worker_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// 0: nobody, or a batch.
    Nobody,
    /// -1: it is set aside to run alone.
    SetAside,
    /// It is leased to this worker by itself.
    Worker(WorkerId),
}

/// A row of `taskmq_messages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// Who holds it.
    pub holder: Holder,
    /// Begun attempts, the one under way included where it is leased by itself.
    pub attempts: u8,
    /// How often it was one of several that a dying worker held.
    pub suspicions: u8,
    /// Whether it was ever proven to have ended its process; the real table counts, but no rule asks for the number.
    pub crashed: bool,
    /// Its lease is not on disk yet.
    pub volatile: bool,
}

impl Row {
    /// A message as it is produced.
    pub const NEW: Self =
        Self { holder: Holder::Nobody, attempts: 0, suspicions: 0, crashed: false, volatile: false };

    /// The attempts that ended and count.
    pub fn charged(&self) -> u8 {
        self.attempts - u8::from(matches!(self.holder, Holder::Worker(_)))
    }
}

/// A row of `taskmq_archive`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Archived {
    /// Done, or else a dead letter.
    pub done: bool,
    /// The lease under which it ended, while anybody could ask for it.
    pub lease: Option<(WorkerId, u8)>,
    /// The message's last suspicions.
    pub suspicions: u8,
}

/// A row of `taskmq_claims`: one lease for all these messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Batch {
    /// Its id.
    pub id: BatchId,
    /// Whose lease it is.
    pub worker: WorkerId,
    /// What was claimed, but for those that the batch let go of. Messages that are done stay listed.
    pub messages: Ids,
    /// It is not on disk yet.
    pub volatile: bool,
}

/// The lock of a worker, as the database keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lock {
    /// Nobody has it.
    Free,
    /// The worker's session has it.
    Held,
    /// A session has it that the worker has no longer, and of which the server does not know it yet.
    Former,
}

/// What the liveness thread of a process has seen of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sighting {
    /// Nothing wrong.
    Well,
    /// Its lock was free.
    Free {
        /// The grace has passed since.
        ripe: bool,
        /// Its counter has moved since.
        moved: bool,
    },
    /// The last look said that it is dead; the rescue comes next.
    Dead {
        /// Its counter has moved since.
        moved: bool,
    },
}

/// How a worker ended. The database does not know; the properties ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// It has not.
    NotYet,
    /// Its process died, by this message or from outside.
    Killed(Option<MessageId>),
    /// It left in good order.
    Left,
}

/// A row of `taskmq_workers`, and what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Whose.
    pub id: WorkerId,
    /// The row is there.
    pub registered: bool,
    /// Its lock.
    pub lock: Lock,
    /// The set-aside message that is all it runs.
    pub alone_with: Option<MessageId>,
    /// How it ended.
    pub end: End,
    /// What each process has seen of it.
    pub seen_by: [Sighting; PROCESSES],
}

impl Entry {
    /// A worker that begins.
    pub fn new(id: WorkerId) -> Self {
        let seen_by = [Sighting::Well; PROCESSES];
        Self { id, registered: true, lock: Lock::Held, alone_with: None, end: End::NotYet, seen_by }
    }

    /// This process connects anew: what it saw of the worker is to be seen for a whole grace again.
    pub(crate) fn doubt_anew(&mut self, process: ProcessId) {
        if let Sighting::Free { ripe, .. } = &mut self.seen_by[process] {
            *ripe = false;
        }
    }

    /// Its counter moves: what others have seen of it is out of date.
    pub fn beat(&mut self) {
        for sighting in &mut self.seen_by {
            match sighting {
                Sighting::Well => {}
                Sighting::Free { moved, .. } | Sighting::Dead { moved } => *moved = true,
            }
        }
    }
}

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

/// A transaction of a connection that is no more. It still commits, or does not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pending {
    /// Whose.
    pub worker: WorkerId,
    /// What.
    pub call: Call,
}

/// What a worker knows that it holds.
#[derive(Clone, Debug)]
pub struct Known {
    /// The attempt of each message.
    pub attempts: [Option<u8>; MESSAGES],
    /// The batches.
    pub batches: Vec<BatchId>,
}

/// The database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// It can be reached.
    pub up: bool,
    /// `taskmq_messages`.
    pub rows: [Option<Row>; MESSAGES],
    /// `taskmq_archive`.
    pub archive: [Option<Archived>; MESSAGES],
    /// `taskmq_claims`.
    pub batches: Vec<Batch>,
    /// `taskmq_workers`.
    pub workers: Vec<Entry>,
    /// What lost connections have left.
    pub pending: Vec<Pending>,
    /// A process that was stopped in the middle of a claim, and so keeps the others from claiming.
    pub claiming: Option<ProcessId>,
}

impl Server {
    /// The entry of a worker.
    pub fn entry(&self, worker: WorkerId) -> Option<&Entry> {
        self.workers.iter().find(|entry| entry.id == worker)
    }

    pub(crate) fn entry_mut(&mut self, worker: WorkerId) -> Option<&mut Entry> {
        self.workers.iter_mut().find(|entry| entry.id == worker)
    }

    pub(crate) fn enter(&mut self, worker: WorkerId) {
        self.workers.push(Entry::new(worker));
        self.workers.sort_unstable_by_key(|entry| entry.id);
    }

    /// The worker's row is there.
    pub fn knows(&self, worker: WorkerId) -> bool {
        self.entry(worker).is_some_and(|entry| entry.registered)
    }

    /// Messages that live.
    pub fn live(&self) -> Ids {
        Ids::of(|m| self.rows[m].is_some())
    }

    /// Live messages that a batch holds.
    pub fn batched(&self) -> Ids {
        let listed = self.batches.iter().fold(Ids::NONE, |ids, batch| ids.with(batch.messages));
        listed.and(self.live())
    }

    /// Live messages that are set aside.
    pub fn set_aside(&self) -> Ids {
        Ids::of(|m| self.rows[m].is_some_and(|row| row.holder == Holder::SetAside))
    }

    /// What a claim may take: nobody holds it, no batch does, and no claim that is about to be committed.
    pub(crate) fn claimable(&self, bug: Option<Bug>) -> Ids {
        if self.claiming.is_some() {
            return Ids::NONE;
        }
        let pending = self.pending.iter().filter(|_| bug != Some(Bug::ClaimsOverlap));
        let taken = pending.fold(self.batched(), |taken, pending| match &pending.call {
            Call::Exchange { claim: Some(claim), .. } => taken.with(claim.messages),
            _ => taken,
        });
        Ids::of(|m| self.rows[m].is_some_and(|row| row.holder == Holder::Nobody) && !taken.contains(m))
    }

    /// Live messages that this worker has a lease of.
    pub fn leased_to(&self, worker: WorkerId) -> Ids {
        let own = Ids::of(|m| self.rows[m].is_some_and(|row| row.holder == Holder::Worker(worker)));
        let batches = self.batches.iter().filter(|batch| batch.worker == worker);
        batches.fold(own, |ids, batch| ids.with(batch.messages.and(self.live())))
    }

    /// How many leases a live message has.
    pub fn leases(&self, message: MessageId) -> usize {
        let Some(row) = &self.rows[message] else { return 0 };
        let batches = self.batches.iter().filter(|batch| batch.messages.contains(message)).count();
        batches + usize::from(matches!(row.holder, Holder::Worker(_)))
    }

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
        let alone_with = entry.alone_with.take().filter(|_| registered);
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
            _ if !blames => Ids::NONE,
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
