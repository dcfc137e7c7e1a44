//! Walks through the messages that a command is about.

use std::ops::ControlFlow;

use taskmq_core::broker::{Action, Changed, NoteId, Noted, Selection};
use taskmq_core::{AnyConnection, BrokerConnection, MessageId};

use crate::error::Result;

/// Messages are read and changed in pages of this many.
const PAGE: i64 = 500;

/// How many they are.
pub(crate) fn count(conn: &mut AnyConnection, selection: &Selection) -> Result<usize> {
    let mut total = 0;
    let mut walk = selection.clone().walk();
    while let Some(page) = walk.next(conn.broker(), PAGE)? {
        total += page.len();
    }
    Ok(total)
}

/// Changes them page by page, each behind the one before, until `told` breaks off; `false`: it did. Each page is a transaction, and noted by
/// it: to stop between two loses nothing.
pub(crate) fn change(
    conn: &mut AnyConnection,
    action: &Action,
    selection: &Selection,
    note: NoteId,
    mut told: impl FnMut(Changed) -> ControlFlow<()>,
) -> Result<bool> {
    let mut walk = selection.clone().walk();
    while let Some(page) = walk.next(conn.broker(), PAGE)? {
        let ids: Vec<MessageId> = page.iter().map(|found| found.id).collect();
        if !ids.is_empty() && told(conn.broker().change(action, &ids, Noted::Under(note))?).is_break() {
            return Ok(false);
        }
    }
    Ok(true)
}
