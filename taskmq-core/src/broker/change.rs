//! How a change that a person wants is made, on each database the same; its statements are theirs.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};

use super::audit::write_down;
use super::{Action, Administration, Changed, Noted, Refusal};
use crate::{MessageId, Result, State};

/// The statements, in a transaction that is open.
pub(super) trait Changing: Administration {
    /// The states of those that are there. Nobody else changes them, or claims them, until the end of the transaction.
    fn lock_messages(&mut self, ids: &[MessageId]) -> Result<Vec<(MessageId, State)>>;

    /// Waiting ones become due now.
    fn make_due(&mut self, ids: &[MessageId]) -> Result<()>;

    /// Copies finished ones to the live ones. Gives those that no live message with their key is in the way of.
    fn revive(&mut self, ids: &[MessageId]) -> Result<Vec<MessageId>>;

    /// Copies waiting ones to the finished ones, as cancelled.
    fn archive_cancelled(&mut self, ids: &[MessageId]) -> Result<()>;

    /// Deletes what else is known of them: failed attempts, log lines, a large payload.
    fn forget(&mut self, ids: &[MessageId]) -> Result<()>;

    fn delete_live(&mut self, ids: &[MessageId]) -> Result<()>;

    fn delete_finished(&mut self, ids: &[MessageId]) -> Result<()>;

    fn set_priority(&mut self, ids: &[MessageId], priority: i16) -> Result<()>;

    /// Now, if that is over.
    fn set_run_at(&mut self, ids: &[MessageId], at: DateTime<Utc>) -> Result<()>;

    /// Asks the workers that run these to end them.
    fn ask_to_cancel(&mut self, ids: &[MessageId]) -> Result<()>;

    /// Of which of these that was asked.
    fn asked_to_cancel(&mut self, ids: &[MessageId]) -> Result<Vec<MessageId>>;

    /// What was asked of these is over.
    fn forget_cancels(&mut self, ids: &[MessageId]) -> Result<()>;

    /// Gives the turns of these, which are not to run now, to the next of their ordering keys.
    fn pass_turns(&mut self, ids: &[MessageId]) -> Result<()>;
}

/// Does it, in a transaction that is open.
pub(super) fn change(
    broker: &mut impl Changing,
    action: &Action,
    ids: &[MessageId],
    noted: Noted<'_>,
) -> Result<Changed> {
    let found = broker.lock_messages(ids)?;
    let mut sorted = Sorted::of(action, ids, &found);
    broker.forget_cancels(&sorted.not_running(ids))?;
    match action {
        Action::Retry => {
            broker.make_due(&sorted.live)?;
            let revived = broker.revive(&sorted.finished)?;
            broker.delete_finished(&revived)?;
            sorted.revived(&revived);
        }
        Action::Cancel => {
            if !sorted.running.is_empty() {
                broker.ask_to_cancel(&sorted.running)?;
            }
            broker.archive_cancelled(&sorted.live)?;
            broker.delete_live(&sorted.live)?;
            broker.pass_turns(&sorted.live)?;
        }
        Action::Delete => {
            broker.forget(&[&*sorted.live, &*sorted.finished].concat())?;
            broker.delete_finished(&sorted.finished)?;
            broker.delete_live(&sorted.live)?;
            broker.pass_turns(&sorted.live)?;
        }
        Action::Priority(priority) => broker.set_priority(&sorted.live, *priority)?,
        Action::RunAt(at) => {
            broker.set_run_at(&sorted.live, *at)?;
            if *at > broker.now()? {
                // It takes its place in the line when it is due. One that failed keeps its turn until its next attempt.
                let failed = |id: &MessageId| found.contains(&(*id, State::Retrying));
                let waits: Vec<MessageId> = sorted.live.iter().copied().filter(|id| !failed(id)).collect();
                broker.pass_turns(&waits)?;
            }
        }
    }
    let changed = sorted.changed();
    write_down(broker, noted, &[&*changed.changed, &*changed.asked].concat())?;
    Ok(changed)
}

/// Cancels those of these that wait and that a person wanted ended while they ran, in a transaction that is open. Of what is
/// finished that is no longer asked.
pub(super) fn take_back(broker: &mut impl Changing, ids: &[MessageId]) -> Result<usize> {
    let asked = broker.asked_to_cancel(ids)?;
    if asked.is_empty() {
        return Ok(0);
    }
    let found = broker.lock_messages(&asked)?;
    let runs = |id: &MessageId| found.contains(&(*id, State::Running));
    let over: Vec<MessageId> = asked.into_iter().filter(|id| !runs(id)).collect();
    // From now on nobody wants anything else of these; it may have been before.
    let over = broker.asked_to_cancel(&over)?;
    Ok(change(broker, &Action::Cancel, &over, Noted::No)?.changed.len())
}

/// The messages that an action is about, by what it can do with each.
struct Sorted {
    live: Vec<MessageId>,
    running: Vec<MessageId>,
    finished: Vec<MessageId>,
    refused: Vec<(MessageId, Refusal)>,
}

impl Sorted {
    /// `found` are the states of those that are there.
    fn of(action: &Action, ids: &[MessageId], found: &[(MessageId, State)]) -> Self {
        let mut sorted =
            Sorted { live: Vec::new(), running: Vec::new(), finished: Vec::new(), refused: Vec::new() };
        let found: HashMap<MessageId, State> = found.iter().copied().collect();
        // Named twice is changed once.
        for id in ids.iter().collect::<BTreeSet<_>>() {
            match found
                .get(id)
                .copied()
                .ok_or(Refusal::NotThere)
                .and_then(|state| action.check(state).map(|()| state))
            {
                Ok(state) if state.is_finished() => sorted.finished.push(*id),
                Ok(State::Running) => sorted.running.push(*id),
                Ok(_) => sorted.live.push(*id),
                Err(refusal) => sorted.refused.push((*id, refusal)),
            }
        }
        sorted
    }

    /// Those that no worker holds, or that are not there.
    fn not_running(&self, ids: &[MessageId]) -> Vec<MessageId> {
        let refused = self.refused.iter().filter(|(_, why)| *why == Refusal::Running).map(|(id, _)| id);
        let running: HashSet<&MessageId> = self.running.iter().chain(refused).collect();
        ids.iter().copied().filter(|id| !running.contains(id)).collect()
    }

    /// Of the finished ones only these could be revived.
    fn revived(&mut self, revived: &[MessageId]) {
        let (kept, taken) = self.finished.iter().partition(|id| revived.contains(id));
        self.finished = kept;
        let taken: Vec<MessageId> = taken;
        self.refused.extend(taken.into_iter().map(|id| (id, Refusal::KeyTaken)));
    }

    fn changed(self) -> Changed {
        let Sorted { mut live, running, finished, refused } = self;
        live.extend(finished);
        Changed { changed: live, asked: running, refused }
    }
}
