//! What a worker's death leaves: its messages are given back, and the one that killed it is found.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::sqlite::Sqlite;

use super::claim::{
    ClaimedRow, ClaimedSql, claimed_row, claims_of, end_batches, in_order, promote_in, worker_exists,
};
use super::json_list;
use crate::Result;
use crate::broker::{Claimed, Peer, culprit};
use crate::statement::{execute, load};

pub(super) fn claim_alone(
    conn: &mut SqliteConnection,
    worker_id: i64,
    topics: &[&str],
) -> Result<Option<Claimed>> {
    let topics = json_list(topics)?;
    let find = |conn: &mut SqliteConnection| -> Result<Option<i64>> {
        let ids: Vec<i64> = load!(
            conn, Sqlite => BigInt,
            concat!("SELECT id FROM taskmq_messages WHERE worker_id = -1 AND worker_id <> 0
             AND topic IN (SELECT value FROM json_each(?)) AND run_at <= ", now!(), "
             ORDER BY priority DESC, run_at, id LIMIT 1"),
            Text = &topics,
        )?;
        Ok(ids.first().copied())
    };
    // Without the write lock first: an idle worker asks this again and again.
    if find(conn)?.is_none() {
        return Ok(None);
    }
    conn.immediate_transaction(|conn| {
        let Some(id) = find(conn)? else { return Ok(None) };
        if !worker_exists(conn, worker_id)? {
            return Ok(None);
        }
        execute!(conn, Sqlite, "UPDATE taskmq_workers SET alone_with = ? WHERE id = ?", BigInt = id, BigInt = worker_id)?;
        let rows: Vec<ClaimedRow> = load!(
            conn, Sqlite => ClaimedSql,
            concat!("UPDATE taskmq_messages SET worker_id = ?, attempts = attempts + 1, claimed_at = ", now!(), "
             WHERE id = ? RETURNING id, topic, attempts, crashes, max_attempts, headers, payload, run_at"),
            BigInt = worker_id,
            BigInt = id,
        )?;
        Ok(rows.into_iter().map(claimed_row).next())
    })
}

pub(super) fn claim_suspects(
    conn: &mut SqliteConnection,
    worker_id: i64,
    topics: &[&str],
    limit: i64,
) -> Result<Vec<Claimed>> {
    let topics = json_list(topics)?;
    conn.immediate_transaction(|conn| {
        if !worker_exists(conn, worker_id)? {
            return Ok(Vec::new());
        }
        let rows: Vec<ClaimedRow> = load!(
            conn, Sqlite => ClaimedSql,
            concat!("UPDATE taskmq_messages SET worker_id = ?, attempts = attempts + 1, claimed_at = ", now!(), "
             WHERE id IN (SELECT id FROM taskmq_messages WHERE worker_id = -2 AND worker_id <> 0
                          AND topic IN (SELECT value FROM json_each(?)) AND run_at <= ", now!(), "
                          ORDER BY priority DESC, run_at, id LIMIT ?)
             RETURNING id, topic, attempts, crashes, max_attempts, headers, payload, run_at"),
            BigInt = worker_id,
            Text = &topics,
            BigInt = limit,
        )?;
        Ok(in_order(rows))
    })
}

pub(super) fn rescue(conn: &mut SqliteConnection, peer: &Peer) -> Result<usize> {
    conn.immediate_transaction(|conn| {
        let dead: Vec<(Option<i64>, String)> = load!(
            conn, Sqlite => (Nullable<BigInt>, Text),
            "DELETE FROM taskmq_workers WHERE id = ? AND beat = ? RETURNING alone_with, host || ':' || pid",
            BigInt = peer.id,
            BigInt = peer.beat.unwrap_or_default(),
        )?;
        if dead.is_empty() && peer.beat.is_some() {
            return Ok(0); // it moved after all, or another worker was faster
        }
        let (alone_with, label) = dead.into_iter().next().unwrap_or((None, "unknown".to_owned()));
        for (batch, ids) in claims_of(conn, peer.id)? {
            promote_in(conn, peer.id, batch, &ids)?;
            end_batches(conn, peer.id, &[batch])?;
        }
        let held: Vec<i64> = load!(
            conn, Sqlite => BigInt,
            "SELECT id FROM taskmq_messages WHERE worker_id = ? AND worker_id <> 0",
            BigInt = peer.id,
        )?;
        if let Some(culprit) = culprit(alone_with, &held) {
            execute!(
                conn, Sqlite,
                "INSERT INTO taskmq_failures (message_id, attempt, kind, error, worker)
                 SELECT id, attempts + suspicions, 'crash', 'the worker process died while it ran this message', ?
                 FROM taskmq_messages WHERE id = ? AND worker_id = ?",
                Text = &label,
                BigInt = culprit,
                BigInt = peer.id,
            )?;
            execute!(
                conn, Sqlite,
                "UPDATE taskmq_messages SET worker_id = CASE WHEN crashes + suspicions >= 1 THEN -1 ELSE -2 END,
                 attempts = attempts + suspicions, crashes = crashes + 1 + suspicions, suspicions = 0
                 WHERE id = ? AND worker_id = ?",
                BigInt = culprit,
                BigInt = peer.id,
            )?;
        }
        if alone_with.is_some() {
            // The others that it held had not begun.
            execute!(
                conn, Sqlite,
                "UPDATE taskmq_messages SET worker_id = 0, attempts = attempts - 1 WHERE worker_id = ? AND worker_id <> 0",
                BigInt = peer.id,
            )?;
        } else {
            execute!(
                conn, Sqlite,
                "UPDATE taskmq_messages SET worker_id = CASE WHEN crashes + suspicions >= 1 THEN -1 ELSE -2 END,
                 attempts = attempts - 1, suspicions = suspicions + 1 WHERE worker_id = ? AND worker_id <> 0",
                BigInt = peer.id,
            )?;
        }
        Ok(held.len())
    })
}
