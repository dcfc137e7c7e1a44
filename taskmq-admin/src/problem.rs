//! Why a page cannot be shown or a change cannot be made.

use axum::http::StatusCode;
use taskmq_core::broker::Refusal;
use taskmq_core::{Error, MessageId};

#[derive(Debug)]
pub(crate) enum Problem {
    /// The queue's own words.
    Queue(Error),
    /// What was asked for is not there.
    NotFound,
    /// What was asked for makes no sense, in words for people.
    Refused(String),
    /// A message is not changed.
    Unchanged(MessageId, Refusal),
    /// No connection was free.
    Busy,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Problem::Queue(error) => error.fmt(f),
            Problem::NotFound => f.write_str("not found"),
            Problem::Refused(words) => f.write_str(words),
            Problem::Unchanged(id, why) => write!(f, "message {id}: {why}"),
            Problem::Busy => f.write_str("the database is busy"),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Problem::Queue(error)
    }
}

impl Problem {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Problem::NotFound => StatusCode::NOT_FOUND,
            Problem::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Problem::Unchanged(..) => StatusCode::CONFLICT,
            Problem::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Problem::Queue(error) => match error {
                Error::Topic { .. }
                | Error::Key { .. }
                | Error::Encode { .. }
                | Error::Json { .. }
                | Error::TooLarge { .. }
                | Error::Delay { .. }
                | Error::Condition { .. }
                | Error::Cron { .. }
                | Error::Limit { .. }
                | Error::Unreadable { .. } => StatusCode::UNPROCESSABLE_ENTITY,
                Error::Message { .. }
                | Error::NoSchedule { .. }
                | Error::Schedule { .. }
                | Error::Workflow { .. } => StatusCode::CONFLICT,
                Error::ReadOnly(_) => StatusCode::FORBIDDEN,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            },
        }
    }
}
