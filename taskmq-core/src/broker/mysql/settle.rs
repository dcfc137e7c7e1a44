//! Ending attempts. Every write checks the lease.

use std::collections::{HashMap, HashSet};

use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use serde::Serialize;

use super::claim::{end_batches, lock_batches, promote_in, release};
use super::turns::pass_turns;
use super::{json, logs, payloads};
use crate::broker::groups::Groups;
use crate::broker::workflows::advance;
use crate::broker::{BatchId, Outcome, Settlement, WorkerIdentity, nobody};
use crate::statement::{execute, load};
use crate::{MessageId, Result, Retention};

/// What a statement needs of a settlement, as a row of a JSON table.
#[derive(Serialize)]
pub(super) struct Lease<'a> {
    id: MessageId,
    attempt: i32,
    batch: Option<BatchId>,
    result: Option<&'a str>,
    keep: Option<i64>,
}

pub(super) fn leases<'a>(settlements: impl Iterator<Item = &'a Settlement>) -> Result<String> {
    let rows: Vec<Lease<'_>> = settlements
        .map(|settlement| {
            let (result, keep) = match &settlement.outcome {
                Outcome::Done { result, retention } => (result.as_deref(), retention.seconds()),
                _ => (None, None),
            };
            Lease { id: settlement.id, attempt: settlement.attempt, batch: settlement.batch, result, keep }
        })
        .collect();
    json(&rows)
}

/// Locks the messages whose lease still holds, so that the statements that follow see the same rows.
pub(super) fn lock_held(
    conn: &mut MysqlConnection,
    worker_id: i64,
    settlements: &[&Settlement],
) -> Result<Vec<MessageId>> {
    if settlements.is_empty() {
        return Ok(Vec::new());
    }
    Ok(load!(
        conn, Mysql => BigInt,
        "SELECT m.id FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$.id', attempt INTEGER PATH '$.attempt')) s
         STRAIGHT_JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = s.id
         WHERE m.worker_id = ? AND m.attempts = s.attempt FOR UPDATE",
        Text = leases(settlements.iter().copied())?,
        BigInt = worker_id,
    )?)
}

/// Writes every outcome whose lease holds, ends batches, and gives the ids of the others.
pub(super) fn settle_in(
    conn: &mut MysqlConnection,
    worker: &WorkerIdentity,
    settlements: &[Settlement],
    ended: &[BatchId],
) -> Result<Vec<MessageId>> {
    let mut batches: Vec<BatchId> =
        settlements.iter().filter_map(|s| s.batch).chain(ended.iter().copied()).collect();
    batches.sort_unstable();
    batches.dedup();
    let batches: HashMap<BatchId, HashSet<MessageId>> = lock_batches(conn, worker.id, &batches)?
        .into_iter()
        .map(|(batch, members)| (batch, members.into_iter().collect()))
        .collect();
    let has =
        |batch: BatchId, id: MessageId| batches.get(&batch).is_some_and(|members| members.contains(&id));
    let single: Vec<&Settlement> = settlements.iter().filter(|s| s.batch.is_none()).collect();
    let single: HashSet<MessageId> = lock_held(conn, worker.id, &single)?.into_iter().collect();
    let (held, lost): (Vec<&Settlement>, Vec<&Settlement>) = settlements
        .iter()
        .partition(|s| s.batch.map_or_else(|| single.contains(&s.id), |batch| has(batch, s.id)));
    settle_done(conn, worker, &held)?;
    let turns: Vec<MessageId> = held.iter().filter(|s| s.ends_turn()).map(|s| s.id).collect();
    let mut groups = Groups::default();
    for settlement in held.iter().filter(|s| !matches!(s.outcome, Outcome::Done { .. })) {
        match settlement.batch {
            Some(batch) => groups.add(batch, settlement),
            None => settle_other(conn, worker, settlement)?,
        }
    }
    for group in groups.handed_back {
        release(conn, group.batch, &group.ids())?;
    }
    for group in groups.failed {
        promote_in(conn, worker.id, group.batch, &group.ids())?;
        for settlement in group.settlements {
            settle_other(conn, worker, settlement)?;
        }
    }
    if held.iter().any(|s| s.touches_log()) {
        logs::write(conn, held.iter().copied())?;
    }
    let forgotten: Vec<MessageId> = held.iter().filter(|s| s.forgets_payload()).map(|s| s.id).collect();
    if !forgotten.is_empty() {
        payloads::delete(conn, &json(&forgotten)?)?;
    }
    pass_turns(conn, &turns)?;
    advance(conn, held.iter().copied())?;
    let ended: Vec<BatchId> = ended.iter().copied().filter(|batch| batches.contains_key(batch)).collect();
    end_batches(conn, &ended)?;
    if lost.is_empty() {
        return Ok(Vec::new());
    }
    let written = settled_before(conn, worker.id, &lost)?;
    Ok(lost.into_iter().map(|s| s.id).filter(|id| !written.contains(id)).collect())
}

/// Acks all that are done with one statement for each table. Their leases hold and are locked.
pub(super) fn settle_done(
    conn: &mut MysqlConnection,
    worker: &WorkerIdentity,
    settlements: &[&Settlement],
) -> Result<()> {
    let done = || settlements.iter().copied().filter(|s| matches!(s.outcome, Outcome::Done { .. }));
    if done().next().is_none() {
        return Ok(());
    }
    let forgotten = |s: &Settlement| {
        s.attempt > 1 && matches!(s.outcome, Outcome::Done { retention: Retention::None, .. })
    };
    let kept = |s: &Settlement| !matches!(s.outcome, Outcome::Done { retention: Retention::None, .. });
    let list = leases(done())?;
    if done().any(kept) {
        execute!(
            conn, Mysql,
            "INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, claimed_at, keep_seconds, worker_id, attempts,
                crashes, max_attempts, unique_key, ordering_key, headers, payload, result)
             SELECT m.id, m.topic, 'done', m.priority, m.run_at, m.created_at, coalesce(c.claimed_at, m.claimed_at),
                s.keep, ?, s.attempt,
                m.crashes, m.max_attempts, m.unique_key, m.ordering_key, m.headers, m.payload, s.result
             FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$.id', attempt INTEGER PATH '$.attempt', batch BIGINT PATH '$.batch',
                keep BIGINT PATH '$.keep', result LONGTEXT CHARACTER SET utf8mb4 PATH '$.result')) s
             STRAIGHT_JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = s.id
             LEFT JOIN taskmq_claims c ON c.id = s.batch
             WHERE s.keep IS NULL OR s.keep > 0",
            BigInt = worker.id,
            Text = &list,
        )?;
    }
    if done().any(forgotten) {
        execute!(
            conn, Mysql,
            "DELETE f FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$.id', attempt INTEGER PATH '$.attempt', keep BIGINT PATH '$.keep')) s
             STRAIGHT_JOIN taskmq_failures f FORCE INDEX (taskmq_failures_message) ON f.message_id = s.id WHERE s.keep = 0 AND s.attempt > 1",
            Text = &list,
        )?;
    }
    execute!(
        conn,
        Mysql,
        "DELETE m FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$.id')) s STRAIGHT_JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = s.id",
        Text = &list,
    )?;
    Ok(())
}

/// The lease has been checked and its row locked.
pub(super) fn settle_other(
    conn: &mut MysqlConnection,
    worker: &WorkerIdentity,
    settlement: &Settlement,
) -> Result<()> {
    let Settlement { id, attempt, outcome, .. } = settlement;
    let failure = match outcome {
        Outcome::Done { .. } => return Ok(()),
        Outcome::Retry { delay, kind, error } => {
            execute!(
                conn,
                Mysql,
                "UPDATE taskmq_messages SET worker_id = 0, suspicions = 0, run_at = CURRENT_TIMESTAMP(6) + INTERVAL ? MICROSECOND WHERE id = ?",
                BigInt = i64::try_from(delay.as_micros()).unwrap_or(i64::MAX),
                BigInt = *id,
            )?;
            Some((*kind, error))
        }
        Outcome::Dead { kind, error } | Outcome::Cancelled { kind, error } => {
            execute!(
                conn, Mysql,
                "INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, claimed_at, worker_id, attempts,
                    crashes, max_attempts, unique_key, ordering_key, headers, payload, error)
                 SELECT id, topic, ?, priority, run_at, created_at, claimed_at, worker_id, attempts - ?,
                    crashes, max_attempts, unique_key, ordering_key, headers, payload, ? FROM taskmq_messages WHERE id = ?",
                Nullable<Text> = outcome.unsuccessful_end().map(|(state, ..)| state.as_str()),
                Integer = i32::from(kind.is_none()),
                Text = error,
                BigInt = *id,
            )?;
            execute!(conn, Mysql, "DELETE FROM taskmq_messages WHERE id = ?", BigInt = *id)?;
            kind.map(|kind| (kind, error))
        }
        Outcome::HandBack => {
            execute!(
                conn,
                Mysql,
                concat!(
                    "UPDATE taskmq_messages SET attempts = attempts - 1, worker_id = ",
                    nobody!(),
                    " WHERE id = ?"
                ),
                BigInt = *id,
            )?;
            None
        }
    };
    if let Some((kind, error)) = failure {
        execute!(
            conn,
            Mysql,
            "INSERT INTO taskmq_failures (message_id, attempt, kind, error, worker) VALUES (?, ?, ?, ?, ?)",
            BigInt = *id,
            Integer = *attempt,
            Text = kind,
            Text = error,
            Text = worker.label(),
        )?;
    }
    Ok(())
}

/// Which of these leases have written their end already, in a transaction whose reply was lost.
pub(super) fn settled_before(
    conn: &mut MysqlConnection,
    worker_id: i64,
    settlements: &[&Settlement],
) -> Result<Vec<MessageId>> {
    Ok(load!(
        conn, Mysql => BigInt,
        "SELECT a.id FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$.id', attempt INTEGER PATH '$.attempt')) s
         STRAIGHT_JOIN taskmq_archive a FORCE INDEX (PRIMARY) ON a.id = s.id WHERE a.worker_id = ? AND a.attempts = s.attempt",
        Text = leases(settlements.iter().copied())?,
        BigInt = worker_id,
    )?)
}
