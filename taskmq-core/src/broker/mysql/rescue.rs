//! What a worker's death leaves: its messages are given back, and the one that killed it is found.

use std::collections::HashSet;

use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};

use super::claim::{
    ClaimedRow, ClaimedSql, batches_of, claim_lock, claimed_row, end_batches, lease, lock_batches,
    promote_in, read, release, worker_exists,
};
use super::connection::without_patience;
use super::{cancels, json, transaction};
use crate::broker::reconcile::plan;
use crate::broker::{
    BatchId, Blame, Claimed, DEATH_IN_COMPANY, Leases, NEW_FAILURES, Peer, change, culprit, death_of, nobody,
};
use crate::statement::{execute, load};
use crate::{MessageId, Result};

/// Waits for a claim of a former connection that is still under way.
pub(super) fn reconcile(
    conn: &mut MysqlConnection,
    worker_id: i64,
    known: &[(MessageId, i32)],
) -> Result<Leases> {
    conn.transaction(|conn| {
        claim_lock(conn, true)?;
        // Everybody waits for this lock, so no longer for a row that a handler is committing, or a session that stands
        // still. It is not tried again here but by a worker that connects anew.
        without_patience(conn, |conn| reconcile_in(conn, worker_id, known))
    })
}

fn reconcile_in(conn: &mut MysqlConnection, worker_id: i64, known: &[(MessageId, i32)]) -> Result<Leases> {
    let single: Vec<(MessageId, i32)> = load!(
        conn, Mysql => (BigInt, Integer),
        "SELECT id, attempts FROM taskmq_messages FORCE INDEX (taskmq_messages_ready) WHERE worker_id = ? FOR UPDATE",
        BigInt = worker_id,
    )?;
    let batches = batches_of(conn, worker_id)?;
    lock_batches(conn, worker_id, &batches)?;
    let members: Vec<(BatchId, MessageId, Option<i32>)> = load!(
        conn, Mysql => (BigInt, BigInt, Nullable<Integer>),
        "SELECT c.id, member.id, (SELECT m.attempts + 1 FROM taskmq_messages m WHERE m.id = member.id)
         FROM taskmq_claims c, JSON_TABLE(c.message_ids, '$[*]' COLUMNS (id BIGINT PATH '$')) member WHERE c.worker_id = ?",
        BigInt = worker_id,
    )?;
    let plan = plan(known, single, batches, members);
    if !plan.back.is_empty() {
        let back = json(&plan.back)?;
        execute!(
            conn,
            Mysql,
            concat!(
                "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) back
             STRAIGHT_JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = back.id SET attempts = attempts - 1, worker_id = ",
                nobody!()
            ),
            Text = &back,
        )?;
        execute!(
            conn,
            Mysql,
            "UPDATE taskmq_workers SET alone_with = NULL WHERE id = ? AND JSON_CONTAINS(?, CAST(alone_with AS CHAR))",
            BigInt = worker_id,
            Text = &back,
        )?;
    }
    for (batch, ids) in &plan.release {
        release(conn, *batch, ids)?;
    }
    end_batches(conn, &plan.ends)?;
    Ok(plan.leases)
}

pub(super) fn claim_alone(
    conn: &mut MysqlConnection,
    worker_id: i64,
    topics: &[&str],
) -> Result<Option<Claimed>> {
    transaction(conn, |conn| claim_alone_in(conn, worker_id, topics))
}

pub(super) fn claim_alone_in(
    conn: &mut MysqlConnection,
    worker_id: i64,
    topics: &[&str],
) -> Result<Option<Claimed>> {
    let topics = json(topics)?;
    let rows: Vec<ClaimedRow> = load!(
        conn, Mysql => ClaimedSql,
        "SELECT id, topic, attempts, crashes, max_attempts, ordering_key, headers, payload,
                TIMESTAMPDIFF(MICROSECOND, run_at, CURRENT_TIMESTAMP(6))
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
        "UPDATE taskmq_workers SET alone_with = CASE WHEN alone_with = 0 THEN 0 ELSE ? END WHERE id = ?",
        BigInt = first.id,
        BigInt = worker_id,
    )?;
    if noted == 0 {
        return Ok(None);
    }
    Ok(lease(conn, worker_id, claimed)?.into_iter().next())
}

pub(super) fn claim_suspects(
    conn: &mut MysqlConnection,
    worker_id: i64,
    topics: &[&str],
    limit: i64,
) -> Result<Vec<Claimed>> {
    transaction(conn, |conn| claim_suspects_in(conn, worker_id, topics, limit))
}

pub(super) fn claim_suspects_in(
    conn: &mut MysqlConnection,
    worker_id: i64,
    topics: &[&str],
    limit: i64,
) -> Result<Vec<Claimed>> {
    let topics = json(topics)?;
    // Not by locks on the rows alone: a locking read that sorts locks all that it reads, and others would find none.
    claim_lock(conn, true)?;
    if !worker_exists(conn, worker_id)? {
        return Ok(Vec::new());
    }
    let found: Vec<MessageId> = load!(
        conn, Mysql => BigInt,
        "SELECT id FROM taskmq_messages FORCE INDEX (taskmq_messages_ready)
         WHERE worker_id = -2 AND JSON_CONTAINS(?, JSON_QUOTE(topic)) AND run_at <= CURRENT_TIMESTAMP(6)
         ORDER BY priority DESC, run_at, id LIMIT ?",
        Text = &topics,
        BigInt = limit,
    )?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    // On a Galera cluster a claim on another node is not excluded, and may have come in since. What is locked it cannot take.
    let locked: HashSet<MessageId> = load!(
        conn, Mysql => BigInt,
        "SELECT m.id FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) found
         STRAIGHT_JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = found.id WHERE m.worker_id = -2 FOR UPDATE SKIP LOCKED",
        Text = json(&found)?,
    )?
    .into_iter()
    .collect();
    let picked: Vec<MessageId> = found.into_iter().filter(|id| locked.contains(id)).collect();
    let claimed = read(conn, &picked)?;
    lease(conn, worker_id, claimed)
}

/// Waits for no lock for longer than a moment: all other dead workers would wait, too.
pub(super) fn rescue(conn: &mut MysqlConnection, peer: &Peer) -> Result<usize> {
    without_patience(conn, |conn| conn.transaction(|conn| rescue_in(conn, peer)))
}

fn rescue_in(conn: &mut MysqlConnection, peer: &Peer) -> Result<usize> {
    if cancels::exist(conn)? {
        // Before the rows, as those have it who change messages.
        claim_lock(conn, false)?;
    }
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
    let blame = Blame::of(alone_with);
    let batches = batches_of(conn, peer.id)?;
    for (batch, ids) in lock_batches(conn, peer.id, &batches)? {
        promote_in(conn, peer.id, batch, &ids)?;
        end_batches(conn, &[batch])?;
    }
    let held: Vec<i64> = load!(
        conn, Mysql => BigInt,
        "SELECT id FROM taskmq_messages FORCE INDEX (taskmq_messages_ready) WHERE worker_id = ? FOR UPDATE",
        BigInt = peer.id,
    )?;
    if let Some(culprit) = culprit(peer, blame, &held) {
        execute!(
            conn,
            Mysql,
            "INSERT INTO taskmq_failures (message_id, attempt, kind, error, worker)
             WITH RECURSIVE earlier (n, most) AS (
                SELECT 0, suspicions FROM taskmq_messages WHERE id = ?
                UNION ALL SELECT n + 1, most FROM earlier WHERE n < most
             )
             SELECT m.id, m.attempts + n, 'crash', CASE WHEN n < most THEN ? ELSE ? END, CASE WHEN n < most THEN 'unknown' ELSE ? END
             FROM earlier CROSS JOIN taskmq_messages m WHERE m.id = ? ORDER BY n",
            BigInt = culprit,
            Text = DEATH_IN_COMPANY,
            Text = death_of(peer.id),
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
    if matches!(blame, Blame::Alone(_)) || peer.beat.is_none() {
        // They had not begun, or nobody died with them.
        execute!(
            conn,
            Mysql,
            concat!(
                "UPDATE taskmq_messages FORCE INDEX (taskmq_messages_ready) SET attempts = attempts - 1, worker_id = ",
                nobody!(),
                " WHERE worker_id = ?"
            ),
            BigInt = peer.id,
        )?;
    } else {
        execute!(
            conn,
            Mysql,
            "UPDATE taskmq_messages FORCE INDEX (taskmq_messages_ready)
             SET worker_id = CASE WHEN crashes + suspicions >= 1 THEN -1 ELSE -2 END,
             attempts = attempts - 1, suspicions = suspicions + 1 WHERE worker_id = ?",
            BigInt = peer.id,
        )?;
    }
    change::take_back(conn, &held)?;
    Ok(held.len())
}

pub(super) fn explain_death(conn: &mut MysqlConnection, worker_id: i64, how: &str) -> Result<()> {
    let known = death_of(worker_id);
    execute!(
        conn, Mysql,
        "UPDATE taskmq_failures SET error = ?
         WHERE id > (SELECT newest FROM (SELECT max(id) AS newest FROM taskmq_failures) f) - ? AND kind = 'crash' AND error = ?",
        Text = format!("{known}: {how}"),
        BigInt = NEW_FAILURES,
        Text = &known,
    )?;
    Ok(())
}
