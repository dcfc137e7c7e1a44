//! Waiting on the server, which has no way to tell a client of new rows.

use diesel::connection::SimpleConnection;
use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

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

/// One request that takes the server five seconds at most, or ends within 5 ms of the commit of a message newer than `seen`,
/// and says whether there is one. Each look is a statement of its own and sees what was committed before it. It takes no locks:
/// a locking read goes past a locked row with a lock that it keeps to its end, and thousands of rows may be locked and each
/// looked at a thousand times; a server has run out of memory. Where deleted rows have not been purged yet a look is long, and
/// so are the pauses then: many workers that look all the time would keep the server from purging them.
pub(crate) fn wait_for_newer(conn: &mut MysqlConnection, seen: MessageId) -> Result<bool> {
    conn.batch_execute(&format!(
        "BEGIN NOT ATOMIC
            DECLARE looked TIMESTAMP(6) DEFAULT SYSDATE(6);
            DECLARE ends TIMESTAMP(6) DEFAULT looked + INTERVAL 5 SECOND;
            DECLARE pause DOUBLE DEFAULT 0.005;
            SET @taskmq_newer = NULL;
            WHILE @taskmq_newer IS NULL AND looked < ends DO
                DO SLEEP(pause);
                SET looked = SYSDATE(6);
                SELECT id INTO @taskmq_newer FROM taskmq_messages WHERE id > {seen} ORDER BY id LIMIT 1;
                SET pause = LEAST(0.5, GREATEST(0.005, TIMESTAMPDIFF(MICROSECOND, looked, SYSDATE(6)) * 32e-6));
            END WHILE;
         END"
    ))?;
    let found: Vec<Option<i64>> =
        load!(conn, Mysql => Nullable<BigInt>, "SELECT CAST(@taskmq_newer AS SIGNED)")?;
    Ok(found.first().is_some_and(Option::is_some))
}
