//! What a worker asks each second.

use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, SmallInt, Text};

use super::claim::next_lane;
use super::json;
use crate::broker::{self, Look, Peer};
use crate::statement::load;
use crate::{MessageId, Result};

/// A worker's id, counter and free lock; or a topic that is paused or limited; or a topic's highest priority, and whether a
/// message of it is due.
type LookRow = (i64, Option<i64>, Option<i32>, Option<String>);

const HIGHEST: i64 = -5;

/// The lanes are a recursion that ends at once: MariaDB forgets what a JSON table is of when a statement is executed again and the
/// table stands in another subquery.
pub(super) fn look(conn: &mut MysqlConnection, worker_id: i64, topics: &[&str]) -> Result<Look> {
    let topics = json(topics)?;
    let rows: Vec<LookRow> = load!(
        conn, Mysql => (BigInt, Nullable<BigInt>, Nullable<Integer>, Nullable<Text>),
        "WITH RECURSIVE lane AS (
            SELECT t.topic, (SELECT m.priority FROM taskmq_messages m FORCE INDEX (taskmq_messages_ready)
                             WHERE m.worker_id = 0 AND m.topic = t.topic ORDER BY m.priority DESC LIMIT 1) AS priority
            FROM JSON_TABLE(?, '$[*]' COLUMNS (topic VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin PATH '$')) t
            WHERE t.topic NOT IN (SELECT topic FROM taskmq_paused)
            UNION ALL
            SELECT l.topic, l.priority FROM lane l WHERE FALSE
         )
         SELECT id, beat, IF(locked, IS_FREE_LOCK(CONCAT('taskmq:', id)), NULL), CAST(NULL AS CHAR) FROM taskmq_workers
         UNION ALL
         SELECT held.worker_id, CAST(NULL AS SIGNED), CAST(NULL AS SIGNED), NULL FROM (
            SELECT worker_id FROM taskmq_messages FORCE INDEX (taskmq_messages_ready) WHERE worker_id > 0 UNION SELECT worker_id FROM taskmq_claims) held
         LEFT JOIN taskmq_workers w ON w.id = held.worker_id WHERE w.id IS NULL
         UNION ALL
         SELECT 0, NULL, NULL, topic FROM taskmq_paused
         UNION ALL
         SELECT -4, NULL, NULL, topic FROM taskmq_limits
         UNION ALL
         SELECT DISTINCT m.worker_id, NULL, NULL, NULL FROM taskmq_messages m FORCE INDEX (taskmq_messages_ready)
         WHERE m.worker_id IN (-1, -2) AND m.run_at <= CURRENT_TIMESTAMP(6) AND m.topic IN (SELECT topic FROM lane)
         UNION ALL
         SELECT -5, l.priority, (SELECT m.run_at FROM taskmq_messages m FORCE INDEX (taskmq_messages_ready)
            WHERE m.worker_id = 0 AND m.topic = l.topic AND m.priority = l.priority ORDER BY m.run_at LIMIT 1) <= CURRENT_TIMESTAMP(6), l.topic
         FROM lane l WHERE l.priority IS NOT NULL
         UNION ALL
         SELECT -3, coalesce(TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), tick.next_at), 0), NULL, NULL FROM (
            SELECT next_at FROM taskmq_schedules WHERE paused = FALSE AND (declared_by IS NULL OR topic IN (
                SELECT topic FROM JSON_TABLE(?, '$[*]' COLUMNS (topic VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin PATH '$')) t))
            ORDER BY next_at LIMIT 1) tick
         UNION ALL
         SELECT -10, c.message_id, NULL, NULL FROM taskmq_cancels c STRAIGHT_JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = c.message_id WHERE m.worker_id = ?
         UNION ALL
         SELECT -11, c.message_id, NULL, NULL FROM (
            SELECT c.message_id FROM taskmq_cancels c LEFT JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = c.message_id
            WHERE m.id IS NULL OR m.worker_id <= 0 ORDER BY c.message_id LIMIT 1000) c
         UNION ALL
         SELECT -9, NULL, NULL, NULL FROM taskmq_workers WHERE id = ? AND draining",
        Text = &topics,
        Text = &topics,
        BigInt = worker_id,
        BigInt = worker_id,
    )?;
    let (lanes, rows): (Vec<LookRow>, Vec<LookRow>) = rows.into_iter().partition(|row| row.0 == HIGHEST);
    let peer = |id, beat, free: Option<i32>| Peer { id, beat, lock_free: free.map(|free| free == 1) };
    let rows = rows.into_iter().map(|(id, beat, free, paused)| (peer(id, beat, free), paused));
    let mut look = broker::look(worker_id, rows);
    look.due = lanes.iter().any(|(_, _, due, _)| *due == Some(1));
    for (_, priority, _, topic) in lanes {
        if let (false, Some(priority), Some(topic)) = (look.due, priority, topic) {
            look.due = is_due_below(conn, &topic, i32::try_from(priority).unwrap_or_default())?;
        }
    }
    Ok(look)
}

/// Whether a lane below this one has a message that is due. A statement for each: within one, a subquery that depends on the
/// last lane would read the index from the topic's end, message by message, to find the next.
fn is_due_below(conn: &mut MysqlConnection, topic: &str, priority: i32) -> Result<bool> {
    let mut lane = next_lane(conn, topic, priority)?;
    while let Some(priority) = lane {
        let due: Vec<MessageId> = load!(
            conn, Mysql => BigInt,
            "SELECT id FROM taskmq_messages FORCE INDEX (taskmq_messages_ready)
             WHERE worker_id = 0 AND topic = ? AND priority = ? AND run_at <= CURRENT_TIMESTAMP(6) LIMIT 1",
            Text = topic,
            SmallInt = priority,
        )?;
        if !due.is_empty() {
            return Ok(true);
        }
        lane = next_lane(conn, topic, i32::from(priority))?;
    }
    Ok(false)
}
