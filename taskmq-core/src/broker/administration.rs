//! What a person does with the queue: looks at it, and changes single messages or many.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Figures, PausedTopic, sealed};
use crate::{Error, MessageId, Result, State};

/// The operations for people. [`Broker`](super::Broker) has them too, so every connection has.
///
/// Whatever looks reads a bounded number of rows along an index, so its time does not depend on how many there are.
/// Whatever changes checks that no worker holds the message: nothing is taken away from under a running handler.
///
/// ```no_run
/// # #[cfg(feature = "sqlite")] {
/// use taskmq_core::broker::{Action, Administration, Noted};
/// use taskmq_core::{AnyConnection, BrokerConnection};
///
/// let mut conn = AnyConnection::establish("app.db")?;
/// let changed = conn.broker().change(&Action::Cancel, &[41, 42], Noted::No)?;
/// for (id, why) in changed.refused {
///     println!("message {id}: {why}");
/// }
/// # }
/// # Ok::<(), taskmq_core::Error>(())
/// ```
pub trait Administration: sealed::Sealed {
    /// Bounds the time of each further statement of this connection, and makes it refuse to write if it is to be
    /// `read_only`. SQLite has no bound on time, only on waiting for a lock; the operations here are short there.
    ///
    /// # Errors
    /// What the database reports.
    fn restrict(&mut self, time: Duration, read_only: bool) -> Result<()>;

    /// The time by the database's clock, which is the one that counts.
    ///
    /// # Errors
    /// What the database reports.
    fn now(&mut self) -> Result<DateTime<Utc>>;

    /// Up to `limit` of the lanes that have a message which nobody holds, by topic, higher priorities first.
    ///
    /// # Errors
    /// What the database reports.
    fn lanes(&mut self, limit: usize) -> Result<Vec<Lane>>;

    /// The lanes of one topic that have a message which nobody holds, higher priorities first.
    ///
    /// # Errors
    /// What the database reports.
    fn lanes_of(&mut self, topic: &str) -> Result<Vec<Lane>>;

    /// How many messages of a lane nobody holds, each kind counted up to `at_most`.
    ///
    /// # Errors
    /// What the database reports.
    fn count_lane(&mut self, lane: &Lane, at_most: i64) -> Result<LaneCount>;

    /// The same of many lanes, in their order.
    ///
    /// # Errors
    /// What the database reports.
    fn count_lanes(&mut self, lanes: &[Lane], at_most: i64) -> Result<Vec<LaneCount>> {
        lanes.iter().map(|lane| self.count_lane(lane, at_most)).collect()
    }

    /// Where the messages of a lane that nobody holds stand, the first due first.
    ///
    /// # Errors
    /// What the database reports.
    fn waiting(&mut self, lane: &Lane, span: &Span) -> Result<Vec<Place>>;

    /// Up to `limit` messages that are leased or set aside.
    ///
    /// # Errors
    /// What the database reports.
    fn held(&mut self, limit: i64) -> Result<Vec<HeldMessage>>;

    /// Up to `limit` messages that are due but wait for the turn of their ordering key, those behind this place, or all.
    ///
    /// # Errors
    /// What the database reports.
    fn in_line(&mut self, behind: Option<InLine>, limit: i64) -> Result<Vec<LineMessage>>;

    /// Up to `limit` messages, live or finished, with ids below this one, the highest id first.
    ///
    /// # Errors
    /// What the database reports.
    fn newest(&mut self, below: MessageId, limit: i64) -> Result<Vec<ProducedMessage>>;

    /// The different times, in seconds, for which done messages are kept, but for those that are kept for ever.
    ///
    /// # Errors
    /// What the database reports.
    fn retentions(&mut self) -> Result<Vec<i64>>;

    /// Finished messages of this state that are kept for this many seconds (`None`: for ever, as all dead and
    /// cancelled ones are), those that finished last first.
    ///
    /// # Errors
    /// What the database reports.
    fn finished_of(
        &mut self,
        state: State,
        retention: Option<i64>,
        span: &Span,
    ) -> Result<Vec<FinishedMessage>>;

    /// Finished messages of this state, those that finished last first.
    ///
    /// # Errors
    /// What the database reports.
    fn finished(&mut self, state: State, span: &Span) -> Result<Vec<FinishedMessage>> {
        let mut finished = self.finished_of(state, None, span)?;
        if state == State::Done {
            for retention in self.retentions()? {
                finished.extend(self.finished_of(state, Some(retention), span)?);
            }
            finished.sort_unstable_by_key(|f| std::cmp::Reverse(f.place()));
            finished.truncate(usize::try_from(span.limit).unwrap_or_default());
        }
        Ok(finished)
    }

    /// Up to `limit` attempts that failed, the last one first, of messages that are there still.
    ///
    /// # Errors
    /// What the database reports.
    fn failed(&mut self, limit: i64) -> Result<Vec<FailedLately>>;

    /// How many dead (or cancelled) messages each topic has, among the last `at_most`.
    ///
    /// # Errors
    /// What the database reports.
    fn count_finished(&mut self, state: State, at_most: i64) -> Result<Vec<(String, i64)>>;

    /// Those of these messages that are there, in any order; if a `text` is given, only those that have it in their
    /// payload, headers, unique key or error. Upper and lower case count.
    ///
    /// # Errors
    /// What the database reports.
    fn summaries(&mut self, ids: &[MessageId], text: Option<&str>) -> Result<Vec<Summary>>;

    /// The payloads of those of these messages that are there, in any order, but for payloads of more than
    /// `longest` bytes.
    ///
    /// # Errors
    /// What the database reports.
    fn payloads(&mut self, ids: &[MessageId], longest: i64) -> Result<Vec<(MessageId, String)>>;

    /// The live messages that have this unique key, of one topic or of any, in any order. They are found by an index.
    ///
    /// # Errors
    /// What the database reports.
    fn keyed(&mut self, unique_key: &str, topic: Option<&str>) -> Result<Vec<MessageId>>;

    /// Up to `limit` workers that are entered, the oldest first.
    ///
    /// # Errors
    /// What the database reports.
    fn workers(&mut self, limit: i64) -> Result<Vec<WorkerEntry>>;

    /// Tells a worker to take no more messages and to end in good order, as a signal would, and notes it; it knows
    /// within about two seconds. `false`: it was told already, or is not there.
    ///
    /// # Errors
    /// What the database reports.
    fn drain(&mut self, worker_id: i64, actor: &str) -> Result<bool>;

    /// Changes each of these messages whose state allows it, and notes it, all in one transaction.
    ///
    /// # Errors
    /// What the database reports; then nothing is changed.
    fn change(&mut self, action: &Action, ids: &[MessageId], noted: Noted<'_>) -> Result<Changed>;

    /// Lets no worker take messages of a topic from now on, and notes it; workers know within about two seconds. They
    /// hand back what they have not begun, and finish what they have. `false`: it was paused already.
    ///
    /// # Errors
    /// [`Error::Topic`] for what can be no consumer's topic, and what the database reports.
    fn pause(&mut self, topic: &str, actor: &str) -> Result<bool>;

    /// Lets workers take messages of a topic again, and notes it. `false`: it was not paused.
    ///
    /// # Errors
    /// What the database reports.
    fn resume(&mut self, topic: &str, actor: &str) -> Result<bool>;

    /// The topics that are paused, by name.
    ///
    /// # Errors
    /// What the database reports.
    fn paused(&mut self) -> Result<Vec<PausedTopic>>;

    /// Figures by which a person can tell whether the database is well. SQLite reads the whole file for them.
    ///
    /// # Errors
    /// What the database reports.
    fn diagnose(&mut self) -> Result<Figures>;

    /// Writes down what a person does.
    ///
    /// # Errors
    /// What the database reports.
    fn note(&mut self, note: &Note<'_>) -> Result<NoteId>;

    /// Adds messages to the number of a note.
    ///
    /// # Errors
    /// What the database reports.
    fn add_to_note(&mut self, id: NoteId, messages: i64) -> Result<()>;

    /// Up to `limit` notes with ids below this one, the newest first.
    ///
    /// # Errors
    /// What the database reports.
    fn notes(&mut self, below: NoteId, limit: i64) -> Result<Vec<NoteEntry>>;
}

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

/// A place in the line of an ordering key. Places have an order of their own, which is not that of the turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InLine {
    /// Which line.
    pub line: i64,
    /// Which message.
    pub id: MessageId,
}

/// A message that waits for the turn of its ordering key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineMessage {
    /// Where it stands.
    pub place: InLine,
    /// Its topic.
    pub topic: String,
    /// Since when it is due.
    pub run_at: DateTime<Utc>,
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
    /// The beginning of its payload.
    pub payload: String,
    /// The beginning of its error.
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
    /// When it last moved its counter; workers on SQLite do so at their start only, for their file locks tell.
    pub beat_at: DateTime<Utc>,
    /// The message that is all it runs, because it may be one that ends its process.
    pub alone_with: Option<MessageId>,
    /// It was told to take no more and to end.
    pub draining: bool,
}

impl WorkerEntry {
    /// `host:pid`.
    pub fn label(&self) -> String {
        format!("{}:{}", self.host, self.pid)
    }
}

/// What a person wants done with messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Dead and cancelled ones live again, with all their attempts before them; waiting ones are made due.
    Retry,
    /// Waiting ones are taken back, and kept as cancelled.
    Cancel,
    /// All but running ones are deleted with all that is known of them.
    Delete,
    /// Waiting ones get this priority.
    Priority(i16),
    /// Waiting ones become due at this time, or at once if it is over.
    RunAt(DateTime<Utc>),
}

impl Action {
    /// Its name in `taskmq_audit`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Action::Retry => "retry",
            Action::Cancel => "cancel",
            Action::Delete => "delete",
            Action::Priority(_) => "priority",
            Action::RunAt(_) => "run at",
        }
    }

    /// Whether a message in this state can be changed so.
    ///
    /// ```
    /// use taskmq_core::State;
    /// use taskmq_core::broker::{Action, Refusal};
    /// assert_eq!(Action::Delete.check(State::Dead), Ok(()));
    /// assert_eq!(Action::Delete.check(State::Running), Err(Refusal::Running));
    /// ```
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, state: State) -> std::result::Result<(), Refusal> {
        match (self, state) {
            (_, State::Running) => Err(Refusal::Running),
            (Action::Retry, State::Done) => Err(Refusal::Done),
            (Action::Retry | Action::Delete, _) => Ok(()),
            (_, State::Done | State::Dead | State::Cancelled) => Err(Refusal::Finished),
            (_, State::Ready | State::Scheduled | State::Retrying) => Ok(()),
        }
    }
}

/// What became of a change.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    /// The messages that were changed.
    pub changed: Vec<MessageId>,
    /// Those that were not.
    pub refused: Vec<(MessageId, Refusal)>,
}

impl Changed {
    /// As the result of changing one message.
    ///
    /// # Errors
    /// [`Error::Message`] when that was refused.
    pub fn one(self) -> Result<()> {
        match self.refused.into_iter().next() {
            Some((id, refusal)) => Err(Error::Message { id, problem: refusal.to_string() }),
            None => Ok(()),
        }
    }
}

/// Why a message is not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It is not there.
    NotThere,
    /// A worker holds it.
    Running,
    /// It is done.
    Done,
    /// It is finished.
    Finished,
    /// Another live message of its topic has its unique key.
    KeyTaken,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::NotThere => "there is none of this id",
            Refusal::Running => "it is running",
            Refusal::Done => "it is done; produce it again if it is to run again",
            Refusal::Finished => "it is finished",
            Refusal::KeyTaken => "another live message of its topic has its unique key by now",
        })
    }
}

/// The number of a row of `taskmq_audit`.
pub type NoteId = i64;

/// Where a change is written down.
#[derive(Clone, Copy, Debug)]
pub enum Noted<'a> {
    /// Nowhere.
    No,
    /// In a note of its own, if any message is changed.
    New(&'a Note<'a>),
    /// In this note: the changed messages are added to its number.
    Under(NoteId),
}

/// What a person does.
#[derive(Clone, Copy, Debug)]
pub struct Note<'a> {
    /// Who.
    pub actor: &'a str,
    /// What.
    pub action: &'a str,
    /// With messages of which topic; `None`: of any.
    pub topic: Option<&'a str>,
    /// With which message; `None`: with more than one.
    pub message_id: Option<MessageId>,
    /// What else there is to say.
    pub details: &'a str,
    /// With how many so far. What a change adds need not be known before.
    pub messages: i64,
}

/// A note as it was written.
#[derive(Clone, Debug)]
pub struct NoteEntry {
    /// Its number.
    pub id: NoteId,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// With messages of which topic.
    pub topic: Option<String>,
    /// With which message.
    pub message_id: Option<MessageId>,
    /// What else there is to say.
    pub details: String,
    /// With how many.
    pub messages: i64,
}

/// The messages that an action is about, by what it can do with each.
pub(super) struct Sorted {
    pub(super) live: Vec<MessageId>,
    pub(super) finished: Vec<MessageId>,
    pub(super) refused: Vec<(MessageId, Refusal)>,
}

impl Sorted {
    /// `found` are the states of those that are there.
    pub(super) fn of(action: &Action, ids: &[MessageId], found: &[(MessageId, State)]) -> Self {
        let mut sorted = Sorted { live: Vec::new(), finished: Vec::new(), refused: Vec::new() };
        let found: HashMap<MessageId, State> = found.iter().copied().collect();
        // Named twice is changed once.
        for id in ids.iter().collect::<BTreeSet<_>>() {
            match found
                .get(id)
                .copied()
                .ok_or(Refusal::NotThere)
                .and_then(|state| action.check(state).map(|()| state))
            {
                Ok(state) if state.is_finished() => sorted.finished.push(*id),
                Ok(_) => sorted.live.push(*id),
                Err(refusal) => sorted.refused.push((*id, refusal)),
            }
        }
        sorted
    }

    /// Of the finished ones only these could be revived.
    pub(super) fn revived(&mut self, revived: &[MessageId]) {
        let (kept, taken) = self.finished.iter().partition(|id| revived.contains(id));
        self.finished = kept;
        let taken: Vec<MessageId> = taken;
        self.refused.extend(taken.into_iter().map(|id| (id, Refusal::KeyTaken)));
    }

    pub(super) fn changed(self) -> Changed {
        let Sorted { mut live, finished, refused } = self;
        live.extend(finished);
        Changed { changed: live, refused }
    }
}

/// Writes down that a worker was told to end, as part of the open transaction.
pub(super) fn write_down_drain(broker: &mut dyn Administration, worker_id: i64, actor: &str) -> Result<()> {
    let workers = broker.workers(i64::MAX)?;
    let details =
        workers.iter().find(|worker| worker.id == worker_id).map(WorkerEntry::label).unwrap_or_default();
    let note = Note { actor, action: "drain", topic: None, message_id: None, details: &details, messages: 0 };
    broker.note(&note).map(|_| ())
}

/// Writes down how many messages were changed, as part of the open transaction.
pub(super) fn write_down(
    broker: &mut dyn Administration,
    noted: Noted<'_>,
    changed: &[MessageId],
) -> Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let messages = i64::try_from(changed.len()).unwrap_or(i64::MAX);
    match noted {
        Noted::No => Ok(()),
        Noted::New(note) => {
            broker.note(&Note { messages: note.messages.saturating_add(messages), ..*note }).map(|_| ())
        }
        Noted::Under(id) => broker.add_to_note(id, messages),
    }
}
