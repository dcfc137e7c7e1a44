//! A message, as the database has it.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::broker::WorkflowId;
use crate::workflow::workflow_of;

/// The number that the database gave a message. It keeps it for ever, in `taskmq_archive` too.
pub type MessageId = i64;

/// Where a message is on its way.
///
/// ```text
///              delay                                       done
///  produce ──────────▶ scheduled ──▶ ready ──▶ running ──────────▶ done
///     └───────────────────────────────▲          │ failed      ┌──▶ dead
///                                     └─ retrying ◀────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// May be claimed now.
    Ready,
    /// Produced with a delay that is not over.
    Scheduled,
    /// Leased by a worker.
    Running,
    /// Failed, and waits for its next attempt.
    Retrying,
    /// Ran to success.
    Done,
    /// Given up, and kept for a person.
    Dead,
    /// Taken back by a person.
    Cancelled,
}

impl State {
    /// All of them, in the order of a message's way.
    pub const ALL: [State; 7] = [
        State::Ready,
        State::Scheduled,
        State::Running,
        State::Retrying,
        State::Done,
        State::Dead,
        State::Cancelled,
    ];

    /// Its name in the database, in JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Ready => "ready",
            State::Scheduled => "scheduled",
            State::Running => "running",
            State::Retrying => "retrying",
            State::Done => "done",
            State::Dead => "dead",
            State::Cancelled => "cancelled",
        }
    }

    /// True for what is in `taskmq_archive`.
    pub fn is_finished(self) -> bool {
        matches!(self, State::Done | State::Dead | State::Cancelled)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        State::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| {
            let known = State::ALL.map(State::as_str).join(", ");
            format!("{text:?} is no state; the states are {known}")
        })
    }
}

/// A message as people and programs look at it, live or finished.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// Its topic.
    pub topic: String,
    /// Where it is.
    pub state: State,
    /// Higher first.
    pub priority: i16,
    /// The attempts begun, the one under way included.
    pub attempts: i32,
    /// The attempts proven to have ended their whole process.
    pub crashes: i16,
    /// Its own bound on attempts; `None`: its consumer's.
    pub max_attempts: Option<i16>,
    /// When it was produced.
    pub created_at: DateTime<Utc>,
    /// When it became or becomes due.
    pub run_at: DateTime<Utc>,
    /// When the last attempt began to be claimed.
    pub claimed_at: Option<DateTime<Utc>>,
    /// When it was finished.
    pub finished_at: Option<DateTime<Utc>>,
    /// The worker that runs or ran it.
    pub worker_id: Option<i64>,
    /// At most one live message of its topic has this key.
    pub unique_key: Option<String>,
    /// Of the messages of its topic that share this key one runs at a time.
    pub ordering_key: Option<String>,
    /// The headers, a JSON object.
    pub headers: Option<Box<serde_json::value::RawValue>>,
    /// The payload, as it was produced.
    pub payload: Box<serde_json::value::RawValue>,
    /// What the consumer returned.
    pub result: Option<Box<serde_json::value::RawValue>>,
    /// Why it is dead.
    pub error: Option<String>,
}

impl Message {
    /// The workflow that it is a step of, as its headers say.
    pub fn workflow(&self) -> Option<WorkflowId> {
        let headers: BTreeMap<String, String> = serde_json::from_str(self.headers.as_ref()?.get()).ok()?;
        workflow_of(&headers)
    }
}

/// One failed attempt.
#[derive(Clone, Debug, Serialize)]
pub struct FailedAttempt {
    /// The number of the attempt, from 1.
    pub attempt: i32,
    /// `error`, `panic`, `timeout`, `payload` or `crash`.
    pub kind: String,
    /// The handler's words.
    pub error: String,
    /// `host:pid` of the worker.
    pub worker: String,
    /// When.
    pub failed_at: DateTime<Utc>,
}

/// What a handler logged.
#[derive(Clone, Debug, Serialize)]
pub struct LogLine {
    /// The number of the attempt, from 1.
    pub attempt: i32,
    /// When.
    pub logged_at: DateTime<Utc>,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// The handler's words.
    pub line: String,
}

/// What was logged in each of a message's failed attempts, and then what was logged in none of them. A message that was
/// retried by a person has attempts of the same number, so their times tell them apart.
pub fn log_by_failure<'a>(
    failures: &[FailedAttempt],
    log: &'a [LogLine],
) -> (Vec<Vec<&'a LogLine>>, Vec<&'a LogLine>) {
    // Both are written at once, yet their times are taken one after the other.
    let leeway = TimeDelta::seconds(1);
    let mut of = vec![Vec::new(); failures.len()];
    let mut others = Vec::new();
    let mut from = 0;
    for line in log {
        let its = |failure: &FailedAttempt| {
            failure.attempt == line.attempt && failure.failed_at + leeway >= line.logged_at
        };
        match failures.iter().skip(from).position(its) {
            Some(at) => {
                from += at;
                of[from].push(line);
            }
            None => others.push(line),
        }
    }
    (of, others)
}

/// The figures of one topic.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TopicStats {
    /// The topic.
    pub topic: String,
    /// May be claimed now.
    pub ready: i64,
    /// Wait for their time.
    pub scheduled: i64,
    /// Leased by workers.
    pub running: i64,
    /// Wait for another attempt.
    pub retrying: i64,
    /// Done and still kept.
    pub done: i64,
    /// Given up.
    pub dead: i64,
    /// Taken back.
    pub cancelled: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_with_the_attempt_in_which_they_were_logged() {
        let at = |second: i64| DateTime::UNIX_EPOCH + TimeDelta::seconds(second);
        let failure = |attempt, second| FailedAttempt {
            attempt,
            kind: "error".to_owned(),
            error: "no".to_owned(),
            worker: "host:1".to_owned(),
            failed_at: at(second),
        };
        let line = |attempt, second| LogLine {
            attempt,
            logged_at: at(second),
            level: "info".to_owned(),
            line: second.to_string(),
        };
        // Dead after two attempts, retried by a person, and done at the second one.
        let failures = [failure(1, 10), failure(2, 20), failure(1, 30)];
        let log = [line(1, 9), line(1, 10), line(2, 19), line(1, 30), line(2, 40)];
        let (of, others) = log_by_failure(&failures, &log);
        let words = |lines: &[&LogLine]| lines.iter().map(|line| line.line.clone()).collect::<Vec<_>>();
        assert_eq!([words(&of[0]), words(&of[1]), words(&of[2])], [vec!["9", "10"], vec!["19"], vec!["30"]]);
        assert_eq!(words(&others), ["40"]);
    }
}
