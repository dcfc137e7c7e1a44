//! What a worker's death leaves: its messages are given back, and the one that killed it is found.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, Text};

use super::claim::{self, ClaimedRow, ClaimedSql, claimed_row};
use crate::broker::{BatchId, Claimed, Peer, culprit};
use crate::statement::{execute, load};
use crate::{MessageId, Result};

pub(super) fn claim_alone(
    conn: &mut PgConnection,
    worker_id: i64,
    topics: &[&str],
) -> Result<Option<Claimed>> {
    let rows: Vec<ClaimedRow> = load!(
        conn, Pg => ClaimedSql,
        "WITH picked AS MATERIALIZED (
        SELECT id FROM taskmq_messages
        WHERE worker_id = -1 AND worker_id <> 0 AND topic = ANY(?) AND run_at <= statement_timestamp()
        AND EXISTS (SELECT 1 FROM taskmq_workers WHERE id = ?)
        ORDER BY priority DESC, run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
     ), noted AS (
        UPDATE taskmq_workers SET alone_with = picked.id FROM picked WHERE taskmq_workers.id = ?
     )
     UPDATE taskmq_messages m SET worker_id = ?, attempts = attempts + 1, claimed_at = statement_timestamp()
     FROM picked WHERE m.id = picked.id
     RETURNING m.id, m.topic, m.attempts, m.crashes, m.max_attempts, m.headers::text, m.payload::text, m.priority, m.run_at",
        Array<Text> = topics,
        BigInt = worker_id,
        BigInt = worker_id,
        BigInt = worker_id,
    )?;
    Ok(rows.into_iter().map(claimed_row).next())
}

pub(super) fn claim_suspects(
    conn: &mut PgConnection,
    worker_id: i64,
    topics: &[&str],
    limit: i64,
) -> Result<Vec<Claimed>> {
    let rows: Vec<ClaimedRow> = load!(
        conn, Pg => ClaimedSql,
        "WITH picked AS MATERIALIZED (
            SELECT id FROM taskmq_messages
            WHERE worker_id = -2 AND worker_id <> 0 AND topic = ANY(?) AND run_at <= statement_timestamp()
            AND EXISTS (SELECT 1 FROM taskmq_workers WHERE id = ?)
            ORDER BY priority DESC, run_at, id LIMIT ? FOR UPDATE SKIP LOCKED
         )
         UPDATE taskmq_messages m SET worker_id = ?, attempts = attempts + 1, claimed_at = statement_timestamp()
         WHERE m.id = ANY(ARRAY(SELECT id FROM picked))
         RETURNING m.id, m.topic, m.attempts, m.crashes, m.max_attempts, m.headers::text, m.payload::text, m.priority, m.run_at",
        Array<Text> = topics,
        BigInt = worker_id,
        BigInt = limit,
        BigInt = worker_id,
    )?;
    Ok(claim::in_order(rows, topics))
}

pub(super) fn rescue(conn: &mut PgConnection, peer: &Peer) -> Result<usize> {
    conn.transaction(|conn| {
        let dead: Vec<(Option<i64>, String)> = load!(
            conn, Pg => (Nullable<BigInt>, Text),
            "DELETE FROM taskmq_workers WHERE id = ? AND beat = ? RETURNING alone_with, host || ':' || pid",
            BigInt = peer.id,
            BigInt = peer.beat.unwrap_or_default(),
        )?;
        if dead.is_empty() && peer.beat.is_some() {
            return Ok(0); // it moved after all, or another worker was faster
        }
        let (alone_with, label) = dead.into_iter().next().unwrap_or((None, "unknown".to_owned()));
        let batches: Vec<(BatchId, Vec<MessageId>)> = load!(
            conn, Pg => (BigInt, Array<BigInt>),
            "SELECT id, message_ids FROM taskmq_claims WHERE worker_id = ? FOR UPDATE",
            BigInt = peer.id,
        )?;
        for (batch, ids) in batches {
            claim::promote(conn, peer.id, batch, &ids)?;
            claim::end_batches(conn, peer.id, &[batch])?;
        }
        let held: Vec<i64> = load!(
            conn, Pg => BigInt,
            "SELECT id FROM taskmq_messages WHERE worker_id = ? AND worker_id <> 0 FOR UPDATE",
            BigInt = peer.id,
        )?;
        if let Some(culprit) = culprit(alone_with, &held) {
            execute!(
                conn, Pg,
                "INSERT INTO taskmq_failures (message_id, attempt, kind, error, worker)
                 SELECT id, attempts + suspicions, 'crash', 'the worker process died while it ran this message', ?
                 FROM taskmq_messages WHERE id = ?",
                Text = &label,
                BigInt = culprit,
            )?;
            execute!(
                conn, Pg,
                "UPDATE taskmq_messages SET worker_id = CASE WHEN crashes + suspicions >= 1 THEN -1 ELSE -2 END,
                 attempts = attempts + suspicions, crashes = crashes + 1 + suspicions, suspicions = 0 WHERE id = ?",
                BigInt = culprit,
            )?;
        }
        if alone_with.is_some() {
            // The others that it held had not begun.
            execute!(
                conn, Pg,
                "UPDATE taskmq_messages SET worker_id = 0, attempts = attempts - 1 WHERE worker_id = ? AND worker_id <> 0",
                BigInt = peer.id,
            )?;
        } else {
            execute!(
                conn, Pg,
                "UPDATE taskmq_messages SET worker_id = CASE WHEN crashes + suspicions >= 1 THEN -1 ELSE -2 END,
                 attempts = attempts - 1, suspicions = suspicions + 1 WHERE worker_id = ? AND worker_id <> 0",
                BigInt = peer.id,
            )?;
        }
        Ok(held.len())
    })
}
