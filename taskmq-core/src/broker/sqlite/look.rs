//! What a worker sees when it looks around.

use diesel::SqliteConnection;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::sqlite::Sqlite;

use super::json_list;
use crate::Result;
use crate::broker::{Look, Peer};
use crate::statement::load;

/// What is produced a change of the file tells; what becomes due tells itself only by the machine's clock, which may have
/// jumped, or have stood still while the machine slept.
pub(super) fn look(conn: &mut SqliteConnection, worker_id: i64, topics: &[&str]) -> Result<Look> {
    let topics = json_list(topics)?;
    let rows: Vec<(i64, Option<i64>, Option<String>)> = load!(
        conn, Sqlite => (BigInt, Nullable<BigInt>, Nullable<Text>),
        "SELECT id, beat, NULL FROM taskmq_workers
         UNION ALL
         SELECT worker_id, NULL, NULL FROM (
            SELECT worker_id FROM taskmq_messages WHERE worker_id <> 0 AND worker_id > 0
            UNION SELECT worker_id FROM taskmq_claims)
         WHERE worker_id NOT IN (SELECT id FROM taskmq_workers)
         UNION ALL
         SELECT 0, NULL, topic FROM taskmq_paused
         UNION ALL
         SELECT -4, NULL, topic FROM taskmq_limits
         UNION ALL
         SELECT aside.column1, NULL, NULL FROM (VALUES (-1), (-2)) aside WHERE EXISTS (
            SELECT 1 FROM taskmq_messages m WHERE m.worker_id = aside.column1 AND m.worker_id <> 0
            AND m.run_at <= strftime('%Y-%m-%d %H:%M:%f', 'now') AND m.topic IN (SELECT value FROM json_each(?) EXCEPT SELECT topic FROM taskmq_paused))
         UNION ALL
         SELECT 0, NULL, NULL WHERE EXISTS (
            WITH RECURSIVE lane (topic, priority) AS (
                SELECT value, (SELECT max(m.priority) FROM taskmq_messages m INDEXED BY taskmq_messages_ready
                               WHERE m.worker_id = 0 AND m.topic = value)
                FROM json_each(?) WHERE value NOT IN (SELECT topic FROM taskmq_paused)
                UNION ALL
                SELECT topic, (SELECT max(m.priority) FROM taskmq_messages m INDEXED BY taskmq_messages_ready
                               WHERE m.worker_id = 0 AND m.topic = lane.topic AND m.priority < lane.priority)
                FROM lane WHERE priority IS NOT NULL
            )
            SELECT 1 FROM lane WHERE priority IS NOT NULL AND (
                SELECT min(m.run_at) FROM taskmq_messages m INDEXED BY taskmq_messages_ready
                WHERE m.worker_id = 0 AND m.topic = lane.topic AND m.priority = lane.priority
            ) <= strftime('%Y-%m-%d %H:%M:%f', 'now'))
         UNION ALL
         SELECT -3, coalesce(wait, 0), NULL FROM (
            SELECT CAST((julianday(next_at) - julianday('now')) * 86400000000 AS INTEGER) AS wait FROM taskmq_schedules
            WHERE NOT paused AND (declared_by IS NULL OR topic IN (SELECT value FROM json_each(?)))
            ORDER BY next_at LIMIT 1)
         UNION ALL
         SELECT -10, c.message_id, NULL FROM taskmq_cancels c CROSS JOIN taskmq_messages m NOT INDEXED ON m.id = c.message_id WHERE m.worker_id = ?
         UNION ALL
         SELECT -11, c.message_id, NULL FROM (
            SELECT c.message_id FROM taskmq_cancels c LEFT JOIN taskmq_messages m NOT INDEXED ON m.id = c.message_id
            WHERE m.id IS NULL OR m.worker_id <= 0 ORDER BY c.message_id LIMIT 1000) c
         UNION ALL
         SELECT -9, NULL, NULL FROM taskmq_workers WHERE id = ? AND draining",
        Text = &topics,
        Text = &topics,
        Text = &topics,
        BigInt = worker_id,
        BigInt = worker_id,
    )?;
    let rows = rows.into_iter().map(|(id, beat, paused)| (Peer { id, beat, lock_free: None }, paused));
    Ok(crate::broker::look(worker_id, rows))
}
