//! Rows as the databases give them, turned into the types that the rest of the crate uses. Times come as
//! microseconds since 1970, which all three can give.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Integer, Nullable, SmallInt, Text};
use serde_json::value::RawValue;

use crate::message::{FailedAttempt, Message, TopicStats};
use crate::{MessageId, State};

/// id, topic, state, priority, attempts, crashes, max_attempts, created, run_at, claimed, finished, worker, unique_key,
/// headers, payload, result, error.
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
        headers,
        payload,
        result,
        error,
    ) = row;
    Message {
        id,
        topic,
        state: state.parse().unwrap_or(State::Ready),
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

fn time(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

/// What another program stored may be no JSON for us (a database's own idea of it is wider): show it as text.
fn json(text: String) -> Box<RawValue> {
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
