//! What to do about the difference between what a worker holds and what it knows to hold, once a reply got lost.

use std::collections::HashMap;

use super::{BatchId, Leases};
use crate::MessageId;

/// What the database has to write.
pub(super) struct Plan {
    /// Leased by themselves, and unknown: to be given back.
    pub(super) back: Vec<MessageId>,
    /// Members of batches that are to be let go of.
    pub(super) release: Vec<(BatchId, Vec<MessageId>)>,
    /// Batches of which nothing is left.
    pub(super) ends: Vec<BatchId>,
    /// What is held after that.
    pub(super) leases: Leases,
}

/// A lease is known if its attempt is: the same message may have been settled and leased again, and both replies lost.
/// `members` are a worker's batches and the attempt of each of their messages that is still there.
pub(super) fn plan(
    known: &[(MessageId, i32)],
    single: Vec<(MessageId, i32)>,
    batches: Vec<BatchId>,
    members: Vec<(BatchId, MessageId, Option<i32>)>,
) -> Plan {
    let known: HashMap<MessageId, i32> = known.iter().copied().collect();
    let is_known =
        |id: MessageId, attempt: Option<i32>| attempt.is_some() && known.get(&id).copied() == attempt;
    let (kept, back): (Vec<_>, Vec<_>) =
        single.into_iter().partition(|(id, attempt)| is_known(*id, Some(*attempt)));
    let mut release = Vec::new();
    let mut ends = Vec::new();
    let mut held = Vec::new();
    for batch in batches {
        let of_batch = members.iter().filter(|(of, _, _)| *of == batch);
        let (kept, gone): (Vec<_>, Vec<_>) = of_batch.partition(|(_, id, attempt)| is_known(*id, *attempt));
        let ids =
            |members: Vec<&(BatchId, MessageId, Option<i32>)>| members.into_iter().map(|m| m.1).collect();
        if kept.is_empty() {
            ends.push(batch);
            continue;
        }
        if !gone.is_empty() {
            release.push((batch, ids(gone)));
        }
        held.push((batch, ids(kept)));
    }
    let ids = |leases: Vec<(MessageId, i32)>| leases.into_iter().map(|(id, _)| id).collect();
    Plan { back: ids(back), release, ends, leases: Leases { single: ids(kept), batches: held } }
}
