//! What a person does with the queue: looks at it, and changes single messages or many.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    Action, Changed, FailedLately, Figures, FinishedMessage, HeldMessage, InLine, Lane, LaneCount, Limit,
    LimitedTopic, Note, NoteEntry, NoteId, Noted, PausedTopic, Place, ProducedMessage, RunningWorkflows,
    Span, Step, Summary, WorkerEntry, WorkflowEntry, WorkflowId, WorkflowState, sealed,
};
use crate::{MessageId, Result, State};

/// The operations for people. [`Broker`](super::Broker) has them too, so every connection has.
///
/// Whatever looks reads a bounded number of rows along an index, so its time does not depend on how many there are.
/// Whatever changes checks that no worker holds the message: nothing is taken away from under a running handler, whose
/// worker can only be asked to end it.
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

    /// Up to `limit` messages that are due but wait for the turn of their ordering key, those behind this one, or all.
    ///
    /// # Errors
    /// What the database reports.
    fn in_line(&mut self, behind: Option<&InLine>, limit: i64) -> Result<Vec<InLine>> {
        let Some(last) = behind else { return self.in_lines_behind(i64::MIN, limit) };
        if !last.lane.topic.is_ascii() {
            return Ok(Vec::new()); // there is no such topic, and MariaDB cannot compare it
        }
        let mut found = self.in_its_lane_behind(last, limit)?;
        let left = |found: &[InLine]| limit.saturating_sub(i64::try_from(found.len()).unwrap_or(limit));
        found.extend(self.in_its_line_behind(last, left(&found))?);
        found.extend(self.in_lines_behind(last.line, left(&found))?);
        Ok(found)
    }

    /// Up to `limit` of those in the same line and lane as this one, behind it.
    ///
    /// # Errors
    /// What the database reports.
    fn in_its_lane_behind(&mut self, last: &InLine, limit: i64) -> Result<Vec<InLine>>;

    /// Up to `limit` of those in the same line as this one, in the lanes behind its own.
    ///
    /// # Errors
    /// What the database reports.
    fn in_its_line_behind(&mut self, last: &InLine, limit: i64) -> Result<Vec<InLine>>;

    /// Up to `limit` of those in the lines behind this one.
    ///
    /// # Errors
    /// What the database reports.
    fn in_lines_behind(&mut self, line: i64, limit: i64) -> Result<Vec<InLine>>;

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

    /// Since when a running message [is to be cancelled](Changed::asked).
    ///
    /// # Errors
    /// What the database reports.
    fn cancel_asked_at(&mut self, id: MessageId) -> Result<Option<DateTime<Utc>>>;

    /// Lets no worker take messages of a topic from now on, and notes it; workers know within about two seconds. They
    /// hand back what they have not begun, and finish what they have. `false`: it was paused already.
    ///
    /// # Errors
    /// [`Error::Topic`](crate::Error::Topic) for what can be no consumer's topic, and what the database reports.
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

    /// Limits from now on what all workers together do with a topic, instead of any limit that it had, and notes it;
    /// workers know within about two seconds. What runs already runs on. `false`: it has this limit already.
    ///
    /// # Errors
    /// [`Error::Topic`](crate::Error::Topic), [`Error::Limit`](crate::Error::Limit), and what the database reports.
    fn set_limit(&mut self, topic: &str, limit: &Limit, actor: &str) -> Result<bool>;

    /// Lets workers take as much of a topic as they can again, and notes it. `false`: it had no limit.
    ///
    /// # Errors
    /// What the database reports.
    fn lift_limit(&mut self, topic: &str, actor: &str) -> Result<bool>;

    /// The topics that have a limit, by name.
    ///
    /// # Errors
    /// What the database reports.
    fn limits(&mut self) -> Result<Vec<LimitedTopic>>;

    /// Up to `limit` workflows with ids below this one, of one state or of any, the newest first.
    ///
    /// # Errors
    /// What the database reports.
    fn workflows(
        &mut self,
        state: Option<WorkflowState>,
        below: WorkflowId,
        limit: i64,
    ) -> Result<Vec<WorkflowEntry>>;

    /// How many workflows are not finished, counted up to `at_most`, and since when. Reads an index alone.
    ///
    /// # Errors
    /// What the database reports.
    fn running_workflows(&mut self, at_most: i64) -> Result<RunningWorkflows>;

    /// A workflow and its steps, in the order in which they were added; at most
    /// [`MAX_STEPS`](crate::limits::MAX_STEPS).
    ///
    /// # Errors
    /// What the database reports.
    fn workflow(&mut self, id: WorkflowId) -> Result<Option<(WorkflowEntry, Vec<Step>)>>;

    /// Lets no further step of a workflow begin, and notes it. The messages of those that have begun stay as they are.
    /// `false`: it is finished, or not there.
    ///
    /// # Errors
    /// What the database reports.
    fn cancel_workflow(&mut self, id: WorkflowId, actor: &str) -> Result<bool>;

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
