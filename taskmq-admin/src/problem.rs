//! Why a page cannot be shown or a change cannot be made.

mod chinese;

use std::sync::Arc;

use axum::http::StatusCode;
use taskmq_core::broker::Refusal;
use taskmq_core::{Error, MessageId};

use crate::texts::Texts;

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
    /// One that several have met.
    Shared(Arc<Problem>),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Problem::Queue(error) => error.fmt(f),
            Problem::NotFound => f.write_str("not found"),
            Problem::Refused(words) => f.write_str(words),
            Problem::Unchanged(id, why) => write!(f, "message {id}: {why}"),
            Problem::Busy => f.write_str("the database is busy"),
            Problem::Shared(problem) => problem.fmt(f),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Problem::Queue(error)
    }
}

impl Problem {
    /// For whoever reads the page.
    pub(crate) fn words(&self, texts: &Texts) -> String {
        match self {
            Problem::Queue(error) => {
                let chinese = (texts.code != "en").then(|| chinese::words(error)).flatten();
                chinese.unwrap_or_else(|| error.to_string())
            }
            Problem::Unchanged(id, why) => format!("#{id}: {}", texts.refusal(*why)),
            Problem::NotFound => texts.not_found.to_owned(),
            Problem::Refused(words) => words.clone(),
            Problem::Busy => texts.busy.to_owned(),
            Problem::Shared(problem) => problem.words(texts),
        }
    }

    /// Nothing has happened, and a moment later the same may do: somebody else was in the way, or the database was away.
    /// Where it fell silent, nobody knows what has happened.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Problem::Busy | Problem::Queue(Error::Locked(_) | Error::TooSlow(_) | Error::Connect { .. }) => {
                true
            }
            Problem::Queue(error) => error.is_blocked(),
            Problem::Shared(problem) => problem.passes(),
            _ => false,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Problem::NotFound => StatusCode::NOT_FOUND,
            Problem::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Problem::Unchanged(..) => StatusCode::CONFLICT,
            Problem::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Problem::Shared(problem) => problem.status(),
            Problem::Queue(error) => match error {
                Error::Topic { .. }
                | Error::Key { .. }
                | Error::Encode { .. }
                | Error::Json { .. }
                | Error::TooLarge { .. }
                | Error::Delay { .. }
                | Error::Condition { .. }
                | Error::Cron { .. }
                | Error::TimeZone { .. }
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
