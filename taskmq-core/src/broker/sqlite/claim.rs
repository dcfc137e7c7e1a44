//! Leasing: whole batches with one row, or message by message.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Double, Integer, Nullable, SmallInt, Text};
use diesel::sqlite::Sqlite;

use super::json_list;
use super::leased::{Leased, unleased};
use super::turns::take_turns;
use super::waits::Waits;
use crate::broker::lanes::Lanes;
use crate::broker::{BatchId, Claim, Claimed, Share};
use crate::statement::{execute, load};
use crate::{Error, MessageId, Result};

/// The columns of a claimed message. What few messages have is one JSON text, and NULL for most: each column costs a
/// claim of thousands more than SQLite needs to look at it.
macro_rules! claimed {
    ($attempt:literal) => {
        concat!(
            "id, topic, run_at, payload,
             CASE WHEN ",
            $attempt,
            " > 1 OR crashes > 0 OR max_attempts IS NOT NULL OR ordering_key IS NOT NULL OR headers IS NOT NULL
             THEN json_array(",
            $attempt,
            ", crashes, max_attempts, ordering_key, headers) END"
        )
    };
}
pub(super) use claimed;

pub(super) type ClaimedSql = (BigInt, Text, Text, Text, Nullable<Text>);

pub(super) type ClaimedRow = (i64, String, String, String, Option<String>);

/// attempt, crashes, max_attempts, ordering_key, headers.
type Rare = (i32, i16, Option<i16>, Option<String>, Option<String>);

fn claimed_row(row: ClaimedRow, waits: &mut Waits) -> Result<Claimed> {
    let (id, topic, run_at, payload, rare) = row;
    let rare: Option<Rare> = rare
        .map(|json| serde_json::from_str(&json))
        .transpose()
        .map_err(|source| Error::Decode { what: "a claimed message", source })?;
    let (attempt, crashes, max_attempts, ordering_key, headers) = rare.unwrap_or((1, 0, None, None, None));
    let waited = waits.since(&run_at);
    let (batch, lane) = (None, (0, 0));
    Ok(Claimed {
        id,
        topic,
        attempt,
        batch,
        lane,
        waited,
        crashes,
        max_attempts,
        ordering_key,
        headers,
        payload,
        large: false,
    })
}

fn claimed_rows(rows: Vec<ClaimedRow>) -> Result<Vec<Claimed>> {
    let mut waits = Waits::until_now();
    rows.into_iter().map(|row| claimed_row(row, &mut waits)).collect()
}

/// Gives also how many wait for the turn of their ordering key.
pub(super) fn claim_in(conn: &mut SqliteConnection, claim: &Claim<'_>) -> Result<(Vec<Claimed>, usize)> {
    let mut claimed: Vec<Claimed> = Vec::new();
    if !worker_exists(conn, claim.worker_id)? {
        return Ok((claimed, 0));
    }
    let leased = Leased::note(conn)?;
    'topics: for Share { topic, limit, ageing } in claim.topics {
        let mut lanes = Lanes::of(*ageing, || aged_lanes(conn, topic))?;
        while let Some(priority) = lanes.next(|below| next_lane(conn, topic, below))? {
            let room = claim.limit - i64::try_from(claimed.len()).unwrap_or(i64::MAX);
            if room <= 0 {
                break 'topics;
            }
            let room = room.min(*limit);
            claimed.extend(if claim.as_batch {
                pick_lane(conn, &leased, topic, priority, room)?
            } else {
                claim_lane(conn, claim.worker_id, &leased, topic, priority, room)?
            });
        }
    }
    let ordered: Vec<Claimed> = claimed.extract_if(.., |message| message.ordering_key.is_some()).collect();
    let met = ordered.len();
    let in_turn = take_turns(conn, claim.worker_id, ordered)?;
    let in_line = met - in_turn.len();
    if claim.as_batch && !claimed.is_empty() {
        let ids: Vec<MessageId> = claimed.iter().map(|c| c.id).collect();
        let batch: Vec<BatchId> = load!(
            conn, Sqlite => BigInt,
            "INSERT INTO taskmq_claims (worker_id, message_ids) VALUES (?, ?) RETURNING id",
            BigInt = claim.worker_id,
            Text = json_list(&ids)?,
        )?;
        for message in &mut claimed {
            message.batch = batch.first().copied();
        }
    }
    claimed.extend(in_turn);
    Ok((claimed, in_line))
}

pub(super) fn worker_exists(conn: &mut SqliteConnection, worker_id: i64) -> Result<bool> {
    let found: Vec<i64> =
        load!(conn, Sqlite => BigInt, "SELECT id FROM taskmq_workers WHERE id = ?", BigInt = worker_id)?;
    Ok(!found.is_empty())
}

/// The highest priority below `below` of which the topic has any message that nobody holds.
pub(super) fn next_lane(conn: &mut SqliteConnection, topic: &str, below: i32) -> Result<Option<i16>> {
    let found: Vec<i16> = load!(
        conn, Sqlite => SmallInt,
        "SELECT priority FROM taskmq_messages WHERE worker_id = 0 AND topic = ? AND priority < ? ORDER BY priority DESC LIMIT 1",
        Text = topic,
        Integer = below,
    )?;
    Ok(found.first().copied())
}

/// Each priority of the topic, and for how many seconds its first message has been due.
fn aged_lanes(conn: &mut SqliteConnection, topic: &str) -> Result<Vec<(i16, f64)>> {
    let mut lanes = Vec::new();
    let mut lane = next_lane(conn, topic, i32::from(i16::MAX) + 1)?;
    while let Some(priority) = lane {
        let waited: Vec<f64> = load!(
            conn, Sqlite => Double,
            "SELECT (julianday('now') - julianday(run_at)) * 86400.0 FROM taskmq_messages
             WHERE worker_id = 0 AND topic = ? AND priority = ? ORDER BY run_at LIMIT 1",
            Text = topic,
            SmallInt = priority,
        )?;
        lanes.extend(waited.first().map(|waited| (priority, *waited)));
        lane = next_lane(conn, topic, i32::from(priority))?;
    }
    Ok(lanes)
}

fn claim_lane(
    conn: &mut SqliteConnection,
    worker_id: i64,
    leased: &Leased,
    topic: &str,
    priority: i16,
    limit: i64,
) -> Result<Vec<Claimed>> {
    let rows: Vec<ClaimedRow> = load!(
        conn, Sqlite => ClaimedSql,
        concat!("UPDATE taskmq_messages SET worker_id = ?, attempts = attempts + 1, claimed_at = ", now!(), "
         WHERE id IN (SELECT id FROM taskmq_messages WHERE worker_id = 0 AND topic = ? AND priority = ? AND run_at <= ", now!(), "
                      AND ", unleased!(), " ORDER BY run_at, id LIMIT ?)
         RETURNING ", claimed!("attempts")),
        BigInt = worker_id,
        Text = topic,
        SmallInt = priority,
        BigInt = leased.longest.0,
        BigInt = leased.longest.1,
        BigInt = limit,
    )?;
    in_order(rows)
}

/// By when they were due, for RETURNING promises no order.
pub(super) fn in_order(mut rows: Vec<ClaimedRow>) -> Result<Vec<Claimed>> {
    rows.sort_by(|(a, _, a_due, ..), (b, _, b_due, ..)| (a_due, a).cmp(&(b_due, b)));
    claimed_rows(rows)
}

/// The due messages of a lane, unleased.
fn pick_lane(
    conn: &mut SqliteConnection,
    leased: &Leased,
    topic: &str,
    priority: i16,
    limit: i64,
) -> Result<Vec<Claimed>> {
    let rows: Vec<ClaimedRow> = load!(
        conn, Sqlite => ClaimedSql,
        concat!("SELECT ", claimed!("attempts + 1"), " FROM taskmq_messages
         WHERE worker_id = 0 AND topic = ? AND priority = ? AND run_at <= ", now!(), "
         AND ", unleased!(), " ORDER BY run_at, id LIMIT ?"),
        Text = topic,
        SmallInt = priority,
        BigInt = leased.longest.0,
        BigInt = leased.longest.1,
        BigInt = limit,
    )?;
    claimed_rows(rows)
}

/// The batches that a worker holds, each with the JSON list of its messages.
pub(super) fn claims_of(conn: &mut SqliteConnection, worker_id: i64) -> Result<Vec<(BatchId, String)>> {
    Ok(load!(
        conn, Sqlite => (BigInt, Text),
        "SELECT id, message_ids FROM taskmq_claims WHERE worker_id = ?",
        BigInt = worker_id,
    )?)
}

pub(super) fn batches_of(conn: &mut SqliteConnection, worker_id: i64) -> Result<Vec<BatchId>> {
    Ok(load!(conn, Sqlite => BigInt, "SELECT id FROM taskmq_claims WHERE worker_id = ?", BigInt = worker_id)?)
}

/// From the lease of their batch to leases of their own, those that it still has.
pub(super) fn promote_in(
    conn: &mut SqliteConnection,
    worker_id: i64,
    batch: BatchId,
    ids: &str,
) -> Result<()> {
    execute!(
        conn,
        Sqlite,
        "UPDATE taskmq_messages SET worker_id = ?, attempts = attempts + 1,
                claimed_at = (SELECT claimed_at FROM taskmq_claims WHERE id = ?)
         WHERE id IN (SELECT value FROM json_each(?)) AND +worker_id = 0
         AND id IN (SELECT member.value FROM taskmq_claims c, json_each(c.message_ids) member WHERE c.id = ?)",
        BigInt = worker_id,
        BigInt = batch,
        Text = ids,
        BigInt = batch,
    )?;
    release(conn, batch, ids)
}

/// Lets messages go from the lease of their batch.
pub(super) fn release(conn: &mut SqliteConnection, batch: BatchId, ids: &str) -> Result<()> {
    execute!(
        conn, Sqlite,
        "UPDATE taskmq_claims SET message_ids = (
            SELECT json_group_array(value) FROM json_each(message_ids) WHERE value NOT IN (SELECT value FROM json_each(?)))
         WHERE id = ?",
        Text = ids,
        BigInt = batch,
    )?;
    Ok(())
}

pub(super) fn end_batches(conn: &mut SqliteConnection, worker_id: i64, batches: &[BatchId]) -> Result<()> {
    for batch in batches {
        execute!(
            conn,
            Sqlite,
            "DELETE FROM taskmq_claims WHERE id = ? AND worker_id = ?",
            BigInt = *batch,
            BigInt = worker_id,
        )?;
    }
    Ok(())
}
