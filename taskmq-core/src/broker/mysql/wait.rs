//! Waiting on the server, which has no way to tell a client of new rows.

use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::result::Error::DatabaseError;
use diesel::sql_types::{BigInt, Text};

use super::json;
use crate::statement::{execute, load};
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

/// One request that takes the server ten seconds at most, or ends within 5 ms of the commit of a message newer than `seen`,
/// and says whether there is one. Each look is a statement of its own and sees what was committed before it. It takes no locks:
/// a locking read goes past a locked row with a lock that it keeps to its end, and thousands of rows may be locked and each
/// looked at a thousand times; a server has run out of memory. Where deleted rows have not been purged yet a look is long, and
/// so are the pauses then: many workers that look all the time would keep the server from purging them. A clock that is set back
/// ends it too.
pub(crate) fn wait_for_newer(conn: &mut MysqlConnection, seen: MessageId) -> Result<bool> {
    // It gives no rows, which only a second statement could ask for; that there is one it says as an error.
    let waited = execute!(
        conn,
        Mysql,
        "BEGIN NOT ATOMIC
            DECLARE newer BIGINT DEFAULT NULL;
            DECLARE looked TIMESTAMP(6) DEFAULT SYSDATE(6);
            DECLARE began TIMESTAMP(6) DEFAULT looked;
            DECLARE pause DOUBLE DEFAULT 0.005;
            WHILE looked BETWEEN began AND began + INTERVAL 10 SECOND DO
                DO SLEEP(pause);
                SET looked = SYSDATE(6);
                SELECT id INTO newer FROM taskmq_messages WHERE id > ? ORDER BY id LIMIT 1;
                IF newer IS NOT NULL THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'taskmq: newer'; END IF;
                SET pause = LEAST(0.5, GREATEST(0.005, TIMESTAMPDIFF(MICROSECOND, looked, SYSDATE(6)) * 32e-6));
            END WHILE;
         END",
        BigInt = seen,
    );
    match waited {
        Ok(_) => Ok(false),
        Err(DatabaseError(_, info)) if info.message() == "taskmq: newer" => Ok(true),
        Err(error) => Err(error.into()),
    }
}
