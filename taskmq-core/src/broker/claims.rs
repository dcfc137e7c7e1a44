//! What a worker asks for, and what it gets.

use std::time::Duration;

use super::payloads::is_elsewhere;
use crate::MessageId;
use crate::workflow::WORKFLOW_HEADER;

/// What a worker asks for.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Who.
    pub worker_id: i64,
    /// Of which topics, the first one first.
    pub topics: &'a [Share<'a>],
    /// At most how many altogether.
    pub limit: i64,
    /// One lease for all of them, which writes one row and not one for each; for messages that end within moments.
    pub as_batch: bool,
    /// Where to go on in which lanes, and in no others; if there are none, all lanes from their beginnings. Only
    /// PostgreSQL needs it: there the dead rows of a lane are walked over for as long as any transaction is open that
    /// is older than they are.
    pub after: &'a [Position],
}

/// What a claim may take of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share<'a> {
    /// The topic.
    pub topic: &'a str,
    /// At most how many of each of its priorities.
    pub limit: i64,
    /// The time in which the first waiting message of a priority comes to count as one of the next higher priority;
    /// `None`: higher ones always come first.
    pub ageing: Option<Duration>,
}

/// A place in a lane (the messages of a topic that have the same priority).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The topic.
    pub topic: String,
    /// The priority.
    pub priority: i16,
    /// When the message at this place is due, as the database itself counts time.
    pub due: i64,
    /// The id of that message.
    pub id: MessageId,
}

/// A row of `taskmq_claims`: the one lease of all messages that a claim brought.
pub type BatchId = i64;

/// How a worker holds its messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// Each with a lease of its own.
    pub single: Vec<MessageId>,
    /// Those that share the lease of a batch.
    pub batches: Vec<(BatchId, Vec<MessageId>)>,
}

impl Leases {
    #[cfg(feature = "postgres")]
    pub(super) fn missing(&self, known: &[(MessageId, i32)]) -> Vec<(MessageId, i32)> {
        let held: std::collections::HashSet<MessageId> =
            self.single.iter().chain(self.batches.iter().flat_map(|(_, ids)| ids)).copied().collect();
        known.iter().copied().filter(|(id, _)| !held.contains(id)).collect()
    }
}

/// A leased message.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Its id.
    pub id: MessageId,
    /// Its topic.
    pub topic: String,
    /// The number of this attempt, from 1; with the worker's id it is the lease of a single message.
    pub attempt: i32,
    /// The batch whose lease it shares.
    pub batch: Option<BatchId>,
    /// Its priority, and when it was due (see [`Position`]).
    pub lane: (i16, i64),
    /// How long it had been due when it was claimed, by the database's clock.
    pub waited: Duration,
    /// How many attempts ended their process.
    pub crashes: i16,
    /// Its own bound on attempts.
    pub max_attempts: Option<i16>,
    /// Of the messages that share this key one runs at a time.
    pub ordering_key: Option<String>,
    /// Its headers, a JSON object.
    pub headers: Option<String>,
    /// Its payload, JSON; until it is fetched, of a large one only that it is elsewhere.
    pub payload: String,
    /// Its payload was fetched: it is stored by itself.
    pub large: bool,
}

/// What ends with a message, beside itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tied {
    /// The turn of its ordering key: when it is done or dead, the next message of that key has it.
    pub turn: bool,
    /// A step of a workflow: when it is done, the next ones may begin.
    pub step: bool,
    /// A large payload that is stored by itself: when the message is done and not kept, it is deleted.
    pub payload: bool,
}

impl Tied {
    /// Whether others may be due when it ends.
    pub fn any(self) -> bool {
        self.turn || self.step
    }
}

impl Claimed {
    /// What ends with it. Headers that only look as if they had that of a step cost a look at the steps.
    pub fn tied(&self) -> Tied {
        let step = self.headers.as_deref().is_some_and(|headers| headers.contains(WORKFLOW_HEADER));
        let payload = self.large || is_elsewhere(&self.payload);
        Tied { turn: self.ordering_key.is_some(), step, payload }
    }
}
