//! What handlers logged.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::Sqlite;

use super::json_list;
use crate::broker::{Settlement, logs, rows};
use crate::message::LogLine;
use crate::statement::{execute, load};
use crate::{MessageId, Result};

/// Writes what was logged in attempts whose end has just been written.
pub(super) fn write<'a>(
    conn: &mut SqliteConnection,
    written: impl Iterator<Item = &'a Settlement> + Clone,
) -> Result<()> {
    logs::write(conn, written, |conn, ids| delete(conn, &json_list(ids)?), insert)
}

fn insert(conn: &mut SqliteConnection, lines: &str) -> Result<()> {
    execute!(
        conn, Sqlite,
        "INSERT INTO taskmq_logs (message_id, attempt, logged_at, level, line)
         SELECT value ->> 0, value ->> 1, strftime('%Y-%m-%d %H:%M:%f', 'now', ((value ->> 2) / -1000000.0) || ' seconds'),
            value ->> 3, value ->> 4
         FROM json_each(?) ORDER BY key",
        Text = lines,
    )?;
    Ok(())
}

pub(super) fn delete(conn: &mut SqliteConnection, ids: &str) -> Result<()> {
    execute!(
        conn,
        Sqlite,
        "DELETE FROM taskmq_logs WHERE message_id IN (SELECT value FROM json_each(?))",
        Text = ids
    )?;
    Ok(())
}

pub(super) fn of(conn: &mut SqliteConnection, id: MessageId) -> Result<Vec<LogLine>> {
    let found: Vec<(i32, i64, String, String)> = load!(
        conn, Sqlite => rows::LogSql,
        concat!("SELECT attempt, ", micros!("logged_at"), ", level, line FROM taskmq_logs WHERE message_id = ? ORDER BY id"),
        BigInt = id,
    )?;
    Ok(found.into_iter().map(rows::log_line).collect())
}
