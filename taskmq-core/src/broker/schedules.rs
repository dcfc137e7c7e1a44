//! The rows of schedules. What is done with them is in [`schedule`](crate::schedule).

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Integer, Nullable, SmallInt, Text};

use super::{rows, sealed};
use crate::produce::MessageRecord;
use crate::{MessageId, Result};

/// The operations on the rows of schedules. [`Broker`](super::Broker) has them too.
///
/// Each is one statement, and joins whatever transaction is open.
pub trait Schedules: sealed::Sealed {
    /// All schedules, or the one of this name, by name.
    ///
    /// # Errors
    /// What the database reports.
    fn schedules(&mut self, name: Option<&str>) -> Result<Vec<Schedule>>;

    /// Those that consumers of these topics declare.
    ///
    /// # Errors
    /// What the database reports.
    fn declared_schedules(&mut self, topics: &[&str]) -> Result<Vec<Schedule>>;

    /// Up to `limit` of those that are not paused, the next one first, without those that consumers of other topics
    /// declare.
    ///
    /// # Errors
    /// What the database reports.
    fn next_schedules(&mut self, topics: &[&str], limit: i64) -> Result<Vec<Schedule>>;

    /// Stores a schedule, or changes the one of its name. If its cron text or time zone is another, its next tick is to
    /// be worked out anew, from now on.
    ///
    /// # Errors
    /// What the database reports.
    fn store_schedule(&mut self, schedule: &ScheduleRecord, declared_by: Option<i64>) -> Result<()>;

    /// Locks a schedule until the end of the open transaction, if it still ticks as it did when it was read and nobody
    /// else has locked it. Waits for nobody.
    ///
    /// # Errors
    /// What the database reports.
    fn hold_schedule(&mut self, schedule: &Schedule) -> Result<bool>;

    /// Moves a schedule on to its next tick, and says which tick was its last one.
    ///
    /// # Errors
    /// What the database reports.
    fn advance_schedule(
        &mut self,
        name: &str,
        next: DateTime<Utc>,
        last: Option<(DateTime<Utc>, MessageId)>,
    ) -> Result<()>;

    /// Pauses a schedule, or lets it tick from now on. `false`: it was so already, or is not there.
    ///
    /// # Errors
    /// What the database reports.
    fn pause_schedule(&mut self, name: &str, paused: bool) -> Result<bool>;

    /// Removes a schedule. `false`: it is not there.
    ///
    /// # Errors
    /// What the database reports.
    fn remove_schedule(&mut self, name: &str) -> Result<bool>;
}

/// A schedule, as the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// When it ticks.
    pub cron: String,
    /// In which time zone that is meant.
    pub time_zone: String,
    /// The topic of its messages.
    pub topic: String,
    /// Their payload, JSON.
    pub payload: String,
    /// Their priority.
    pub priority: i16,
    /// Their own bound on attempts.
    pub max_attempts: Option<i16>,
    /// Their unique key.
    pub unique_key: Option<String>,
    /// Their headers, a JSON object, but for those that tell of the tick.
    pub headers: Option<String>,
    /// It does not tick.
    pub paused: bool,
    /// No tick before this counts.
    pub since: DateTime<Utc>,
    /// The next tick; `None`: no worker has worked it out yet.
    pub next_at: Option<DateTime<Utc>>,
    /// The last tick.
    pub last_at: Option<DateTime<Utc>>,
    /// The message of the last tick, or the one that was live then and has its unique key.
    pub last_message_id: Option<MessageId>,
    /// The worker whose consumer declares it; `None`: no consumer does.
    pub declared_by: Option<i64>,
    /// That worker runs no more.
    pub orphaned: bool,
    /// The database's time when this was read.
    pub seen_at: DateTime<Utc>,
}

/// A checked schedule in the form that the databases take.
#[derive(Clone, Debug)]
pub struct ScheduleRecord {
    pub(crate) name: String,
    pub(crate) cron: String,
    pub(crate) time_zone: String,
    pub(crate) message: MessageRecord,
}

impl Schedule {
    /// Whether a consumer declares it just so.
    pub(crate) fn is(&self, record: &ScheduleRecord) -> bool {
        let ScheduleRecord { name, cron, time_zone, message } = record;
        (&self.name, &self.cron, &self.time_zone) == (name, cron, time_zone)
            && (&self.topic, &self.payload) == (&message.topic, &message.payload)
            && (self.priority, self.max_attempts) == (message.priority, message.max_attempts)
            && (&self.unique_key, &self.headers) == (&message.unique_key, &message.headers)
    }
}

/// name, cron, time_zone, topic, payload, priority, max_attempts, unique_key, headers, paused, since, next, last,
/// last_message_id, declared_by, orphaned, now.
pub(super) type ScheduleSql = (
    Text,
    Text,
    Text,
    Text,
    Text,
    SmallInt,
    Nullable<SmallInt>,
    Nullable<Text>,
    Nullable<Text>,
    Integer,
    BigInt,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Integer,
    BigInt,
);

pub(super) type ScheduleRow = (
    String,
    String,
    String,
    String,
    String,
    i16,
    Option<i16>,
    Option<String>,
    Option<String>,
    i32,
    i64,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    i32,
    i64,
);

pub(super) fn schedule(row: ScheduleRow) -> Schedule {
    let (
        name,
        cron,
        time_zone,
        topic,
        payload,
        priority,
        max_attempts,
        unique_key,
        headers,
        paused,
        since,
        next,
        last,
        last_message_id,
        declared_by,
        orphaned,
        now,
    ) = row;
    Schedule {
        name,
        cron,
        time_zone,
        topic,
        payload,
        priority,
        max_attempts,
        unique_key,
        headers,
        paused: paused != 0,
        since: rows::time(since),
        next_at: next.map(rows::time),
        last_at: last.map(rows::time),
        last_message_id,
        declared_by,
        orphaned: orphaned != 0,
        seen_at: rows::time(now),
    }
}
