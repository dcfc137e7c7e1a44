//! What handlers logged.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text};

use crate::broker::{Settlement, logs, rows};
use crate::message::LogLine;
use crate::statement::{execute, load};
use crate::{MessageId, Result};

/// Writes what was logged in attempts whose end has just been written.
pub(super) fn write<'a>(
    conn: &mut PgConnection,
    written: impl Iterator<Item = &'a Settlement> + Clone,
) -> Result<()> {
    logs::write(conn, written, delete, insert)
}

fn insert(conn: &mut PgConnection, lines: &str) -> Result<()> {
    execute!(
        conn, Pg,
        "INSERT INTO taskmq_logs (message_id, attempt, logged_at, level, line)
         SELECT (row ->> 0)::bigint, (row ->> 1)::integer, clock_timestamp() - (row ->> 2)::bigint * interval '1 microsecond',
            row ->> 3, row ->> 4
         FROM jsonb_array_elements(?::jsonb) WITH ORDINALITY lines (row, number) ORDER BY number",
        Text = lines,
    )?;
    Ok(())
}

pub(super) fn delete(conn: &mut PgConnection, ids: &[MessageId]) -> Result<()> {
    execute!(conn, Pg, "DELETE FROM taskmq_logs WHERE message_id = ANY(?)", Array<BigInt> = ids)?;
    Ok(())
}

pub(super) fn of(conn: &mut PgConnection, id: MessageId) -> Result<Vec<LogLine>> {
    let found: Vec<(i32, i64, String, String)> = load!(
        conn, Pg => rows::LogSql,
        concat!("SELECT attempt, ", micros!("logged_at"), ", level, line FROM taskmq_logs WHERE message_id = ? ORDER BY id"),
        BigInt = id,
    )?;
    Ok(found.into_iter().map(rows::log_line).collect())
}
