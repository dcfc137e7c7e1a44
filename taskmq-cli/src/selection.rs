//! Walks through the messages that a command is about.

use taskmq_core::broker::Selection;
use taskmq_core::{AnyConnection, BrokerConnection, MessageId};

use crate::error::Result;

/// Messages are read and changed in pages of this many.
const PAGE: i64 = 500;

/// Hands the ids over page by page, each behind the one before.
pub(crate) fn each_page(
    conn: &mut AnyConnection,
    selection: &Selection,
    mut each: impl FnMut(&mut AnyConnection, &[MessageId]) -> Result<()>,
) -> Result<()> {
    let mut walk = selection.clone().walk();
    while let Some(page) = walk.next(conn.broker(), PAGE)? {
        let ids: Vec<MessageId> = page.iter().map(|found| found.id).collect();
        if !ids.is_empty() {
            each(conn, &ids)?;
        }
    }
    Ok(())
}
