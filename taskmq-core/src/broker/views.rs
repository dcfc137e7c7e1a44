//! What a person sees of the queue.

use chrono::{DateTime, Utc};

use crate::{MessageId, State};

/// The messages of a topic that have the same priority.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lane {
    /// The topic.
    pub topic: String,
    /// The priority.
    pub priority: i16,
}

/// How many messages of a lane nobody holds for itself. Those of batches that are running count here too, for that
/// is written nowhere but in the batch: [`HeldMessage::in_batch`] tells them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCount {
    /// Due.
    pub due: i64,
    /// Wait for their time.
    pub scheduled: i64,
    /// Wait for another attempt.
    pub retrying: i64,
    /// When the first of those that are due became so.
    pub oldest_due: Option<DateTime<Utc>>,
}

impl LaneCount {
    /// How far each kind of message is counted in each of so many lanes, when all of them together are to stay a matter of
    /// milliseconds: to 50,000 divided among them, but to 50 at least and 20,000 at most.
    ///
    /// ```
    /// use taskmq_core::broker::LaneCount;
    /// assert_eq!([0, 5, 100_000].map(LaneCount::bound), [20_000, 10_000, 50]);
    /// ```
    pub fn bound(lanes: usize) -> i64 {
        let lanes = i64::try_from(lanes.max(1)).unwrap_or(i64::MAX);
        (50_000 / lanes).clamp(50, 20_000)
    }
}

/// A place in an order by time; messages of the same time follow by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When it is due, or when it finished.
    pub at: DateTime<Utc>,
    /// The message's id.
    pub id: MessageId,
}

impl Place {
    /// Before all others of this time.
    pub fn before(at: DateTime<Utc>) -> Self {
        Self { at, id: MessageId::MIN }
    }

    /// After all others of this time.
    pub fn after(at: DateTime<Utc>) -> Self {
        Self { at, id: MessageId::MAX }
    }
}

/// The messages between two places, the places themselves left out.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The lower end.
    pub from: Place,
    /// The upper end.
    pub to: Place,
    /// At most how many: the first ones of what waits, the last ones of what is finished.
    pub limit: i64,
}

impl Span {
    /// All times that every database can hold: 1970 to 9999, where the texts of SQLite and the times of MariaDB end.
    pub fn everything(limit: i64) -> Self {
        let at = |seconds| DateTime::<Utc>::from_timestamp(seconds, 0).unwrap_or_default();
        Self { from: Place::before(at(0)), to: Place::after(at(253_402_300_799)), limit }
    }
}

/// A message that is leased, or set aside to run alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldMessage {
    /// Its id.
    pub id: MessageId,
    /// Its topic.
    pub topic: String,
    /// Who leased it; `None`: it is set aside.
    pub worker_id: Option<i64>,
    /// It shares the lease of its batch.
    pub in_batch: bool,
    /// When it was due.
    pub run_at: DateTime<Utc>,
    /// When it was leased.
    pub claimed_at: Option<DateTime<Utc>>,
}

/// A message that waits for the turn of its ordering key, and where it stands: line by line, of each the priorities one after the
/// other, which is not the order of the turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InLine {
    /// Which line.
    pub line: i64,
    /// Its topic and its priority.
    pub lane: Lane,
    /// Since when it is due, and its id.
    pub place: Place,
}

/// When a message was produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducedMessage {
    /// Its id.
    pub id: MessageId,
    /// Its topic.
    pub topic: String,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// How a message finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedMessage {
    /// Its id.
    pub id: MessageId,
    /// Its topic.
    pub topic: String,
    /// When it was due for its last attempt.
    pub run_at: DateTime<Utc>,
    /// When that attempt was claimed; `None`: it never was.
    pub claimed_at: Option<DateTime<Utc>>,
    /// When it finished.
    pub finished_at: DateTime<Utc>,
    /// The beginning of its error.
    pub error: Option<String>,
}

impl FinishedMessage {
    /// So many characters of an error are given.
    pub const ERROR_CHARS: i32 = 300;

    /// Where it stands among the finished ones.
    pub fn place(&self) -> Place {
        Place { at: self.finished_at, id: self.id }
    }
}

/// When an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedLately {
    /// The topic of its message.
    pub topic: String,
    /// When.
    pub failed_at: DateTime<Utc>,
}

/// A message as lists show it, without the rest of a long payload.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Its id.
    pub id: MessageId,
    /// Its topic.
    pub topic: String,
    /// Where it is.
    pub state: State,
    /// Higher first.
    pub priority: i16,
    /// The attempts begun.
    pub attempts: i32,
    /// When it was produced.
    pub created_at: DateTime<Utc>,
    /// When it became or becomes due.
    pub run_at: DateTime<Utc>,
    /// When it was finished.
    pub finished_at: Option<DateTime<Utc>>,
    /// Its unique key.
    pub unique_key: Option<String>,
    /// Its ordering key.
    pub ordering_key: Option<String>,
    /// The beginning of its payload.
    pub payload: String,
    /// The beginning of its error; of one that is not finished, of its last failed attempt.
    pub error: Option<String>,
}

impl Summary {
    /// So many characters of a payload are given.
    pub const PAYLOAD_CHARS: i32 = 300;
}

/// A worker as it entered itself.
#[derive(Clone, Debug)]
pub struct WorkerEntry {
    /// Its id, random and new at every start.
    pub id: i64,
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: i32,
    /// Of taskmq.
    pub version: String,
    /// Its topics, separated by commas.
    pub topics: String,
    /// How many handlers run at once.
    pub concurrency: i32,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it last moved its counter; workers on SQLite do so at their start and while they work, for their file locks tell who lives.
    pub beat_at: DateTime<Utc>,
    /// The message that is all it runs, because it may be one that ends its process.
    pub alone_with: Option<MessageId>,
    /// The memory that its process has resident, in bytes, as of then; a worker on SQLite tells it while it works.
    pub memory_bytes: Option<u64>,
    /// It was told to take no more and to end.
    pub draining: bool,
    /// Whether it lives, as far as its lock and its beats tell. Of one that does not, the next worker that looks gives the
    /// messages back and removes the entry.
    pub alive: bool,
}

impl WorkerEntry {
    /// `host:pid`.
    pub fn label(&self) -> String {
        format!("{}:{}", self.host, self.pid)
    }
}
