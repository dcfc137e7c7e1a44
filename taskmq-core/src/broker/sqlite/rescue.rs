//! What a worker's death leaves: its messages are given back, and the one that killed it is found.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use diesel::sqlite::Sqlite;

use super::claim::{
    ClaimedRow, ClaimedSql, batches_of, claimed, claims_of, end_batches, in_order, promote_in, release,
    worker_exists,
};
use super::{json_list, write_lock};
use crate::broker::reconcile::plan;
use crate::broker::{
    BatchId, Blame, Claimed, DEATH_IN_COMPANY, Leases, NEW_FAILURES, Peer, change, culprit, death_of, nobody,
};
use crate::statement::{execute, load};
use crate::{MessageId, Result};

pub(super) fn reconcile(
    conn: &mut SqliteConnection,
    worker_id: i64,
    known: &[(MessageId, i32)],
) -> Result<Leases> {
    write_lock::transaction(conn, |conn| {
        let single: Vec<(MessageId, i32)> = load!(
            conn, Sqlite => (BigInt, Integer),
            "SELECT id, attempts FROM taskmq_messages WHERE worker_id = ? AND worker_id <> 0",
            BigInt = worker_id,
        )?;
        let members: Vec<(BatchId, MessageId, Option<i32>)> = load!(
            conn, Sqlite => (BigInt, BigInt, Nullable<Integer>),
            "SELECT c.id, member.value, (SELECT m.attempts + 1 FROM taskmq_messages m WHERE m.id = member.value)
             FROM taskmq_claims c CROSS JOIN json_each(c.message_ids) member WHERE c.worker_id = ?",
            BigInt = worker_id,
        )?;
        let plan = plan(known, single, batches_of(conn, worker_id)?, members);
        if !plan.back.is_empty() {
            let back = json_list(&plan.back)?;
            execute!(
                conn,
                Sqlite,
                concat!(
                    "UPDATE taskmq_messages SET attempts = attempts - 1, worker_id = ",
                    nobody!(),
                    "
                 WHERE id IN (SELECT value FROM json_each(?))"
                ),
                Text = &back,
            )?;
            execute!(
                conn,
                Sqlite,
                "UPDATE taskmq_workers SET alone_with = NULL WHERE id = ? AND alone_with IN (SELECT value FROM json_each(?))",
                BigInt = worker_id,
                Text = &back,
            )?;
        }
        for (batch, ids) in &plan.release {
            release(conn, *batch, &json_list(ids)?)?;
        }
        end_batches(conn, worker_id, &plan.ends)?;
        Ok(plan.leases)
    })
}

pub(super) fn claim_alone(
    conn: &mut SqliteConnection,
    worker_id: i64,
    topics: &[&str],
) -> Result<Option<Claimed>> {
    // Without the write lock first: an idle worker asks this again and again.
    if set_aside(conn, topics)?.is_none() {
        return Ok(None);
    }
    write_lock::transaction(conn, |conn| claim_alone_in(conn, worker_id, topics))
}

fn set_aside(conn: &mut SqliteConnection, topics: &[&str]) -> Result<Option<i64>> {
    let ids: Vec<i64> = load!(
        conn, Sqlite => BigInt,
        concat!("SELECT id FROM taskmq_messages WHERE worker_id = -1 AND worker_id <> 0
         AND topic IN (SELECT value FROM json_each(?)) AND run_at <= ", now!(), "
         ORDER BY priority DESC, run_at, id LIMIT 1"),
        Text = json_list(topics)?,
    )?;
    Ok(ids.first().copied())
}

pub(super) fn claim_alone_in(
    conn: &mut SqliteConnection,
    worker_id: i64,
    topics: &[&str],
) -> Result<Option<Claimed>> {
    let Some(id) = set_aside(conn, topics)? else { return Ok(None) };
    if !worker_exists(conn, worker_id)? {
        return Ok(None);
    }
    execute!(
        conn,
        Sqlite,
        "UPDATE taskmq_workers SET alone_with = CASE WHEN alone_with = 0 THEN 0 ELSE ? END WHERE id = ?",
        BigInt = id,
        BigInt = worker_id
    )?;
    let rows: Vec<ClaimedRow> = load!(
        conn, Sqlite => ClaimedSql,
        concat!("UPDATE taskmq_messages SET worker_id = ?, attempts = attempts + 1, claimed_at = ", now!(), "
         WHERE id = ? RETURNING ", claimed!("attempts")),
        BigInt = worker_id,
        BigInt = id,
    )?;
    Ok(in_order(rows)?.into_iter().next())
}

pub(super) fn claim_suspects(
    conn: &mut SqliteConnection,
    worker_id: i64,
    topics: &[&str],
    limit: i64,
) -> Result<Vec<Claimed>> {
    write_lock::transaction(conn, |conn| claim_suspects_in(conn, worker_id, topics, limit))
}

pub(super) fn claim_suspects_in(
    conn: &mut SqliteConnection,
    worker_id: i64,
    topics: &[&str],
    limit: i64,
) -> Result<Vec<Claimed>> {
    if !worker_exists(conn, worker_id)? {
        return Ok(Vec::new());
    }
    let rows: Vec<ClaimedRow> = load!(
        conn, Sqlite => ClaimedSql,
        concat!("UPDATE taskmq_messages SET worker_id = ?, attempts = attempts + 1, claimed_at = ", now!(), "
         WHERE id IN (SELECT id FROM taskmq_messages WHERE worker_id = -2 AND worker_id <> 0
                      AND topic IN (SELECT value FROM json_each(?)) AND run_at <= ", now!(), "
                      ORDER BY priority DESC, run_at, id LIMIT ?)
         RETURNING ", claimed!("attempts")),
        BigInt = worker_id,
        Text = json_list(topics)?,
        BigInt = limit,
    )?;
    in_order(rows)
}

pub(super) fn rescue(conn: &mut SqliteConnection, peer: &Peer) -> Result<usize> {
    write_lock::transaction(conn, |conn| {
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
        let blame = Blame::of(alone_with);
        for (batch, ids) in claims_of(conn, peer.id)? {
            promote_in(conn, peer.id, batch, &ids)?;
            end_batches(conn, peer.id, &[batch])?;
        }
        let held: Vec<i64> = load!(
            conn, Sqlite => BigInt,
            "SELECT id FROM taskmq_messages WHERE worker_id = ? AND worker_id <> 0",
            BigInt = peer.id,
        )?;
        if let Some(culprit) = culprit(peer, blame, &held) {
            execute!(
                conn, Sqlite,
                "INSERT INTO taskmq_failures (message_id, attempt, kind, error, worker)
                 WITH RECURSIVE earlier (n, most) AS (
                    SELECT 0, suspicions FROM taskmq_messages WHERE id = ? AND worker_id = ?
                    UNION ALL SELECT n + 1, most FROM earlier WHERE n < most
                 )
                 SELECT m.id, m.attempts + n, 'crash', CASE WHEN n < most THEN ? ELSE ? END, CASE WHEN n < most THEN 'unknown' ELSE ? END
                 FROM earlier CROSS JOIN taskmq_messages m WHERE m.id = ? ORDER BY n",
                BigInt = culprit,
                BigInt = peer.id,
                Text = DEATH_IN_COMPANY,
                Text = death_of(peer.id),
                Text = &label,
                BigInt = culprit,
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
        if matches!(blame, Blame::Alone(_)) || peer.beat.is_none() {
            // They had not begun, or nobody died with them.
            execute!(
                conn,
                Sqlite,
                concat!(
                    "UPDATE taskmq_messages SET attempts = attempts - 1, worker_id = ",
                    nobody!(),
                    " WHERE worker_id = ? AND worker_id <> 0"
                ),
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
        change::take_back(conn, &held)?;
        Ok(held.len())
    })
}

pub(super) fn explain_death(conn: &mut SqliteConnection, worker_id: i64, how: &str) -> Result<()> {
    let known = death_of(worker_id);
    execute!(
        conn,
        Sqlite,
        "UPDATE taskmq_failures SET error = ?
         WHERE id > (SELECT max(id) FROM taskmq_failures) - ? AND kind = 'crash' AND error = ?",
        Text = format!("{known}: {how}"),
        BigInt = NEW_FAILURES,
        Text = &known,
    )?;
    Ok(())
}
