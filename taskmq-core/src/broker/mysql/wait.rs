//! Waiting on the server, which has no way to tell a client of new rows.

use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::json;
use crate::statement::load;
use crate::{MessageId, Result};

/// The newest message that there is.
pub(crate) fn newest(conn: &mut MysqlConnection) -> Result<MessageId> {
    let newest: Vec<i64> = load!(conn, Mysql => BigInt, "SELECT coalesce(max(id), 0) FROM taskmq_messages")?;
    Ok(newest.first().copied().unwrap_or_default())
}

/// Whether one of the messages newer than `seen` is of these topics.
pub(crate) fn has_newer(conn: &mut MysqlConnection, seen: MessageId, topics: &[&str]) -> Result<bool> {
    let found: Vec<i64> = load!(
        conn, Mysql => BigInt,
        "SELECT id FROM taskmq_messages WHERE id > ? AND json_contains(?, json_quote(topic)) ORDER BY id LIMIT 1",
        BigInt = seen,
        Text = json(topics)?,
    )?;
    Ok(!found.is_empty())
}

/// One statement of five seconds at most, which ends within 5 ms of the commit of a message newer than `seen`, and
/// says whether there is one. The locking read sees each commit, where a plain one would see what its statement began
/// with, and leaves alone what is not committed; as it depends on the tick, it is done anew at each. No longer than
/// that, for so long an ALTER TABLE waits for it, and everybody else for that.
pub(crate) fn wait_for_newer(conn: &mut MysqlConnection, seen: MessageId) -> Result<bool> {
    let found: Vec<i64> = load!(
        conn, Mysql => BigInt,
        "WITH RECURSIVE ticks (tick) AS (SELECT 1 UNION ALL SELECT tick + 1 FROM ticks WHERE tick < 1000)
         SELECT (SELECT m.id FROM taskmq_messages m WHERE m.id > ? + 0 * ticks.tick
                 ORDER BY m.id LIMIT 1 LOCK IN SHARE MODE SKIP LOCKED) AS found
         FROM ticks WHERE sleep(0.005) = 0 HAVING found IS NOT NULL LIMIT 1",
        BigInt = seen,
    )?;
    Ok(!found.is_empty())
}
