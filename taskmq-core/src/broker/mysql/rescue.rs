//! What a worker's death leaves: its messages are given back, and the one that killed it is found.

use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

use super::claim::{
    ClaimedRow, ClaimedSql, batches_of, claim_lock, claimed_row, end_batches, lease, lock_batches,
    promote_in, worker_exists,
};
use super::{json, transaction};
use crate::Result;
use crate::broker::{Claimed, Peer, culprit};
use crate::statement::{execute, load};

pub(super) fn claim_alone(
    conn: &mut MysqlConnection,
    worker_id: i64,
    topics: &[&str],
) -> Result<Option<Claimed>> {
    let topics = json(topics)?;
    transaction(conn, |conn| {
        let rows: Vec<ClaimedRow> = load!(
            conn, Mysql => ClaimedSql,
            "SELECT id, topic, attempts, crashes, max_attempts, headers, payload
             FROM taskmq_messages FORCE INDEX (taskmq_messages_ready)
             WHERE worker_id = -1 AND JSON_CONTAINS(?, JSON_QUOTE(topic)) AND run_at <= CURRENT_TIMESTAMP(6)
             ORDER BY priority DESC, run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED",
            Text = &topics,
        )?;
        let claimed: Vec<Claimed> = rows.into_iter().map(claimed_row).collect();
        let Some(first) = claimed.first() else { return Ok(None) };
        let noted = execute!(
            conn,
            Mysql,
            "UPDATE taskmq_workers SET alone_with = ? WHERE id = ?",
            BigInt = first.id,
            BigInt = worker_id,
        )?;
        if noted == 0 {
            return Ok(None);
        }
        Ok(lease(conn, worker_id, claimed)?.into_iter().next())
    })
}

pub(super) fn claim_suspects(
    conn: &mut MysqlConnection,
    worker_id: i64,
    topics: &[&str],
    limit: i64,
) -> Result<Vec<Claimed>> {
    let topics = json(topics)?;
    transaction(conn, |conn| {
        // Not by locks on the rows: a locking read that sorts locks all that it reads, and others would find none.
        claim_lock(conn, true)?;
        if !worker_exists(conn, worker_id)? {
            return Ok(Vec::new());
        }
        let rows: Vec<ClaimedRow> = load!(
            conn, Mysql => ClaimedSql,
            "SELECT id, topic, attempts, crashes, max_attempts, headers, payload
             FROM taskmq_messages FORCE INDEX (taskmq_messages_ready)
             WHERE worker_id = -2 AND JSON_CONTAINS(?, JSON_QUOTE(topic)) AND run_at <= CURRENT_TIMESTAMP(6)
             ORDER BY priority DESC, run_at, id LIMIT ?",
            Text = &topics,
            BigInt = limit,
        )?;
        lease(conn, worker_id, rows.into_iter().map(claimed_row).collect())
    })
}

pub(super) fn rescue(conn: &mut MysqlConnection, peer: &Peer) -> Result<usize> {
    transaction(conn, |conn| {
        let dead: Vec<(Option<i64>, String)> = load!(
            conn, Mysql => (Nullable<BigInt>, Text),
            "SELECT alone_with, CONCAT(host, ':', pid) FROM taskmq_workers WHERE id = ? AND beat = ? FOR UPDATE",
            BigInt = peer.id,
            BigInt = peer.beat.unwrap_or_default(),
        )?;
        if dead.is_empty() && peer.beat.is_some() {
            return Ok(0); // it moved after all, or another worker was faster
        }
        execute!(conn, Mysql, "DELETE FROM taskmq_workers WHERE id = ?", BigInt = peer.id)?;
        let (alone_with, label) = dead.into_iter().next().unwrap_or((None, "unknown".to_owned()));
        let batches = batches_of(conn, peer.id)?;
        for (batch, ids) in lock_batches(conn, peer.id, &batches)? {
            promote_in(conn, peer.id, batch, &ids)?;
            end_batches(conn, &[batch])?;
        }
        let held: Vec<i64> = load!(
            conn, Mysql => BigInt,
            "SELECT id FROM taskmq_messages WHERE worker_id = ? FOR UPDATE",
            BigInt = peer.id,
        )?;
        if let Some(culprit) = culprit(alone_with, &held) {
            execute!(
                conn, Mysql,
                "INSERT INTO taskmq_failures (message_id, attempt, kind, error, worker)
                 SELECT id, attempts + suspicions, 'crash', 'the worker process died while it ran this message', ?
                 FROM taskmq_messages WHERE id = ?",
                Text = &label,
                BigInt = culprit,
            )?;
            // Assignments take effect from left to right here, so each reads only what stands to its right.
            execute!(
                conn, Mysql,
                "UPDATE taskmq_messages SET worker_id = CASE WHEN crashes + suspicions >= 1 THEN -1 ELSE -2 END,
                 attempts = attempts + suspicions, crashes = crashes + 1 + suspicions, suspicions = 0 WHERE id = ?",
                BigInt = culprit,
            )?;
        }
        if alone_with.is_some() {
            // The others that it held had not begun.
            execute!(
                conn,
                Mysql,
                "UPDATE taskmq_messages SET worker_id = 0, attempts = attempts - 1 WHERE worker_id = ?",
                BigInt = peer.id,
            )?;
        } else {
            execute!(
                conn, Mysql,
                "UPDATE taskmq_messages SET worker_id = CASE WHEN crashes + suspicions >= 1 THEN -1 ELSE -2 END,
                 attempts = attempts - 1, suspicions = suspicions + 1 WHERE worker_id = ?",
                BigInt = peer.id,
            )?;
        }
        Ok(held.len())
    })
}
