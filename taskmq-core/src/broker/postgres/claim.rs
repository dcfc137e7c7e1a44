//! Looking for messages, and leasing them: whole batches with one row, or message by message.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use diesel::connection::{AnsiTransactionManager, TransactionManager};
use diesel::data_types::PgTimestamp;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Nullable, SmallInt, Text, Timestamptz};

use super::turns::take_turns;
use crate::broker::{BatchId, Claim, Claimed, Look, Peer};
use crate::statement::{execute, load};
use crate::{MessageId, Result};

/// Every (topic, priority) that has a message which nobody holds, topics in the order given, found by one index probe
/// each: rows of other lanes, and rows that are not due, are never walked over.
macro_rules! lanes {
    () => {
        lanes!("")
    };
    ($which:literal) => {
        concat!("RECURSIVE lane AS (
            SELECT t.topic, t.place, (SELECT m.priority FROM taskmq_messages m WHERE m.worker_id = 0 AND m.topic = t.topic
                                      ORDER BY m.priority DESC LIMIT 1) AS priority
            FROM unnest(?) WITH ORDINALITY AS t (topic, place) ", $which, "
            UNION ALL
            SELECT l.topic, l.place, (SELECT m.priority FROM taskmq_messages m WHERE m.worker_id = 0 AND m.topic = l.topic
                                      AND m.priority < l.priority ORDER BY m.priority DESC LIMIT 1)
            FROM lane l WHERE l.priority IS NOT NULL
         )")
    };
}

/// Not leased with a batch. One look at the few rows of taskmq_claims, kept as a hash table for the whole statement.
macro_rules! unleased {
    () => {
        "m.id NOT IN (SELECT unnest(message_ids) FROM taskmq_claims)"
    };
}

/// Held by nobody for itself. Said so that it does not suggest the index of such messages, all of which the planner
/// would walk to find a few ids.
macro_rules! unheld {
    () => {
        "m.worker_id + 0 = 0"
    };
}
pub(super) use unheld;

/// Claims of batches exclude each other and claims of single messages, which share: what a batch leases is written
/// nowhere but in `taskmq_claims`, so whoever claims must see all of it.
macro_rules! claim_lock {
    ("shared") => {
        "SELECT pg_advisory_xact_lock_shared(1953329457, 0)"
    };
    ("exclusive") => {
        "SELECT pg_advisory_xact_lock(1953329457, 0)"
    };
}

/// A claim promises nothing that a crash of the server may not take back: its messages are ready again then, and what
/// still runs them has lost its lease. So it does not wait for the disk; produce, acknowledgement and retry do.
macro_rules! begin_claim {
    ($how:tt) => {
        concat!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = off; ",
            claim_lock!($how)
        )
    };
}

/// What a claim found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) claimed: Vec<Claimed>,
    /// So many more are due and wait for the turn of their ordering key.
    pub(super) in_line: usize,
    /// How long looking for them took.
    pub(super) searched: Duration,
}

pub(super) fn claim(conn: &mut PgConnection, claim: &Claim<'_>) -> Result<Found> {
    if AnsiTransactionManager::transaction_manager_status_mut(conn).transaction_depth()?.is_some() {
        // What else is in the transaction does wait for the disk.
        claim_alone_from_now(conn)?;
        return if claim.as_batch {
            claim_batch(conn, claim)
        } else {
            let each = claim_each(conn, claim)?;
            with_turns(each, claim, |rest| claim_in_turn(conn, rest))
        };
    }
    if claim.as_batch {
        return in_claim(conn, begin_claim!("exclusive"), |conn| claim_batch(conn, claim));
    }
    let each = in_claim(conn, begin_claim!("shared"), |conn| claim_each(conn, claim))?;
    with_turns(each, claim, |rest| {
        in_claim(conn, begin_claim!("exclusive"), |conn| claim_in_turn(conn, rest))
    })
}

/// If a claim met ordering keys, another is for them.
fn with_turns(
    (mut found, ordered): (Found, bool),
    claim: &Claim<'_>,
    in_turn: impl FnOnce(&Claim<'_>) -> Result<(Vec<Claimed>, usize)>,
) -> Result<Found> {
    if !ordered {
        return Ok(found);
    }
    if !takes_turns(claim) {
        found.in_line = 1;
        return Ok(found);
    }
    let limit = claim.limit.saturating_sub(i64::try_from(found.claimed.len()).unwrap_or(i64::MAX));
    let (in_turn, in_line) = in_turn(&Claim { limit, ..*claim })?;
    found.claimed.extend(in_turn);
    found.in_line = in_line;
    Ok(found)
}

/// A claim that goes on behind a position does not know what comes first of a key, and leaves it alone.
fn takes_turns(claim: &Claim<'_>) -> bool {
    claim.after.is_empty()
}

fn in_claim<T>(
    conn: &mut PgConnection,
    begin: &str,
    claim: impl FnOnce(&mut PgConnection) -> Result<T>,
) -> Result<T> {
    AnsiTransactionManager::begin_transaction_sql(conn, begin)?;
    match claim(conn) {
        Ok(claimed) => {
            AnsiTransactionManager::commit_transaction(conn)?;
            Ok(claimed)
        }
        Err(error) => {
            // The first error is the one to tell.
            let _ = AnsiTransactionManager::rollback_transaction(conn);
            Err(error)
        }
    }
}

/// Waits until nobody else claims, to the end of the open transaction.
pub(super) fn claim_alone_from_now(conn: &mut PgConnection) -> Result<()> {
    execute!(conn, Pg, claim_lock!("exclusive"))?;
    Ok(())
}

/// Lets nobody claim a batch, to the end of the open transaction.
pub(super) fn exclude_batch_claims(conn: &mut PgConnection) -> Result<()> {
    execute!(conn, Pg, claim_lock!("shared"))?;
    Ok(())
}

pub(super) fn next_due(conn: &mut PgConnection, topics: &[&str]) -> Result<Option<Duration>> {
    let micros: Vec<Option<i64>> = load!(
        conn, Pg => Nullable<BigInt>,
        concat!("WITH ", lanes!(), "
         SELECT CAST(extract(epoch FROM min(first.run_at) - clock_timestamp()) * 1000000 AS BIGINT)
         FROM lane CROSS JOIN LATERAL (
            SELECT m.run_at FROM taskmq_messages m
            WHERE m.worker_id = 0 AND m.topic = lane.topic AND m.priority = lane.priority AND ", unleased!(), "
            ORDER BY m.run_at LIMIT 1
         ) first WHERE lane.priority IS NOT NULL"),
        Array<Text> = topics,
    )?;
    Ok(micros.first().copied().flatten().map(|micros| Duration::from_micros(micros.max(0).unsigned_abs())))
}

/// A worker's id, counter and free lock, or a topic that is paused or limited.
type LookRow = (i64, Option<i64>, Option<bool>, Option<String>);

pub(super) fn look(conn: &mut PgConnection, worker_id: i64, topics: &[&str]) -> Result<Look> {
    let rows: Vec<LookRow> = load!(
        conn, Pg => (BigInt, Nullable<BigInt>, Nullable<Bool>, Nullable<Text>),
        concat!("WITH ", lanes!("WHERE t.topic NOT IN (SELECT topic FROM taskmq_paused)"), "
         SELECT w.id, w.beat, CASE WHEN w.locked THEN NOT EXISTS (
                SELECT 1 FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND (l.classid::bigint << 32) | l.objid::bigint = w.id) END, CAST(NULL AS TEXT)
         FROM taskmq_workers w
         UNION ALL
         SELECT held.worker_id, CAST(NULL AS BIGINT), CAST(NULL AS BOOLEAN), NULL FROM (
            SELECT worker_id FROM taskmq_messages WHERE worker_id <> 0 AND worker_id > 0
            UNION SELECT worker_id FROM taskmq_claims) held
         WHERE NOT EXISTS (SELECT 1 FROM taskmq_workers w WHERE w.id = held.worker_id)
         UNION ALL
         SELECT 0, NULL, NULL, topic FROM taskmq_paused
         UNION ALL
         SELECT -4, NULL, NULL, topic FROM taskmq_limits
         UNION ALL
         SELECT aside.id, NULL, NULL, NULL FROM (VALUES (CAST(-1 AS BIGINT)), (-2)) aside (id) WHERE EXISTS (
            SELECT 1 FROM taskmq_messages m WHERE m.worker_id = aside.id AND m.worker_id <> 0
            AND m.run_at <= statement_timestamp() AND m.topic IN (SELECT topic FROM lane))
         UNION ALL
         SELECT 0, NULL, NULL, NULL WHERE EXISTS (
            SELECT 1 FROM lane CROSS JOIN LATERAL (
                SELECT 1 FROM taskmq_messages m WHERE m.worker_id = 0 AND m.topic = lane.topic AND m.priority = lane.priority
                AND m.run_at <= statement_timestamp() LIMIT 1) due
            WHERE lane.priority IS NOT NULL)
         UNION ALL
         SELECT -3, coalesce(CAST(extract(epoch FROM tick.next_at - clock_timestamp()) * 1000000 AS BIGINT), 0), NULL, NULL FROM (
            SELECT s.next_at FROM taskmq_schedules s WHERE NOT s.paused AND (s.declared_by IS NULL OR s.topic = ANY(?))
            ORDER BY s.next_at NULLS FIRST LIMIT 1) tick
         UNION ALL
         SELECT -10, c.message_id, NULL, NULL FROM taskmq_cancels c JOIN taskmq_messages m ON m.id = c.message_id WHERE m.worker_id = ?
         UNION ALL
         SELECT -11, c.message_id, NULL, NULL FROM (
            SELECT c.message_id FROM taskmq_cancels c LEFT JOIN taskmq_messages m ON m.id = c.message_id
            WHERE m.id IS NULL OR m.worker_id <= 0 ORDER BY c.message_id LIMIT 1000) c
         UNION ALL
         SELECT -9, NULL, NULL, NULL FROM taskmq_workers w WHERE w.id = ? AND w.draining"),
        Array<Text> = topics,
        Array<Text> = topics,
        BigInt = worker_id,
        BigInt = worker_id,
    )?;
    let rows = rows.into_iter().map(|(id, beat, lock_free, paused)| (Peer { id, beat, lock_free }, paused));
    Ok(crate::broker::look(worker_id, rows))
}

pub(super) type ClaimedSql = (
    BigInt,
    Text,
    Integer,
    SmallInt,
    Nullable<SmallInt>,
    Nullable<Text>,
    Nullable<Text>,
    Text,
    SmallInt,
    Timestamptz,
    Timestamptz,
);
pub(super) type ClaimedRow = (
    i64,
    String,
    i32,
    i16,
    Option<i16>,
    Option<String>,
    Option<String>,
    String,
    i16,
    PgTimestamp,
    PgTimestamp,
);

pub(super) fn claimed_row(row: ClaimedRow) -> Claimed {
    let (id, topic, attempt, crashes, max_attempts, ordering_key, headers, payload, priority, due, now) = row;
    Claimed {
        id,
        topic,
        attempt,
        batch: None,
        lane: (priority, due.0),
        waited: Duration::from_micros(u64::try_from(now.0.saturating_sub(due.0)).unwrap_or_default()),
        crashes,
        max_attempts,
        ordering_key,
        headers,
        payload,
        large: false,
    }
}

/// The lanes to claim from: all that there are, from their beginnings.
macro_rules! all_lanes {
    () => {
        concat!(lanes!(), ", source AS (
            SELECT lane.topic, lane.priority, lane.place, share.most, '-infinity'::timestamptz AS due, CAST(0 AS BIGINT) AS id,
                lane.priority + CASE WHEN share.ageing IS NULL THEN 0 ELSE coalesce(extract(epoch FROM statement_timestamp() - (
                    SELECT m.run_at FROM taskmq_messages m
                    WHERE m.worker_id = 0 AND m.topic = lane.topic AND m.priority = lane.priority ORDER BY m.run_at LIMIT 1
                ))::float8 / share.ageing, 0) END AS rank
            FROM lane JOIN unnest(?, ?) WITH ORDINALITY AS share (most, ageing, place) ON share.place = lane.place
            WHERE lane.priority IS NOT NULL
         )")
    };
}

/// The lanes to claim from: those given, each after a position.
macro_rules! given_lanes {
    () => {
        "RECURSIVE source AS (
            SELECT topic, priority, min(place) OVER (PARTITION BY topic) AS place, most, due, id, priority AS rank
            FROM unnest(?, ?, ?, ?, ?) WITH ORDINALITY AS t (topic, priority, due, id, most, place)
         )"
    };
}

/// Due messages that nobody holds, lane by lane.
macro_rules! due_messages {
    ($columns:literal, $lock:literal) => {
        concat!(
            "(SELECT topic, priority, most, due, id FROM source ORDER BY place, rank DESC) l
             CROSS JOIN LATERAL (
                SELECT ",
            $columns,
            " FROM taskmq_messages m
                WHERE m.worker_id = 0 AND m.topic = l.topic AND m.priority = l.priority
                AND m.run_at <= statement_timestamp() AND (m.run_at, m.id) > (l.due, l.id)
                AND ",
            unleased!(),
            " ORDER BY m.run_at, m.id LIMIT l.most",
            $lock,
            "
             ) due
             WHERE EXISTS (SELECT 1 FROM taskmq_workers WHERE id = ?)
             LIMIT ?"
        )
    };
}

/// A lease for each message, but none for those with an ordering key, of which one row tells that there are such.
/// MATERIALIZED, for otherwise the planner may run the inner query again and lease more than the limit; and an array of
/// ids, for that is a condition of the primary key's index.
macro_rules! claim_each {
    ($lanes:expr) => {
        concat!("WITH ", $lanes, ", picked AS MATERIALIZED (
            SELECT due.* FROM ", due_messages!("m.id, m.ordering_key", " FOR UPDATE SKIP LOCKED"), "
         ), leased AS (
            UPDATE taskmq_messages m SET worker_id = ?, attempts = attempts + 1, claimed_at = statement_timestamp()
            WHERE m.id = ANY(ARRAY(SELECT id FROM picked WHERE ordering_key IS NULL))
            RETURNING m.id, m.topic, m.attempts, m.crashes, m.max_attempts, m.ordering_key, m.headers, m.payload,
                m.priority, m.run_at, statement_timestamp()
         )
         SELECT * FROM leased
         UNION ALL
         (SELECT id, '', 0, 0::smallint, NULL, ordering_key, NULL, 'null', 0::smallint, statement_timestamp(), statement_timestamp()
          FROM picked WHERE ordering_key IS NOT NULL LIMIT 1)")
    };
}

/// Those with an ordering key of the messages that come first, unleased.
macro_rules! pick_ordered {
    ($lanes:expr) => {
        concat!("WITH ", $lanes, ", picked AS MATERIALIZED (
            SELECT due.* FROM ", due_messages!(
                "m.id, m.topic, m.attempts, m.crashes, m.max_attempts, m.ordering_key, m.headers, m.payload, m.priority, m.run_at", ""), "
         )
         SELECT id, topic, attempts + 1, crashes, max_attempts, ordering_key, headers, payload, priority, run_at,
            statement_timestamp()
         FROM picked WHERE ordering_key IS NOT NULL")
    };
}

/// One lease for all, but for those with an ordering key. No join, which might change the order that the rows were
/// picked in.
macro_rules! claim_batch {
    ($lanes:expr) => {
        concat!("WITH ", $lanes, ", picked AS MATERIALIZED (
            SELECT due.* FROM ", due_messages!(
                "m.id, m.topic, m.attempts, m.crashes, m.max_attempts, m.ordering_key, m.headers, m.payload, m.priority, m.run_at", ""), "
         ), batch AS (
            INSERT INTO taskmq_claims (worker_id, message_ids)
            SELECT ?, array_agg(id) FROM picked WHERE ordering_key IS NULL HAVING count(*) > 0 RETURNING id
         )
         SELECT CASE WHEN ordering_key IS NULL THEN (SELECT batch.id FROM batch) END, id, topic, attempts + 1, crashes, max_attempts,
            ordering_key, headers, payload, priority, run_at,
            statement_timestamp() FROM picked")
    };
}

/// Carries a statement out over all lanes; what it binds behind the worker and the limit stands last.
macro_rules! over_all_lanes {
    ($conn:ident, $claim:ident => $row:ty, $statement:ident $(, $more:expr)?) => {
        load!(
            $conn, Pg => $row,
            $statement!(all_lanes!()),
            Array<Text> = topics($claim),
            Array<BigInt> = shares($claim),
            Array<Nullable<Double>> = ageings($claim),
            BigInt = $claim.worker_id,
            BigInt = $claim.limit,
            $(BigInt = $more,)?
        )?
    };
}

/// The same over the lanes of a claim.
macro_rules! over_lanes {
    ($conn:ident, $claim:ident => $row:ty, $statement:ident, $more:expr) => {
        if $claim.after.is_empty() {
            over_all_lanes!($conn, $claim => $row, $statement, $more)
        } else {
            let (topics, priorities, dues, ids, most) = columns($claim);
            load!(
                $conn, Pg => $row,
                $statement!(given_lanes!()),
                Array<Text> = topics,
                Array<SmallInt> = priorities,
                Array<Timestamptz> = dues,
                Array<BigInt> = ids,
                Array<BigInt> = most,
                BigInt = $claim.worker_id,
                BigInt = $claim.limit,
                BigInt = $more,
            )?
        }
    };
}

/// Gives also whether it met a message with an ordering key, which it leaves alone.
pub(super) fn claim_each(conn: &mut PgConnection, claim: &Claim<'_>) -> Result<(Found, bool)> {
    let began = Instant::now();
    let rows: Vec<ClaimedRow> = over_lanes!(conn, claim => ClaimedSql, claim_each, claim.worker_id);
    let searched = began.elapsed();
    let met = rows.len();
    let leased: Vec<ClaimedRow> = rows.into_iter().filter(|row| row.5.is_none()).collect();
    let ordered = leased.len() < met;
    Ok((Found { claimed: in_order(leased, &topics(claim)), in_line: 0, searched }, ordered))
}

/// By topics as these are ordered, priority and when they were due, for RETURNING promises no order.
pub(super) fn in_order(rows: Vec<ClaimedRow>, topics: &[&str]) -> Vec<Claimed> {
    let place = |topic: &str| topics.iter().position(|t| *t == topic);
    let mut claimed: Vec<Claimed> = rows.into_iter().map(claimed_row).collect();
    claimed.sort_by_cached_key(|c| (place(&c.topic), Reverse(c.lane.0), c.lane.1, c.id));
    claimed
}

/// The claim lock is held.
pub(super) fn claim_in_turn(conn: &mut PgConnection, claim: &Claim<'_>) -> Result<(Vec<Claimed>, usize)> {
    let rows: Vec<ClaimedRow> = over_all_lanes!(conn, claim => ClaimedSql, pick_ordered);
    take_turns(conn, claim.worker_id, rows.into_iter().map(claimed_row).collect())
}

/// The claim lock is held.
pub(super) fn claim_batch(conn: &mut PgConnection, claim: &Claim<'_>) -> Result<Found> {
    let began = Instant::now();
    let rows: Vec<(Option<BatchId>, ClaimedRow)> =
        over_lanes!(conn, claim => (Nullable<BigInt>, ClaimedSql), claim_batch, claim.worker_id);
    let searched = began.elapsed();
    let claimed = rows.into_iter().map(|(batch, row)| Claimed { batch, ..claimed_row(row) });
    let (ordered, mut claimed): (Vec<Claimed>, Vec<Claimed>) =
        claimed.partition(|message| message.ordering_key.is_some());
    if !takes_turns(claim) {
        return Ok(Found { claimed, in_line: ordered.len(), searched });
    }
    let (in_turn, in_line) = take_turns(conn, claim.worker_id, ordered)?;
    claimed.extend(in_turn);
    Ok(Found { claimed, in_line, searched })
}

fn topics<'a>(claim: &Claim<'a>) -> Vec<&'a str> {
    claim.topics.iter().map(|share| share.topic).collect()
}

fn shares(claim: &Claim<'_>) -> Vec<i64> {
    claim.topics.iter().map(|share| share.limit).collect()
}

fn ageings(claim: &Claim<'_>) -> Vec<Option<f64>> {
    claim.topics.iter().map(|share| share.ageing.map(|time| time.as_secs_f64())).collect()
}

type Columns<'a> = (Vec<&'a str>, Vec<i16>, Vec<PgTimestamp>, Vec<MessageId>, Vec<i64>);

/// The lanes to go on in, those topics first that come first in the claim.
fn columns<'a>(claim: &Claim<'a>) -> Columns<'a> {
    let mut columns: Columns<'_> = Default::default();
    for share in claim.topics {
        for position in claim.after.iter().filter(|position| position.topic == share.topic) {
            columns.0.push(&position.topic);
            columns.1.push(position.priority);
            columns.2.push(PgTimestamp(position.due));
            columns.3.push(position.id);
            columns.4.push(share.limit);
        }
    }
    columns
}

/// Lets messages go from the lease of their batch. `false`: that lease is lost.
pub(super) fn release(
    conn: &mut PgConnection,
    worker_id: i64,
    batch: BatchId,
    ids: &[MessageId],
) -> Result<bool> {
    let held = execute!(
        conn, Pg,
        "UPDATE taskmq_claims SET message_ids = ARRAY(SELECT unnest(message_ids) EXCEPT SELECT unnest(?)) WHERE id = ? AND worker_id = ?",
        Array<BigInt> = ids,
        BigInt = batch,
        BigInt = worker_id,
    )?;
    Ok(held > 0)
}

/// From the lease of their batch to leases of their own, those that it still has. `false`: that lease is lost.
pub(super) fn promote(
    conn: &mut PgConnection,
    worker_id: i64,
    batch: BatchId,
    ids: &[MessageId],
) -> Result<bool> {
    let members: Vec<Vec<MessageId>> = load!(
        conn, Pg => Array<BigInt>,
        "SELECT ARRAY(SELECT unnest(message_ids) INTERSECT SELECT unnest(?)) FROM taskmq_claims WHERE id = ? AND worker_id = ? FOR UPDATE",
        Array<BigInt> = ids,
        BigInt = batch,
        BigInt = worker_id,
    )?;
    let held = release(conn, worker_id, batch, ids)?;
    if let Some(members) = members.first() {
        execute!(
            conn, Pg,
            concat!("UPDATE taskmq_messages m SET worker_id = ?, attempts = attempts + 1,
                    claimed_at = (SELECT claimed_at FROM taskmq_claims WHERE id = ?)
             WHERE m.id = ANY(?) AND ", unheld!()),
            BigInt = worker_id,
            BigInt = batch,
            Array<BigInt> = members,
        )?;
    }
    Ok(held)
}

pub(super) fn end_batches(conn: &mut PgConnection, worker_id: i64, batches: &[BatchId]) -> Result<()> {
    execute!(
        conn, Pg,
        "DELETE FROM taskmq_claims WHERE id = ANY(?) AND worker_id = ?",
        Array<BigInt> = batches,
        BigInt = worker_id,
    )?;
    Ok(())
}
