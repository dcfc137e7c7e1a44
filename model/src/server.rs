//! The database: what its tables hold.

use std::fmt;

use crate::broker::Call;
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
    /// Its death proves nothing, for a handler of a former worker runs in its process (`alone_with = 0`).
    pub unproven: bool,
    /// How it ended.
    pub end: End,
    /// What each process has seen of it.
    pub seen_by: [Sighting; PROCESSES],
}

impl Entry {
    /// A worker that begins.
    pub fn new(id: WorkerId) -> Self {
        let seen_by = [Sighting::Well; PROCESSES];
        Self {
            id,
            registered: true,
            lock: Lock::Held,
            alone_with: None,
            unproven: false,
            end: End::NotYet,
            seen_by,
        }
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

/// A transaction of a connection that is no more. It still commits, or does not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pending {
    /// Whose.
    pub worker: WorkerId,
    /// What.
    pub call: Call,
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
}
