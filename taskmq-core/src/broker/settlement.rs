//! How attempts end, and what a worker learns when it writes that.

use std::time::Duration;

use super::{BatchId, Claimed, Logged, Tied};
use crate::{MessageId, Retention, State};

/// One attempt's end.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The message.
    pub id: MessageId,
    /// The attempt.
    pub attempt: i32,
    /// The batch whose lease it shares.
    pub batch: Option<BatchId>,
    /// What ends with the message.
    pub tied: Tied,
    /// How it ended.
    pub outcome: Outcome,
    /// What its handler logged.
    pub log: Vec<Logged>,
}

impl Settlement {
    /// Whether the message ends, and others have waited for that.
    pub(super) fn ends_turn(&self) -> bool {
        self.tied.turn
            && matches!(self.outcome, Outcome::Done { .. } | Outcome::Dead { .. } | Outcome::Cancelled { .. })
    }
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It succeeded.
    Done {
        /// What the consumer returned, as JSON.
        result: Option<String>,
        /// How long it is kept.
        retention: Retention,
    },
    /// It failed and is to be tried again.
    Retry {
        /// After this long.
        delay: Duration,
        /// `taskmq_failures.kind`.
        kind: &'static str,
        /// Why.
        error: String,
    },
    /// It failed for good.
    Dead {
        /// `taskmq_failures.kind`; `None` when this attempt never began.
        kind: Option<&'static str>,
        /// Why.
        error: String,
    },
    /// A person wanted it ended, and it did not succeed before it learned that.
    Cancelled {
        /// `taskmq_failures.kind`; `None` when this attempt never began.
        kind: Option<&'static str>,
        /// How it ended.
        error: String,
    },
    /// It did not begin, or is to begin anew: the attempt does not count.
    HandBack,
}

impl Outcome {
    /// The state in which it ends its message without success, what its attempt failed of, and why.
    pub(super) fn unsuccessful_end(&self) -> Option<(State, Option<&'static str>, &str)> {
        match self {
            Outcome::Dead { kind, error } => Some((State::Dead, *kind, error)),
            Outcome::Cancelled { kind, error } => Some((State::Cancelled, *kind, error)),
            Outcome::Done { .. } | Outcome::Retry { .. } | Outcome::HandBack => None,
        }
    }
}

/// What an [`exchange`](super::Broker::exchange) gives.
#[derive(Clone, Debug, Default)]
pub struct Exchanged {
    /// The settlements whose lease was lost.
    pub lost: Vec<MessageId>,
    /// The newly leased messages.
    pub claimed: Vec<Claimed>,
    /// So many more that are due wait for the turn of their ordering key; others may be due behind them.
    pub in_line: usize,
    /// Nothing was claimed, for another claim was under way. Only on MariaDB, where those of batches exclude each other:
    /// who waited for that could not settle meanwhile.
    pub busy: bool,
    /// How long looking for messages took, without the wait for others who claim. Only on PostgreSQL, where
    /// [dead rows](super::Claim::after) may make it long.
    pub searched: Duration,
}
