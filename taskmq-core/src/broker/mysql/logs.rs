//! What handlers logged.

use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::json;
use crate::broker::{Settlement, logs, rows};
use crate::message::LogLine;
use crate::statement::{execute, load};
use crate::{MessageId, Result};

/// Writes what was logged in attempts whose end has just been written.
pub(super) fn write<'a>(
    conn: &mut MysqlConnection,
    written: impl Iterator<Item = &'a Settlement> + Clone,
) -> Result<()> {
    logs::write(conn, written, |conn, ids| delete(conn, &json(ids)?), insert)
}

fn insert(conn: &mut MysqlConnection, lines: &str) -> Result<()> {
    execute!(
        conn, Mysql,
        "INSERT INTO taskmq_logs (message_id, attempt, logged_at, level, line)
         SELECT id, attempt, CURRENT_TIMESTAMP(6) - INTERVAL ago MICROSECOND, level, line
         FROM JSON_TABLE(?, '$[*]' COLUMNS (number FOR ORDINALITY, id BIGINT PATH '$[0]', attempt INTEGER PATH '$[1]',
            ago BIGINT PATH '$[2]', level VARCHAR(5) CHARACTER SET ascii PATH '$[3]',
            line LONGTEXT CHARACTER SET utf8mb4 PATH '$[4]')) s
         ORDER BY number",
        Text = lines,
    )?;
    Ok(())
}

/// Of the messages in this list.
pub(super) fn delete(conn: &mut MysqlConnection, ids: &str) -> Result<()> {
    execute!(
        conn,
        Mysql,
        "DELETE l FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) gone
         STRAIGHT_JOIN taskmq_logs l FORCE INDEX (taskmq_logs_message) ON l.message_id = gone.id",
        Text = ids,
    )?;
    Ok(())
}

pub(super) fn of(conn: &mut MysqlConnection, id: MessageId) -> Result<Vec<LogLine>> {
    let found: Vec<(i32, i64, String, String)> = load!(
        conn, Mysql => rows::LogSql,
        concat!("SELECT attempt, ", micros!("logged_at"), ", level, line FROM taskmq_logs WHERE message_id = ? ORDER BY id"),
        BigInt = id,
    )?;
    Ok(found.into_iter().map(rows::log_line).collect())
}
