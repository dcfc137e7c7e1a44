//! Messages that share an ordering key run one at a time. The write lock is held, so nobody else decides at once.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Text};
use diesel::sqlite::Sqlite;

use super::json_list;
use crate::broker::Claimed;
use crate::statement::{execute, load};
use crate::{MessageId, Result};

/// Leases those of these due messages, which come in order, whose turn it is; the others join the lines of their keys.
pub(super) fn take_turns(
    conn: &mut SqliteConnection,
    worker_id: i64,
    met: Vec<Claimed>,
) -> Result<Vec<Claimed>> {
    let mut in_turn = Vec::new();
    for message in met {
        let Some(key) = &message.ordering_key else { continue };
        let turns: Vec<(i64, MessageId)> = load!(
            conn, Sqlite => (BigInt, BigInt),
            "INSERT INTO taskmq_turns (topic, ordering_key, message_id) VALUES (?, ?, ?)
             ON CONFLICT (topic, ordering_key) DO UPDATE SET message_id = message_id RETURNING id, message_id",
            Text = &message.topic,
            Text = key,
            BigInt = message.id,
        )?;
        for (turn, whose) in turns {
            if whose == message.id {
                execute!(
                    conn,
                    Sqlite,
                    concat!(
                        "UPDATE taskmq_messages SET worker_id = ?, attempts = ?, claimed_at = ",
                        now!(),
                        " WHERE id = ?"
                    ),
                    BigInt = worker_id,
                    Integer = message.attempt,
                    BigInt = message.id,
                )?;
                in_turn.push(message.clone());
            } else {
                execute!(
                    conn,
                    Sqlite,
                    "UPDATE taskmq_messages SET worker_id = -2 - ?, attempts = ? - 1, claimed_at = NULL WHERE id = ?",
                    BigInt = turn,
                    Integer = message.attempt,
                    BigInt = message.id,
                )?;
            }
        }
    }
    Ok(in_turn)
}

/// These messages live no more. If it was their turn, it is that of the next in line now.
pub(super) fn pass_turns(conn: &mut SqliteConnection, ended: &[MessageId]) -> Result<()> {
    if ended.is_empty() {
        return Ok(());
    }
    let turns: Vec<i64> = load!(
        conn, Sqlite => BigInt,
        "SELECT id FROM taskmq_turns WHERE message_id IN (SELECT value FROM json_each(?))",
        Text = json_list(ended)?,
    )?;
    for turn in turns {
        let next: Vec<MessageId> = load!(
            conn, Sqlite => BigInt,
            "SELECT id FROM taskmq_messages WHERE worker_id = -2 - ? AND worker_id < -2
             ORDER BY priority DESC, run_at, id LIMIT 1",
            BigInt = turn,
        )?;
        match next.first() {
            Some(next) => {
                execute!(
                    conn,
                    Sqlite,
                    "UPDATE taskmq_messages SET worker_id = 0 WHERE id = ?",
                    BigInt = *next
                )?;
                execute!(
                    conn,
                    Sqlite,
                    "UPDATE taskmq_turns SET message_id = ? WHERE id = ?",
                    BigInt = *next,
                    BigInt = turn,
                )?;
            }
            None => {
                execute!(conn, Sqlite, "DELETE FROM taskmq_turns WHERE id = ?", BigInt = turn)?;
            }
        }
    }
    Ok(())
}

/// Whether there is anything to mend. An idle worker must not take the write lock to find that there is nothing.
pub(super) fn are_lines_broken(conn: &mut SqliteConnection) -> Result<bool> {
    let broken: Vec<i64> = load!(
        conn, Sqlite => BigInt,
        "SELECT t.id FROM taskmq_turns t WHERE NOT EXISTS (SELECT 1 FROM taskmq_messages m WHERE m.id = t.message_id)
         UNION ALL
         SELECT m.id FROM taskmq_messages m
         WHERE m.worker_id < -2 AND NOT EXISTS (SELECT 1 FROM taskmq_turns t WHERE t.id = -2 - m.worker_id)
         LIMIT 1"
    )?;
    Ok(!broken.is_empty())
}

/// Nobody but a person with SQL leaves a turn to a message that is gone, or a line to no turn.
pub(super) fn mend_lines(conn: &mut SqliteConnection) -> Result<usize> {
    let gone: Vec<MessageId> = load!(
        conn, Sqlite => BigInt,
        "SELECT message_id FROM taskmq_turns WHERE message_id NOT IN (SELECT id FROM taskmq_messages)"
    )?;
    pass_turns(conn, &gone)?;
    let strays = execute!(
        conn,
        Sqlite,
        "UPDATE taskmq_messages SET worker_id = 0
         WHERE worker_id < -2 AND NOT EXISTS (SELECT 1 FROM taskmq_turns t WHERE t.id = -2 - worker_id)"
    )?;
    Ok(gone.len() + strays)
}
