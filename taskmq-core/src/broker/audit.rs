//! What people did is written down.

use chrono::{DateTime, Utc};

use super::{Administration, WorkerEntry};
use crate::{MessageId, Result};

/// The number of a row of `taskmq_audit`.
pub type NoteId = i64;

/// Where a change is written down.
#[derive(Clone, Copy, Debug)]
pub enum Noted<'a> {
    /// Nowhere.
    No,
    /// In a note of its own, if any message is changed.
    New(&'a Note<'a>),
    /// In this note: the changed messages are added to its number.
    Under(NoteId),
}

/// What a person does.
#[derive(Clone, Copy, Debug)]
pub struct Note<'a> {
    /// Who.
    pub actor: &'a str,
    /// What.
    pub action: &'a str,
    /// With messages of which topic; `None`: of any.
    pub topic: Option<&'a str>,
    /// With which message; `None`: with more than one.
    pub message_id: Option<MessageId>,
    /// What else there is to say.
    pub details: &'a str,
    /// With how many so far. What a change adds need not be known before.
    pub messages: i64,
}

/// A note as it was written.
#[derive(Clone, Debug)]
pub struct NoteEntry {
    /// Its number.
    pub id: NoteId,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// With messages of which topic.
    pub topic: Option<String>,
    /// With which message.
    pub message_id: Option<MessageId>,
    /// What else there is to say.
    pub details: String,
    /// With how many.
    pub messages: i64,
}

/// Writes down that a worker was told to end, as part of the open transaction.
pub(super) fn write_down_drain(broker: &mut dyn Administration, worker_id: i64, actor: &str) -> Result<()> {
    let workers = broker.workers(i64::MAX)?;
    let details =
        workers.iter().find(|worker| worker.id == worker_id).map(WorkerEntry::label).unwrap_or_default();
    let note = Note { actor, action: "drain", topic: None, message_id: None, details: &details, messages: 0 };
    broker.note(&note).map(|_| ())
}

/// So many messages are named.
const NAMED: usize = 50;

/// Those that were chosen one by one, for deleted ones are nowhere else.
fn named(ids: &[MessageId]) -> String {
    let more = ids.len().saturating_sub(NAMED);
    let ids: Vec<String> = ids.iter().take(NAMED).map(|id| format!("#{id}")).collect();
    if more > 0 { format!("{} and {more} more", ids.join(" ")) } else { ids.join(" ") }
}

/// Writes down which messages were changed, as part of the open transaction; of all of a selection how many.
pub(super) fn write_down(
    broker: &mut dyn Administration,
    noted: Noted<'_>,
    changed: &[MessageId],
) -> Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let messages = i64::try_from(changed.len()).unwrap_or(i64::MAX);
    match noted {
        Noted::No => Ok(()),
        Noted::New(note) => {
            let mut details = vec![note.details.to_owned()];
            if note.message_id.is_none() {
                details.push(named(changed));
            }
            details.retain(|details| !details.is_empty());
            let messages = note.messages.saturating_add(messages);
            broker.note(&Note { messages, details: &details.join(", "), ..*note }).map(|_| ())
        }
        Noted::Under(id) => broker.add_to_note(id, messages),
    }
}
