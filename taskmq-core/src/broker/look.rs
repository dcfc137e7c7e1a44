//! What a worker sees when it looks around.

use std::time::Duration;

use crate::MessageId;

/// What a worker sees when it looks around.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Its own row is there: the others have not given it up.
    pub alive: bool,
    /// The other workers, and ids that hold messages without being workers.
    pub peers: Vec<Peer>,
    /// Messages of its topics wait to run alone.
    pub set_aside: bool,
    /// Suspected messages of its topics wait.
    pub suspects: bool,
    /// A message of its topics may be due. Only where nothing else would wake it.
    pub due: bool,
    /// The topics that are paused, in order. What waits of them counts in none of the above.
    pub paused: Vec<String>,
    /// The topics that have a limit, in order.
    pub limited: Vec<String>,
    /// A person told it to take no more and to end.
    pub draining: bool,
    /// Messages that a person wants ended, and that this worker holds.
    pub cancels: Vec<MessageId>,
    /// The same of those that no worker holds for itself, up to a thousand: what waits is to be
    /// [taken back](super::Broker::take_back), what is held with its batch may be this worker's.
    pub left_cancels: Vec<MessageId>,
    /// How long until a schedule is due; `None`: there is none.
    pub next_tick: Option<Duration>,
}

/// Another worker, as it looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub id: i64,
    /// Its counter; `None`: there is no such worker, yet messages are leased to it.
    pub beat: Option<i64>,
    /// Whether its lock is free; `None` where there are no locks.
    pub lock_free: Option<bool>,
}

/// In the rows of a look, beside the ids of workers: a message is to be ended that nobody holds for itself
const LEFT_CANCEL: i64 = -11;
/// or that the worker holds which looks;
const CANCEL: i64 = -10;
/// the worker that looks is to end,
const DRAIN: i64 = -9;
/// a topic has a limit,
const LIMITED: i64 = -4;
/// a schedule is due in so many microseconds,
const TICK: i64 = -3;
/// suspected messages wait,
const SUSPECT: i64 = -2;
/// messages wait to run alone,
const SET_ASIDE: i64 = -1;
/// or one is due.
const DUE: i64 = 0;

/// Of rows about workers and messages, or, with a topic, about a limit or a pause.
pub(super) fn look(worker_id: i64, rows: impl Iterator<Item = (Peer, Option<String>)>) -> Look {
    let mut look = Look::default();
    for (peer, topic) in rows {
        match peer.id {
            LIMITED => look.limited.extend(topic),
            _ if topic.is_some() => look.paused.extend(topic),
            TICK => look.next_tick = peer.beat.map(|wait| Duration::from_micros(wait.max(0).unsigned_abs())),
            CANCEL => look.cancels.extend(peer.beat),
            LEFT_CANCEL => look.left_cancels.extend(peer.beat),
            DRAIN => look.draining = true,
            SUSPECT => look.suspects = true,
            SET_ASIDE => look.set_aside = true,
            DUE => look.due = true,
            id if id == worker_id => look.alive |= peer.beat.is_some(),
            _ => look.peers.push(peer),
        }
    }
    look.limited.sort();
    look.paused.sort();
    look
}
