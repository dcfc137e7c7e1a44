//! What a person can do with messages.

use std::fmt;

use chrono::{DateTime, Utc};

use crate::{Error, MessageId, Result, State};

/// What a person wants done with messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Dead and cancelled ones live again, with all their attempts before them, and are due; cancelled ones not before the time that
    /// they were for. Waiting ones are made due.
    Retry,
    /// Waiting ones are taken back, and kept as cancelled. The workers of running ones are asked to end them.
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
    /// assert_eq!(Action::Cancel.check(State::Running), Ok(()));
    /// ```
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, state: State) -> std::result::Result<(), Refusal> {
        match (self, state) {
            (Action::Cancel, State::Running) => Ok(()),
            (_, State::Running) => Err(Refusal::Running),
            (Action::Retry, State::Done) => Err(Refusal::Done),
            (Action::Retry | Action::Delete, _) => Ok(()),
            (_, State::Done | State::Dead | State::Cancelled) => Err(Refusal::Finished),
            (_, State::Ready | State::Scheduled | State::Retrying) => Ok(()),
        }
    }
}

/// What became of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// The messages that were changed.
    pub changed: Vec<MessageId>,
    /// Running ones that are to be cancelled: their workers know within about two seconds, and end them as
    /// [`Context::is_cancelled`](crate::Context::is_cancelled) says. One that succeeds before it learns that is done.
    pub asked: Vec<MessageId>,
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
