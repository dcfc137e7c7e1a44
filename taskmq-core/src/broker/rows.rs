//! Rows as the databases give them, turned into the types that the rest of the crate uses. Times come as
//! microseconds since 1970, which all three can give.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, SmallInt, Text};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    FailedLately, FinishedMessage, HeldMessage, InLine, Lane, LaneCount, NoteEntry, Place, ProducedMessage,
    Summary, WorkerEntry,
};
use crate::message::{FailedAttempt, LogLine, Message, TopicStats};
use crate::{MessageId, State};

/// id, topic, state, priority, attempts, crashes, max_attempts, created, run_at, claimed, finished, worker, unique_key,
/// ordering_key, headers, payload, result, error.
pub(super) type MessageSql = (
    BigInt,
    Text,
    Text,
    SmallInt,
    Integer,
    SmallInt,
    Nullable<SmallInt>,
    BigInt,
    BigInt,
    Nullable<BigInt>,
    Nullable<BigInt>,
    BigInt,
    Nullable<Text>,
    Nullable<Text>,
    Nullable<Text>,
    Text,
    Nullable<Text>,
    Nullable<Text>,
);

pub(super) type MessageRow = (
    MessageId,
    String,
    String,
    i16,
    i32,
    i16,
    Option<i16>,
    i64,
    i64,
    Option<i64>,
    Option<i64>,
    i64,
    Option<String>,
    Option<String>,
    Option<String>,
    String,
    Option<String>,
    Option<String>,
);

pub(super) fn message(row: MessageRow) -> Message {
    let (
        id,
        topic,
        state,
        priority,
        attempts,
        crashes,
        max_attempts,
        created,
        run_at,
        claimed,
        finished,
        worker,
        unique_key,
        ordering_key,
        headers,
        payload,
        result,
        error,
    ) = row;
    Message {
        id,
        topic,
        state: self::state(&state),
        priority,
        attempts,
        crashes,
        max_attempts,
        created_at: time(created),
        run_at: time(run_at),
        claimed_at: claimed.map(time),
        finished_at: finished.map(time),
        worker_id: (worker > 0).then_some(worker),
        unique_key,
        ordering_key,
        headers: headers.map(json),
        payload: json(payload),
        result: result.map(json),
        error,
    }
}

/// attempt, kind, error, worker, failed_at.
pub(super) type FailureSql = (Integer, Text, Text, Text, BigInt);

pub(super) fn failed_attempt(
    (attempt, kind, error, worker, at): (i32, String, String, String, i64),
) -> FailedAttempt {
    FailedAttempt { attempt, kind, error, worker, failed_at: time(at) }
}

pub(super) type LogSql = (Integer, BigInt, Text, Text);

pub(super) fn log_line((attempt, at, level, line): (i32, i64, String, String)) -> LogLine {
    LogLine { attempt, logged_at: time(at), level, line }
}

/// topic, state, count.
pub(super) type StatsSql = (Text, Text, BigInt);

pub(super) fn topic_stats(rows: Vec<(String, String, i64)>) -> Vec<TopicStats> {
    let mut topics: Vec<TopicStats> = Vec::new();
    for (topic, state, count) in rows {
        let at = topics.iter().position(|t| t.topic == topic).unwrap_or_else(|| {
            topics.push(TopicStats { topic, ..TopicStats::default() });
            topics.len() - 1
        });
        let stats = &mut topics[at];
        match state.parse() {
            Ok(State::Scheduled) => stats.scheduled += count,
            Ok(State::Running) => stats.running += count,
            Ok(State::Retrying) => stats.retrying += count,
            Ok(State::Done) => stats.done += count,
            Ok(State::Dead) => stats.dead += count,
            Ok(State::Cancelled) => stats.cancelled += count,
            Ok(State::Ready) | Err(_) => stats.ready += count,
        }
    }
    topics.sort_by(|a, b| a.topic.cmp(&b.topic));
    topics
}

/// run_at or finished_at, id.
pub(super) type PlaceSql = (BigInt, BigInt);

pub(super) fn place((at, id): (i64, MessageId)) -> Place {
    Place { at: time(at), id }
}

/// How many are due and the first time; how many are not, and how many of those are to be retried.
pub(super) fn lane_count(due: Option<&(i64, Option<i64>)>, later: Option<&(i64, i64)>) -> LaneCount {
    let (due, oldest) = due.copied().unwrap_or_default();
    let (later, retrying) = later.copied().unwrap_or_default();
    LaneCount { due, scheduled: later - retrying, retrying, oldest_due: oldest.map(time) }
}

/// id, topic, worker, in_batch, run_at, claimed.
pub(super) type HeldSql = (BigInt, Text, BigInt, Integer, BigInt, Nullable<BigInt>);

pub(super) fn held(
    (id, topic, worker, in_batch, run_at, claimed): (MessageId, String, i64, i32, i64, Option<i64>),
) -> HeldMessage {
    let (run_at, claimed_at) = (time(run_at), claimed.map(time));
    HeldMessage {
        id,
        topic,
        worker_id: (worker > 0).then_some(worker),
        in_batch: in_batch != 0,
        run_at,
        claimed_at,
    }
}

/// line, topic, priority, run_at, id.
pub(super) type LineSql = (BigInt, Text, SmallInt, BigInt, BigInt);

pub(super) fn in_line((line, topic, priority, run_at, id): (i64, String, i16, i64, MessageId)) -> InLine {
    InLine { line, lane: Lane { topic, priority }, place: Place { at: time(run_at), id } }
}

/// id, topic, created.
pub(super) type ProducedSql = (BigInt, Text, BigInt);

pub(super) fn produced((id, topic, created): (MessageId, String, i64)) -> ProducedMessage {
    ProducedMessage { id, topic, created_at: time(created) }
}

/// id, topic, run_at, claimed, finished, error.
pub(super) type FinishedSql = (BigInt, Text, BigInt, Nullable<BigInt>, BigInt, Nullable<Text>);

pub(super) fn finished(
    (id, topic, run_at, claimed, finished, error): (MessageId, String, i64, Option<i64>, i64, Option<String>),
) -> FinishedMessage {
    let (run_at, claimed_at, finished_at) = (time(run_at), claimed.map(time), time(finished));
    FinishedMessage { id, topic, run_at, claimed_at, finished_at, error }
}

/// topic, failed.
pub(super) type FailedSql = (Text, BigInt);

pub(super) fn failed((topic, failed): (String, i64)) -> FailedLately {
    FailedLately { topic, failed_at: time(failed) }
}

/// id, topic, state, priority, attempts, created, run_at, finished, unique_key, payload, error.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) type SummarySql = (
    BigInt,
    Text,
    Text,
    SmallInt,
    Integer,
    BigInt,
    BigInt,
    Nullable<BigInt>,
    Nullable<Text>,
    Nullable<Text>,
    Text,
    Nullable<Text>,
);

pub(super) type SummaryRow<Payload = String> = (
    MessageId,
    String,
    String,
    i16,
    i32,
    i64,
    i64,
    Option<i64>,
    Option<String>,
    Option<String>,
    Payload,
    Option<String>,
);

pub(super) fn summary(row: SummaryRow) -> Summary {
    let (
        id,
        topic,
        state,
        priority,
        attempts,
        created,
        run_at,
        finished,
        unique_key,
        ordering_key,
        payload,
        error,
    ) = row;
    Summary {
        id,
        topic,
        state: self::state(&state),
        priority,
        attempts,
        created_at: time(created),
        run_at: time(run_at),
        finished_at: finished.map(time),
        unique_key,
        ordering_key,
        payload,
        error,
    }
}

/// id, host, pid, version, topics, concurrency, started, beat, alone_with, memory, draining, alive.
pub(super) type WorkerSql = (
    BigInt,
    Text,
    Integer,
    Text,
    Text,
    Integer,
    BigInt,
    BigInt,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Bool,
    Bool,
);

pub(super) type WorkerRow =
    (i64, String, i32, String, String, i32, i64, i64, Option<MessageId>, Option<i64>, bool, bool);

pub(super) fn worker(row: WorkerRow) -> WorkerEntry {
    let (id, host, pid, version, topics, concurrency, started, beat, alone_with, memory, draining, alive) =
        row;
    let (started_at, beat_at) = (time(started), time(beat));
    // 0 names no message: see `Blame`.
    let alone_with = alone_with.filter(|id| *id != 0);
    let memory_bytes = memory.and_then(|bytes| u64::try_from(bytes).ok());
    WorkerEntry {
        id,
        host,
        pid,
        version,
        topics,
        concurrency,
        started_at,
        beat_at,
        alone_with,
        memory_bytes,
        draining,
        alive,
    }
}

/// id, at, actor, action, topic, message, details, messages.
pub(super) type NoteSql = (BigInt, BigInt, Text, Text, Nullable<Text>, Nullable<BigInt>, Text, BigInt);

pub(super) type NoteRow = (i64, i64, String, String, Option<String>, Option<MessageId>, String, i64);

pub(super) fn note(row: NoteRow) -> NoteEntry {
    let (id, at, actor, action, topic, message_id, details, messages) = row;
    NoteEntry { id, at: time(at), actor, action, topic, message_id, details, messages }
}

pub(super) fn state(name: &str) -> State {
    name.parse().unwrap_or(State::Ready)
}

pub(super) fn time(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

/// What another program stored may be no JSON for us (a database's own idea of it is wider): show it as text.
fn json(text: String) -> Box<RawValue> {
    match serde_json::from_str::<&RawValue>(&text) {
        Ok(json) => json.to_owned(),
        Err(_) => to_raw_value(&text).unwrap_or_else(|_| RawValue::NULL.to_owned()),
    }
}
