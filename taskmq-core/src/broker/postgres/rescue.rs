//! What a worker's death leaves: its messages are given back, and the one that killed it is found.

use diesel::connection::SimpleConnection;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text};

use super::cancels;
use super::claim::{self, ClaimedRow, ClaimedSql, claimed_row};
use crate::broker::reconcile::plan;
use crate::broker::{
    BatchId, Blame, Claimed, DEATH_IN_COMPANY, Leases, NEW_FAILURES, Peer, change, culprit, death_of, nobody,
};
use crate::statement::{execute, load};
use crate::{MessageId, Result};

/// Waits for a claim of a former connection that is still under way, and leases anew what is known but ready: claims do
/// not wait for the disk.
pub(super) fn reconcile(
    conn: &mut PgConnection,
    worker_id: i64,
    known: &[(MessageId, i32)],
) -> Result<Leases> {
    conn.transaction(|conn| {
        claim::claim_alone_from_now(conn)?;
        // Everybody waits for this lock, so no longer for a row that a handler is committing, or a session that stands still.
        conn.batch_execute("SET LOCAL lock_timeout = 1000")?;
        let single: Vec<(MessageId, i32)> = load!(
            conn, Pg => (BigInt, Integer),
            "SELECT id, attempts FROM taskmq_messages WHERE worker_id = ? AND worker_id <> 0 FOR UPDATE",
            BigInt = worker_id,
        )?;
        let batches: Vec<BatchId> = load!(
            conn, Pg => BigInt,
            "SELECT id FROM taskmq_claims WHERE worker_id = ? FOR UPDATE",
            BigInt = worker_id,
        )?;
        let members: Vec<(BatchId, MessageId, Option<i32>)> = load!(
            conn, Pg => (BigInt, BigInt, Nullable<Integer>),
            "SELECT c.id, member.id, (SELECT m.attempts + 1 FROM taskmq_messages m WHERE m.id = member.id)
             FROM taskmq_claims c CROSS JOIN LATERAL unnest(c.message_ids) member (id) WHERE c.worker_id = ?",
            BigInt = worker_id,
        )?;
        let plan = plan(known, single, batches, members);
        if !plan.back.is_empty() {
            execute!(
                conn, Pg,
                concat!("WITH company AS (UPDATE taskmq_workers SET alone_with = NULL WHERE id = ? AND alone_with = ANY(?))
                 UPDATE taskmq_messages SET attempts = attempts - 1, worker_id = ", nobody!(), " WHERE id = ANY(?)"),
                BigInt = worker_id,
                Array<BigInt> = &plan.back,
                Array<BigInt> = &plan.back,
            )?;
        }
        for (batch, ids) in &plan.release {
            claim::release(conn, worker_id, *batch, ids)?;
        }
        claim::end_batches(conn, worker_id, &plan.ends)?;
        let mut leases = plan.leases;
        let missing = leases.missing(known);
        if !missing.is_empty() {
            // A crash of the server took the claim back. Nobody else has it, so the handler that runs it need not run twice.
            let adopted: Vec<MessageId> = load!(
                conn, Pg => BigInt,
                "UPDATE taskmq_messages m SET worker_id = ?, attempts = m.attempts + 1, claimed_at = statement_timestamp()
                 FROM unnest(?, ?) known (id, attempt) WHERE m.id = known.id AND m.worker_id + 0 = 0 AND m.attempts = known.attempt - 1
                 AND m.id NOT IN (SELECT unnest(message_ids) FROM taskmq_claims) RETURNING m.id",
                BigInt = worker_id,
                Array<BigInt> = missing.iter().map(|lease| lease.0).collect::<Vec<MessageId>>(),
                Array<Integer> = missing.iter().map(|lease| lease.1).collect::<Vec<i32>>(),
            )?;
            leases.single.extend(adopted);
        }
        Ok(leases)
    })
}

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
        UPDATE taskmq_workers SET alone_with = CASE WHEN alone_with = 0 THEN 0 ELSE picked.id END FROM picked WHERE taskmq_workers.id = ?
     )
     UPDATE taskmq_messages m SET worker_id = ?, attempts = attempts + 1, claimed_at = statement_timestamp()
     FROM picked WHERE m.id = picked.id
     RETURNING m.id, m.topic, m.attempts, m.crashes, m.max_attempts, m.ordering_key, m.headers, m.payload, m.priority, m.run_at,
               statement_timestamp()",
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
         RETURNING m.id, m.topic, m.attempts, m.crashes, m.max_attempts, m.ordering_key, m.headers, m.payload, m.priority, m.run_at,
               statement_timestamp()",
        Array<Text> = topics,
        BigInt = worker_id,
        BigInt = limit,
        BigInt = worker_id,
    )?;
    Ok(claim::in_order(rows, topics))
}

/// Waits for no lock for longer than a moment: all other dead workers would wait, too.
pub(super) fn rescue(conn: &mut PgConnection, peer: &Peer) -> Result<usize> {
    conn.transaction(|conn| {
        conn.batch_execute("SET LOCAL lock_timeout = '1s'")?;
        if cancels::exist(conn)? {
            // Before the rows, as those have it who change messages.
            claim::exclude_batch_claims(conn)?;
        }
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
        let blame = Blame::of(alone_with);
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
        if let Some(culprit) = culprit(peer, blame, &held) {
            execute!(
                conn, Pg,
                "INSERT INTO taskmq_failures (message_id, attempt, kind, error, worker)
                 SELECT id, attempts + n, 'crash', CASE WHEN n < suspicions THEN ? ELSE ? END, CASE WHEN n < suspicions THEN 'unknown' ELSE ? END
                 FROM taskmq_messages CROSS JOIN LATERAL generate_series(0, suspicions) n WHERE id = ?",
                Text = DEATH_IN_COMPANY,
                Text = death_of(peer.id),
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
        if matches!(blame, Blame::Alone(_)) || peer.beat.is_none() {
            // They had not begun, or nobody died with them.
            execute!(
                conn, Pg,
                concat!("UPDATE taskmq_messages SET attempts = attempts - 1, worker_id = ", nobody!(), " WHERE worker_id = ? AND worker_id <> 0"),
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
        change::take_back(conn, &held)?;
        Ok(held.len())
    })
}

pub(super) fn explain_death(conn: &mut PgConnection, worker_id: i64, how: &str) -> Result<()> {
    let known = death_of(worker_id);
    execute!(
        conn,
        Pg,
        "UPDATE taskmq_failures SET error = ?
         WHERE id > (SELECT max(id) FROM taskmq_failures) - ? AND kind = 'crash' AND error = ?",
        Text = format!("{known}: {how}"),
        BigInt = NEW_FAILURES,
        Text = &known,
    )?;
    Ok(())
}
