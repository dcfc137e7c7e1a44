//! Every operation on the queue, in the order in which a message meets them.
//!
//! One module per database has all of that database's SQL: `sqlite`, `postgres`, `mysql`.

#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

mod action;
mod administration;
mod again;
mod audit;
mod change;
mod claims;
mod condition;
mod diagnosis;
mod groups;
#[cfg(any(feature = "sqlite", feature = "mysql"))]
mod lanes;
mod limits;
mod line;
mod logs;
mod look;
mod paused;
mod payloads;
mod quantiles;
mod reconcile;
mod rows;
mod schedules;
mod schemas;
mod selection;
mod settlement;
mod stepping;
mod views;
mod workflows;

pub use action::{Action, Changed, Refusal};
pub use administration::Administration;
pub(crate) use again::atomically;
pub use audit::{Note, NoteEntry, NoteId, Noted};
pub use claims::{BatchId, Claim, Claimed, Leases, Position, Share, Tied};
pub use condition::Condition;
pub use diagnosis::{
    Figures, MysqlFigures, PostgresFigures, ReplicationSlot, ServerFigures, SqliteFigures, TableFigures,
    Transaction,
};
pub use limits::{Among, Limit, LimitedTopic, Rate, Reached, Within};
pub use logs::Logged;
use look::look;
pub use look::{Look, Peer};
pub use paused::PausedTopic;
pub use quantiles::Quantiles;
pub use schedules::{Schedule, ScheduleRecord, Schedules};
pub use schemas::{Schema, Schemas};
pub use selection::{Found, Selection, Spot, Walk, error_shape};
pub use settlement::{Exchanged, Outcome, Settlement};
pub use views::{
    FailedLately, FinishedMessage, HeldMessage, InLine, Lane, LaneCount, Place, ProducedMessage, Span,
    Summary, WorkerEntry,
};
pub(crate) use workflows::StepRecord;
pub use workflows::{
    RunningWorkflows, Step, StepState, WorkflowEntry, WorkflowId, WorkflowRecord, WorkflowState,
};

/// To whom a message goes that is given back: to nobody, or as a suspect, or to run alone.
macro_rules! nobody {
    () => {
        "CASE WHEN crashes + suspicions >= 2 THEN -1 WHEN crashes + suspicions = 1 THEN -2 ELSE 0 END"
    };
}
use nobody;

/// Back to where claims meet it, if it stands in the line of an ordering key: its place there may not be right any more.
macro_rules! out_of_line {
    () => {
        "worker_id = CASE WHEN worker_id < -2 THEN 0 ELSE worker_id END"
    };
}
use out_of_line;

use std::collections::HashMap;
use std::time::Duration;

use crate::message::{FailedAttempt, LogLine, Message, TopicStats};
use crate::produce::MessageRecord;
use crate::{Backend, MessageId, Produced, Result, State};

/// What a database does to carry the queue; Diesel's three connections do it.
///
/// Methods that claim, settle, look or change are transactions of their own. Those that produce, note, or store schedules and schemas are one statement, or
/// a savepoint in the transaction that is open, and so part of that. [`begin`](Self::begin), [`ack`](Self::ack), [`commit`](Self::commit) and
/// [`rollback`](Self::rollback) are the transaction of a transactional consumer.
pub trait Broker: Administration + Schedules + Schemas {
    /// Which database this is.
    fn backend(&self) -> Backend;

    /// The version of the taskmq tables.
    ///
    /// # Errors
    /// [`Error::NotMigrated`](crate::Error::NotMigrated) when there are none.
    fn schema_version(&mut self) -> Result<i32>;

    /// Stores a message, and its payload by itself when that is large.
    ///
    /// # Errors
    /// What the database reports; then nothing is stored.
    fn produce(&mut self, message: &MessageRecord) -> Result<Produced> {
        payloads::produce(self, message)
    }

    /// Stores many messages and says how many; those whose unique key is taken are left out.
    ///
    /// # Errors
    /// What the database reports; then none is stored.
    fn produce_many(&mut self, messages: &[MessageRecord]) -> Result<usize> {
        payloads::produce_many(self, messages)
    }

    /// Stores a message as it is.
    ///
    /// # Errors
    /// What the database reports.
    fn insert(&mut self, message: &MessageRecord) -> Result<Produced>;

    /// Stores messages as they are, with one statement, and says how many; those whose unique key is taken are left out.
    ///
    /// # Errors
    /// What the database reports; then none is stored.
    fn insert_many(&mut self, messages: &[MessageRecord]) -> Result<usize>;

    /// Stores messages as they are, none of which has a unique key, and gives their ids in the same order.
    ///
    /// # Errors
    /// What the database reports; then perhaps some are stored.
    fn insert_each(&mut self, messages: &[MessageRecord]) -> Result<Vec<MessageId>> {
        messages.iter().map(|message| Ok(self.insert(message)?.id())).collect()
    }

    /// Stores the payloads of messages that say that theirs are elsewhere.
    ///
    /// # Errors
    /// What the database reports; then perhaps some are stored.
    fn insert_payloads(&mut self, payloads: &[(MessageId, &str)]) -> Result<()>;

    /// The payloads of those of these messages that have theirs elsewhere.
    ///
    /// # Errors
    /// What the database reports.
    fn large_payloads(&mut self, ids: &[MessageId]) -> Result<HashMap<MessageId, String>>;

    /// Stores a workflow, and produces the messages of the steps that wait for none; all or nothing.
    ///
    /// # Errors
    /// What the database reports; then nothing is stored.
    fn produce_workflow(&mut self, workflow: &WorkflowRecord) -> Result<WorkflowId>;

    /// The names of the steps of a workflow that this message waited for, and what their consumers returned.
    ///
    /// # Errors
    /// What the database reports.
    fn results_before(&mut self, id: MessageId) -> Result<Vec<(String, Option<String>)>>;

    /// Leases due messages to a worker: within a topic by priority, then due time, then id; topics in the order given.
    /// Of those that share an ordering key only the one whose turn it is.
    /// Nothing is leased to a worker that has no row in `taskmq_workers`.
    ///
    /// # Errors
    /// What the database reports.
    fn claim(&mut self, claim: &Claim<'_>) -> Result<Vec<Claimed>>;

    /// Gives claimed messages the payloads that are elsewhere, which no claim brings.
    ///
    /// # Errors
    /// What the database reports.
    fn fetch_payloads(&mut self, claimed: &mut [Claimed]) -> Result<()> {
        payloads::fetch(self, claimed)
    }

    /// Turns the lease of a batch into leases of these single messages of it, for what takes longer than a batch
    /// should live; when they are all that is left of it, the batch `ends`. `false`: the lease is lost.
    ///
    /// # Errors
    /// What the database reports.
    fn promote(&mut self, worker_id: i64, batch: BatchId, ids: &[MessageId], ends: bool) -> Result<bool>;

    /// Leases one message that is set aside to run alone, and notes that it is all this worker runs, so that the
    /// worker's death would prove it guilty.
    ///
    /// # Errors
    /// What the database reports.
    fn claim_alone(&mut self, worker_id: i64, topics: &[&str]) -> Result<Option<Claimed>>;

    /// Leases due messages that are suspected, because they were there when a worker died, each with a lease of its own.
    /// Few at a time, so that the next death leaves few to run alone.
    ///
    /// # Errors
    /// What the database reports.
    fn claim_suspects(&mut self, worker_id: i64, topics: &[&str], limit: i64) -> Result<Vec<Claimed>>;

    /// Leases due messages of a topic that has a limit, each with a lease of its own: at most as many as the limit has
    /// room for now, over all workers. Other claims of the topic that know of the limit wait meanwhile.
    ///
    /// # Errors
    /// What the database reports.
    fn claim_limited(&mut self, worker_id: i64, share: &Share<'_>, among: Among) -> Result<Within>;

    /// How long until a message of these topics is due: zero when one is, `None` when there is none at all.
    /// Only reads.
    ///
    /// # Errors
    /// What the database reports.
    fn next_due(&mut self, topics: &[&str]) -> Result<Option<Duration>>;

    /// Writes the outcomes of attempts, each if and only if its lease still holds, and gives the ids of those that
    /// had lost it. An outcome that was written before (its reply got lost) counts as written.
    ///
    /// # Errors
    /// What the database reports; then none is written, or, if the connection died, perhaps all.
    fn settle(&mut self, worker: &WorkerIdentity, settlements: &[Settlement]) -> Result<Vec<MessageId>> {
        Ok(self.exchange(worker, settlements, &[], None)?.lost)
    }

    /// [`settle`](Self::settle) and then [`claim`](Self::claim) in one transaction, so that one commit carries both;
    /// `ended` are the batches of which nothing is left then.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    fn exchange(
        &mut self,
        worker: &WorkerIdentity,
        settlements: &[Settlement],
        ended: &[BatchId],
        claim: Option<&Claim<'_>>,
    ) -> Result<Exchanged>;

    /// Whether a transaction is open on this connection.
    ///
    /// # Errors
    /// When nobody knows any more, for one could not be ended.
    fn is_in_transaction(&mut self) -> Result<bool>;

    /// Begins a transaction, which on SQLite has the write lock from the start; or, if one is open, a savepoint in it.
    ///
    /// # Errors
    /// What the database reports.
    fn begin(&mut self) -> Result<()>;

    /// Acknowledges one message as part of the transaction that [`begin`](Self::begin) began. `false`: its lease is lost,
    /// so roll back.
    ///
    /// # Errors
    /// [`Error::TransactionOver`](crate::Error::TransactionOver) when it is open no more, and what else the database reports.
    fn ack(&mut self, worker: &WorkerIdentity, settlement: &Settlement) -> Result<bool>;

    /// Commits the open transaction.
    ///
    /// # Errors
    /// What the database reports; whether it committed is not known then.
    fn commit(&mut self) -> Result<()>;

    /// Undoes the open transaction.
    ///
    /// # Errors
    /// What the database reports.
    fn rollback(&mut self) -> Result<()>;

    /// After a reply got lost: gives back everything that this worker holds but does not know of, and tells how it
    /// holds what it does know, by id and attempt. What is missing from the answer it holds no more.
    ///
    /// # Errors
    /// What the database reports.
    fn reconcile(&mut self, worker_id: i64, known: &[(MessageId, i32)]) -> Result<Leases>;

    /// Enters a worker that begins.
    ///
    /// # Errors
    /// What the database reports.
    fn register(&mut self, worker: &WorkerIdentity) -> Result<()>;

    /// Takes the worker's lock on this connection, which must live as long as the worker.
    ///
    /// # Errors
    /// What the database reports.
    fn lock(&mut self, worker_id: i64) -> Result<Lock>;

    /// The server's number of this connection's session. `None` where there is none that is the connection's alone, and
    /// on Galera, where a session can be ended on its own node only.
    ///
    /// # Errors
    /// What the database reports.
    fn session(&mut self) -> Result<Option<SessionId>> {
        Ok(None)
    }

    /// Marks this connection's session as one of the worker's, by a lock that it has as long as it lives.
    ///
    /// # Errors
    /// What the database reports.
    fn mark_session(&mut self, _worker_id: i64) -> Result<()> {
        Ok(())
    }

    /// The worker's marked sessions, but this connection's.
    ///
    /// # Errors
    /// What the database reports.
    fn marked_sessions(&mut self, _worker_id: i64) -> Result<Vec<SessionId>> {
        Ok(Vec::new())
    }

    /// Ends these of the worker's marked sessions: what they did not commit is undone, and their locks are free.
    ///
    /// # Errors
    /// What the database reports, such as that this user may not.
    fn end_sessions(&mut self, _worker_id: i64, _sessions: &[SessionId]) -> Result<()> {
        Ok(())
    }

    /// Moves the worker's counter on and notes how many bytes of memory its process has, if that is given. `false` when its
    /// row is gone: the others have given it up.
    ///
    /// # Errors
    /// What the database reports.
    fn beat(&mut self, worker_id: i64, memory_bytes: Option<u64>) -> Result<bool>;

    /// Everything that a worker wants to know now and then, with one statement that only reads.
    ///
    /// # Errors
    /// What the database reports.
    fn look(&mut self, worker_id: i64, topics: &[&str]) -> Result<Look>;

    /// Removes a dead worker, if its counter still is what it was, and gives its messages back: as suspects, or, at the
    /// second death in a row, set aside to run alone. A message that was all it ran is charged with a crash.
    ///
    /// # Errors
    /// What the database reports.
    fn rescue(&mut self, peer: &Peer) -> Result<usize>;

    /// Says how a worker died, in the failure that [`rescue`](Self::rescue) wrote, by whomever, for the message that
    /// killed it; if none is blamed, nothing.
    ///
    /// # Errors
    /// What the database reports.
    fn explain_death(&mut self, worker_id: i64, how: &str) -> Result<()>;

    /// Notes what the worker's death would prove from now on.
    ///
    /// # Errors
    /// What the database reports.
    fn blame(&mut self, worker_id: i64, blame: Blame) -> Result<()>;

    /// Removes a worker that ends.
    ///
    /// # Errors
    /// What the database reports.
    fn deregister(&mut self, worker_id: i64) -> Result<()>;

    /// Cancels those of these messages that wait: a person asked for it while they ran, and their attempt ended otherwise.
    /// Says how many. What is finished by now is no longer asked of.
    ///
    /// # Errors
    /// What the database reports; whether a lock was in the way tells
    /// [`Error::is_blocked`](crate::Error::is_blocked).
    fn take_back(&mut self, ids: &[MessageId]) -> Result<usize>;

    /// Mends the lines of ordering keys that a person broke, who deleted a message by hand whose turn it was: calls up
    /// the next ones. Says how many.
    ///
    /// # Errors
    /// What the database reports.
    fn mend_lines(&mut self) -> Result<usize>;

    /// Deletes up to `limit` done messages whose retention is over, and says how many.
    ///
    /// # Errors
    /// What the database reports.
    fn purge(&mut self, limit: i64) -> Result<usize>;

    /// Deletes up to `limit` finished workflows whose retention is over, and says how many. Messages stay.
    ///
    /// # Errors
    /// What the database reports.
    fn purge_workflows(&mut self, limit: i64) -> Result<usize>;

    /// Every topic that has a message, live or finished, with its figures.
    ///
    /// # Errors
    /// What the database reports.
    fn topics(&mut self) -> Result<Vec<TopicStats>>;

    /// Messages, live ones first and in the order in which they are to run, then finished ones, newest first.
    ///
    /// # Errors
    /// What the database reports.
    fn messages(&mut self, filter: &MessageFilter) -> Result<Vec<Message>>;

    /// One message.
    ///
    /// # Errors
    /// What the database reports.
    fn message(&mut self, id: MessageId) -> Result<Option<Message>>;

    /// A message's failed attempts, the first one first.
    ///
    /// # Errors
    /// What the database reports.
    fn failures(&mut self, id: MessageId) -> Result<Vec<FailedAttempt>>;

    /// What a message's handler logged, in the order in which it was written.
    ///
    /// # Errors
    /// What the database reports.
    fn log(&mut self, id: MessageId) -> Result<Vec<LogLine>>;
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// The server's number of a session.
pub type SessionId = i64;

/// A worker's entry in `taskmq_workers`.
#[derive(Clone, Debug)]
pub struct WorkerIdentity {
    /// Random, new at every start.
    pub id: i64,
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: i32,
    /// Its topics, separated by commas.
    pub topics: String,
    /// How many handlers run at once.
    pub concurrency: i32,
}

impl WorkerIdentity {
    /// `host:pid`.
    pub fn label(&self) -> String {
        format!("{}:{}", self.host, self.pid)
    }
}

/// What became of taking a worker's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// This connection has it.
    Held,
    /// Another session has it still: the worker's own former one, which the server has not given up yet.
    Busy,
    /// This database has no such locks (or a session cannot be relied on), so only the beats count.
    Unsupported,
}

/// Which messages to list.
#[derive(Clone, Debug)]
pub struct MessageFilter {
    /// Of one topic only.
    pub topic: Option<String>,
    /// In one state only.
    pub state: Option<State>,
    /// At most how many.
    pub limit: i64,
}

/// What these messages have in common, if they differ in nothing but their payloads, and those.
fn alike(messages: &[MessageRecord]) -> Option<(&MessageRecord, Vec<&str>)> {
    let first = messages.first()?;
    let alike = messages.iter().all(|message| message.is_alike(first));
    alike.then(|| (first, messages.iter().map(|message| message.payload.as_str()).collect()))
}

/// Which of the messages that a worker holds its death would prove guilty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The only one, if it holds no more than one; else all are suspected.
    Held,
    /// This one, which is all that it runs. The others have not begun.
    Alone(MessageId),
    /// None, but all are suspected: handlers of messages that it does not hold any more run on in its process.
    Nobody,
}

impl Blame {
    /// As it is stored in `alone_with`.
    fn alone_with(self) -> Option<MessageId> {
        match self {
            Self::Held => None,
            Self::Alone(id) => Some(id),
            Self::Nobody => Some(0),
        }
    }

    fn of(alone_with: Option<MessageId>) -> Self {
        match alone_with {
            None => Self::Held,
            Some(0) => Self::Nobody,
            Some(id) => Self::Alone(id),
        }
    }
}

/// The message that is proven to have ended its process. Where there is no worker that died, a worker that left could
/// not give them back.
fn culprit(peer: &Peer, blame: Blame, held: &[MessageId]) -> Option<MessageId> {
    peer.beat?;
    match (blame, held) {
        (Blame::Alone(id), held) => held.contains(&id).then_some(id),
        (Blame::Held, [id]) => Some(*id),
        (Blame::Held | Blame::Nobody, _) => None,
    }
}

/// What a rescue knows of a death.
fn death_of(worker_id: i64) -> String {
    format!("worker {worker_id:016x} died while it ran this message")
}

/// What is known of the deaths before, for which it was only suspected.
const DEATH_IN_COMPANY: &str = "a worker died while it held this message, perhaps because of another one";

/// An explanation is looked for among so many newest failures, for nothing but their ids is in an index.
const NEW_FAILURES: i64 = 10_000;
