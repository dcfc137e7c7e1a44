//! Running messages that people want ended.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::Sqlite;

use super::{json_list, write_lock};
use crate::broker::{change, rows};
use crate::statement::{execute, load};
use crate::{MessageId, Result};

pub(super) fn ask(conn: &mut SqliteConnection, ids: &[MessageId]) -> Result<()> {
    execute!(
        conn,
        Sqlite,
        "INSERT OR IGNORE INTO taskmq_cancels (message_id) SELECT value FROM json_each(?)",
        Text = json_list(ids)?,
    )?;
    Ok(())
}

pub(super) fn asked(conn: &mut SqliteConnection, ids: &[MessageId]) -> Result<Vec<MessageId>> {
    Ok(load!(
        conn, Sqlite => BigInt,
        "SELECT message_id FROM taskmq_cancels WHERE message_id IN (SELECT value FROM json_each(?))",
        Text = json_list(ids)?,
    )?)
}

pub(super) fn forget(conn: &mut SqliteConnection, ids: &[MessageId]) -> Result<()> {
    execute!(
        conn,
        Sqlite,
        "DELETE FROM taskmq_cancels WHERE message_id IN (SELECT value FROM json_each(?))",
        Text = json_list(ids)?,
    )?;
    Ok(())
}

pub(super) fn asked_at(conn: &mut SqliteConnection, id: MessageId) -> Result<Option<DateTime<Utc>>> {
    let asked: Vec<i64> = load!(
        conn, Sqlite => BigInt,
        concat!("SELECT ", micros!("asked_at"), " FROM taskmq_cancels WHERE message_id = ?"),
        BigInt = id,
    )?;
    Ok(asked.first().copied().map(rows::time))
}

pub(super) fn take_back(conn: &mut SqliteConnection, ids: &[MessageId]) -> Result<usize> {
    write_lock::transaction(conn, |conn| change::take_back(conn, ids))
}
