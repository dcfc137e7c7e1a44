//! Leasing: whole batches with one row, or message by message.
//!
//! Each statement that locks or writes names its index. A small table the server would rather read whole, and whoever
//! reads with locks waits for every row that anybody holds: a producer's transaction that is open for long would stop
//! all workers.

use std::collections::HashSet;
use std::time::Duration;

use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Double, Integer, Nullable, SmallInt, Text};

use super::json;
use super::turns::take_turns;
use crate::broker::lanes::Lanes;
use crate::broker::{BatchId, Claim, Claimed, Share};
use crate::statement::{execute, load};
use crate::{Error, MessageId, Result};

/// Other claims of single messages may be about to lease so many, which this one then goes past.
const OTHERS_TAKE: i64 = 100;

pub(super) type ClaimedSql =
    (BigInt, Text, Integer, SmallInt, Nullable<SmallInt>, Nullable<Text>, Nullable<Text>, Text, BigInt);

pub(super) type ClaimedRow =
    (i64, String, i32, i16, Option<i16>, Option<String>, Option<String>, String, i64);

/// The row is read before it is leased, so the attempt that begins is one more than it has.
pub(super) fn claimed_row(
    (id, topic, attempts, crashes, max_attempts, ordering_key, headers, payload, waited): ClaimedRow,
) -> Claimed {
    let attempt = attempts.saturating_add(1);
    let waited = Duration::from_micros(u64::try_from(waited).unwrap_or_default());
    let (batch, lane) = (None, (0, 0));
    Claimed {
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
    }
}

/// What a claim got hold of.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) claimed: Vec<Claimed>,
    /// So many wait for the turn of their ordering key.
    pub(super) in_line: usize,
    /// It met others with an ordering key, which it left for [`claim_in_turn`].
    pub(super) ordered: bool,
    /// Another claim was under way, and so this one has done nothing.
    pub(super) busy: bool,
}

/// Unless this transaction has the lock already, it does nothing but say so when another claim has it: who waited for it
/// in the transaction that settles would keep locks of what it has settled.
pub(super) fn try_claim_in(conn: &mut MysqlConnection, claim: &Claim<'_>, locked: bool) -> Result<Taken> {
    match claim.as_batch {
        true if locked || try_claim_lock(conn)? => claim_alone_in(conn, claim),
        true => Ok(Taken { busy: true, ..Taken::default() }),
        false => claim_in(conn, claim),
    }
}

pub(super) fn claim_in(conn: &mut MysqlConnection, claim: &Claim<'_>) -> Result<Taken> {
    claim_lock(conn, claim.as_batch)?;
    if claim.as_batch {
        return claim_alone_in(conn, claim);
    }
    if !worker_exists(conn, claim.worker_id)? {
        return Ok(Taken::default());
    }
    let (ordered, plain) = partition(lock_due(conn, claim)?);
    let claimed = lease(conn, claim.worker_id, plain)?;
    Ok(Taken { claimed, ordered: !ordered.is_empty(), ..Taken::default() })
}

/// Nobody else claims meanwhile, so each statement here is time that all other workers wait for.
fn claim_alone_in(conn: &mut MysqlConnection, claim: &Claim<'_>) -> Result<Taken> {
    let picked = pick(conn, claim)?;
    let (ordered, plain) = partition(read(conn, &picked)?);
    let Some(mut claimed) = claim_batch(conn, claim.worker_id, plain)? else { return Ok(Taken::default()) };
    if ordered.is_empty() || claimed.is_empty() && !worker_exists(conn, claim.worker_id)? {
        return Ok(Taken { claimed, ..Taken::default() });
    }
    let (in_turn, in_line) = take_turns(conn, claim.worker_id, ordered)?;
    claimed.extend(in_turn);
    Ok(Taken { claimed, in_line, ..Taken::default() })
}

/// The messages with an ordering key that come first, each with a lease of its own if it is its turn. A transaction
/// that nobody else claims in.
pub(super) fn claim_in_turn(conn: &mut MysqlConnection, claim: &Claim<'_>) -> Result<(Vec<Claimed>, usize)> {
    claim_lock(conn, true)?;
    if !worker_exists(conn, claim.worker_id)? {
        return Ok((Vec::new(), 0));
    }
    let picked = pick(conn, claim)?;
    let (ordered, _) = partition(read(conn, &picked)?);
    take_turns(conn, claim.worker_id, ordered)
}

/// Those with an ordering key, and those without.
fn partition(met: Vec<Claimed>) -> (Vec<Claimed>, Vec<Claimed>) {
    met.into_iter().partition(|message| message.ordering_key.is_some())
}

/// Goes through the lanes of a claim, the highest priority of each topic first; `take` gives what it takes of one.
fn through_lanes<T>(
    conn: &mut MysqlConnection,
    claim: &Claim<'_>,
    take: impl Fn(&mut MysqlConnection, &str, i16, i64, &HashSet<MessageId>) -> Result<Vec<T>>,
) -> Result<Vec<T>> {
    let Outlook { leased, highest } = outlook(conn, claim)?;
    let mut taken = Vec::new();
    for (place, priority) in highest {
        let Some(Share { topic, limit, ageing }) = claim.topics.get(place) else { continue };
        let mut highest = Some(priority);
        let mut lanes = Lanes::of(*ageing, || aged_lanes(conn, topic))?;
        let mut room = claim.limit - row_count(taken.len());
        while room > 0
            && let Some(priority) = lanes.next(|below| match highest.take() {
                Some(highest) => Ok(Some(highest)),
                None => next_lane(conn, topic, below),
            })?
        {
            taken.extend(take(conn, topic, priority, room.min(*limit), &leased)?);
            room = claim.limit - row_count(taken.len());
        }
    }
    Ok(taken)
}

fn pick(conn: &mut MysqlConnection, claim: &Claim<'_>) -> Result<Vec<MessageId>> {
    through_lanes(conn, claim, pick_lane)
}

fn lock_due(conn: &mut MysqlConnection, claim: &Claim<'_>) -> Result<Vec<Claimed>> {
    through_lanes(conn, claim, lock_lane)
}

/// Claims of batches exclude each other and claims of single messages, which share: what a batch leases is written
/// nowhere but in `taskmq_claims`, so whoever claims must see all of it. The row of the schema's version is the lock.
pub(super) fn claim_lock(conn: &mut MysqlConnection, alone: bool) -> Result<()> {
    let _: Vec<i32> = if alone {
        load!(conn, Mysql => Integer, "SELECT version FROM taskmq_schema ORDER BY version LIMIT 1 FOR UPDATE")?
    } else {
        load!(conn, Mysql => Integer, "SELECT version FROM taskmq_schema ORDER BY version LIMIT 1 LOCK IN SHARE MODE")?
    };
    Ok(())
}

/// [`claim_lock`] alone, if nobody else has it.
fn try_claim_lock(conn: &mut MysqlConnection) -> Result<bool> {
    let got: Vec<i32> = load!(
        conn, Mysql => Integer,
        "SELECT version FROM taskmq_schema WHERE version = (SELECT min(version) FROM taskmq_schema) FOR UPDATE SKIP LOCKED"
    )?;
    Ok(!got.is_empty())
}

/// Every message that is leased with its batch.
pub(super) fn leased(conn: &mut MysqlConnection) -> Result<HashSet<MessageId>> {
    let lists: Vec<String> = load!(conn, Mysql => Text, "SELECT message_ids FROM taskmq_claims")?;
    let mut leased = HashSet::new();
    for list in lists {
        leased.extend(ids(&list)?);
    }
    Ok(leased)
}

/// What a claim has to know before it takes anything.
#[derive(Default)]
struct Outlook {
    leased: HashSet<MessageId>,
    /// The places in the claim of the topics that have any message which no single lease holds, each with the highest
    /// priority of those.
    highest: Vec<(usize, i16)>,
}

/// With one statement, for everybody waits for it.
fn outlook(conn: &mut MysqlConnection, claim: &Claim<'_>) -> Result<Outlook> {
    let topics: Vec<&str> = claim.topics.iter().map(|share| share.topic).collect();
    let rows: Vec<(Option<i64>, Option<i64>, Option<String>)> = load!(
        conn, Mysql => (Nullable<BigInt>, Nullable<BigInt>, Nullable<Text>),
        "SELECT CAST(NULL AS SIGNED), CAST(NULL AS SIGNED), message_ids FROM taskmq_claims
         UNION ALL
         SELECT CAST(topics.place AS SIGNED),
                CAST((SELECT m.priority FROM taskmq_messages m FORCE INDEX (taskmq_messages_ready)
                      WHERE m.worker_id = 0 AND m.topic = topics.topic ORDER BY m.priority DESC LIMIT 1) AS SIGNED),
                NULL
         FROM JSON_TABLE(?, '$[*]' COLUMNS (place FOR ORDINALITY, topic VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin PATH '$')) topics",
        Text = json(&topics)?,
    )?;
    let mut outlook = Outlook::default();
    for row in rows {
        match row {
            (_, _, Some(list)) => outlook.leased.extend(ids(&list)?),
            (Some(place), Some(priority), None) => {
                let place = usize::try_from(place - 1).unwrap_or_default();
                outlook.highest.push((place, i16::try_from(priority).unwrap_or_default()));
            }
            _ => {}
        }
    }
    outlook.highest.sort_unstable();
    Ok(outlook)
}

/// The due messages of a lane that no batch holds. Reads the index alone.
fn pick_lane(
    conn: &mut MysqlConnection,
    topic: &str,
    priority: i16,
    room: i64,
    leased: &HashSet<MessageId>,
) -> Result<Vec<MessageId>> {
    let due: Vec<MessageId> = load!(
        conn, Mysql => BigInt,
        "SELECT id FROM taskmq_messages FORCE INDEX (taskmq_messages_ready)
         WHERE worker_id = 0 AND topic = ? AND priority = ? AND run_at <= CURRENT_TIMESTAMP(6) ORDER BY run_at, id LIMIT ?",
        Text = topic,
        SmallInt = priority,
        BigInt = room.saturating_add(row_count(leased.len())),
    )?;
    let room = usize::try_from(room).unwrap_or_default();
    Ok(due.into_iter().filter(|id| !leased.contains(id)).take(room).collect())
}

/// The due messages of a lane that nobody holds, locked.
fn lock_lane(
    conn: &mut MysqlConnection,
    topic: &str,
    priority: i16,
    room: i64,
    leased: &HashSet<MessageId>,
) -> Result<Vec<Claimed>> {
    if !leased.is_empty() {
        return lock_others(conn, topic, priority, room, leased);
    }
    let due: Vec<ClaimedRow> = load!(
        conn, Mysql => ClaimedSql,
        "SELECT id, topic, attempts, crashes, max_attempts, ordering_key, headers, payload,
                TIMESTAMPDIFF(MICROSECOND, run_at, CURRENT_TIMESTAMP(6))
         FROM taskmq_messages FORCE INDEX (taskmq_messages_ready)
         WHERE worker_id = 0 AND topic = ? AND priority = ? AND run_at <= CURRENT_TIMESTAMP(6)
         ORDER BY run_at, id LIMIT ? FOR UPDATE SKIP LOCKED",
        Text = topic,
        SmallInt = priority,
        BigInt = room,
    )?;
    Ok(due.into_iter().map(claimed_row).collect())
}

/// As [`lock_lane`], where batches hold some. A read that locks would lock those too on its way and keep their workers from
/// settling, so the index tells first whom to lock.
fn lock_others(
    conn: &mut MysqlConnection,
    topic: &str,
    priority: i16,
    room: i64,
    leased: &HashSet<MessageId>,
) -> Result<Vec<Claimed>> {
    let mut seen = HashSet::new();
    let mut locked: Vec<Claimed> = Vec::new();
    let mut window = room.saturating_add(OTHERS_TAKE);
    loop {
        let due = pick_lane(conn, topic, priority, window, leased)?;
        let is_all = row_count(due.len()) < window;
        let found: Vec<MessageId> = due.into_iter().filter(|id| seen.insert(*id)).collect();
        if found.is_empty() {
            return Ok(locked);
        }
        let mut rows: Vec<(i64, ClaimedRow)> = load!(
            conn, Mysql => (BigInt, ClaimedSql),
            "SELECT found.place, m.id, m.topic, m.attempts, m.crashes, m.max_attempts, m.ordering_key, m.headers, m.payload,
                    TIMESTAMPDIFF(MICROSECOND, m.run_at, CURRENT_TIMESTAMP(6))
             FROM JSON_TABLE(?, '$[*]' COLUMNS (place FOR ORDINALITY, id BIGINT PATH '$')) found
             STRAIGHT_JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = found.id
             WHERE m.worker_id = 0 AND m.run_at <= CURRENT_TIMESTAMP(6) LIMIT ? FOR UPDATE SKIP LOCKED",
            Text = json(&found)?,
            BigInt = room.saturating_sub(row_count(locked.len())),
        )?;
        rows.sort_unstable_by_key(|row| row.0);
        locked.extend(rows.into_iter().map(|row| claimed_row(row.1)));
        if is_all || row_count(locked.len()) >= room {
            return Ok(locked);
        }
        window = window.saturating_mul(4);
    }
}

/// The messages of these ids, as they are ordered.
pub(super) fn read(conn: &mut MysqlConnection, picked: &[MessageId]) -> Result<Vec<Claimed>> {
    if picked.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows: Vec<(i64, ClaimedRow)> = load!(
        conn, Mysql => (BigInt, ClaimedSql),
        "SELECT picked.place, m.id, m.topic, m.attempts, m.crashes, m.max_attempts, m.ordering_key, m.headers, m.payload,
                TIMESTAMPDIFF(MICROSECOND, m.run_at, CURRENT_TIMESTAMP(6))
         FROM JSON_TABLE(?, '$[*]' COLUMNS (place FOR ORDINALITY, id BIGINT PATH '$')) picked
         STRAIGHT_JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = picked.id",
        Text = json(picked)?,
    )?;
    rows.sort_unstable_by_key(|row| row.0);
    Ok(rows.into_iter().map(|row| claimed_row(row.1)).collect())
}

/// One lease for all of them. `None`: the worker is not registered any more.
fn claim_batch(
    conn: &mut MysqlConnection,
    worker_id: i64,
    mut messages: Vec<Claimed>,
) -> Result<Option<Vec<Claimed>>> {
    if messages.is_empty() {
        return Ok(Some(messages));
    }
    let ids: Vec<MessageId> = messages.iter().map(|m| m.id).collect();
    // To be told what the server called it would be one more statement.
    let batch: BatchId = fastrand::i64(1..);
    let leased = execute!(
        conn,
        Mysql,
        "INSERT INTO taskmq_claims (id, worker_id, message_ids) SELECT ?, id, ? FROM taskmq_workers WHERE id = ?",
        BigInt = batch,
        Text = json(&ids)?,
        BigInt = worker_id,
    )?;
    for message in &mut messages {
        message.batch = Some(batch);
    }
    Ok((leased > 0).then_some(messages))
}

pub(super) fn batches_of(conn: &mut MysqlConnection, worker_id: i64) -> Result<Vec<BatchId>> {
    Ok(load!(conn, Mysql => BigInt, "SELECT id FROM taskmq_claims WHERE worker_id = ?", BigInt = worker_id)?)
}

/// Locks those of these batches that the worker still holds, so that a rescuer waits and then sees what is left.
pub(super) fn lock_batches(
    conn: &mut MysqlConnection,
    worker_id: i64,
    batches: &[BatchId],
) -> Result<Vec<(BatchId, Vec<MessageId>)>> {
    if batches.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(BatchId, String)> = load!(
        conn, Mysql => (BigInt, Text),
        "SELECT c.id, c.message_ids FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) b
         STRAIGHT_JOIN taskmq_claims c FORCE INDEX (PRIMARY) ON c.id = b.id WHERE c.worker_id = ? FOR UPDATE",
        Text = json(batches)?,
        BigInt = worker_id,
    )?;
    rows.into_iter().map(|(batch, list)| Ok((batch, ids(&list)?))).collect()
}

/// From the lease of their batch, which is locked, to leases of their own.
pub(super) fn promote_in(
    conn: &mut MysqlConnection,
    worker_id: i64,
    batch: BatchId,
    ids: &[MessageId],
) -> Result<()> {
    let list = json(ids)?;
    execute!(
        conn, Mysql,
        "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) held STRAIGHT_JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = held.id
         JOIN taskmq_claims c ON c.id = ?
         SET m.worker_id = ?, m.attempts = m.attempts + 1, m.claimed_at = c.claimed_at WHERE m.worker_id = 0",
        Text = &list,
        BigInt = batch,
        BigInt = worker_id,
    )?;
    release(conn, batch, ids)
}

/// Lets messages go from the lease of their batch, which is locked.
pub(super) fn release(conn: &mut MysqlConnection, batch: BatchId, ids: &[MessageId]) -> Result<()> {
    let gone: HashSet<MessageId> = ids.iter().copied().collect();
    let lists: Vec<String> =
        load!(conn, Mysql => Text, "SELECT message_ids FROM taskmq_claims WHERE id = ?", BigInt = batch)?;
    for list in lists {
        let left: Vec<MessageId> = self::ids(&list)?.into_iter().filter(|id| !gone.contains(id)).collect();
        execute!(
            conn,
            Mysql,
            "UPDATE taskmq_claims SET message_ids = ? WHERE id = ?",
            Text = json(&left)?,
            BigInt = batch,
        )?;
    }
    Ok(())
}

pub(super) fn end_batches(conn: &mut MysqlConnection, batches: &[BatchId]) -> Result<()> {
    for batch in batches {
        execute!(conn, Mysql, "DELETE FROM taskmq_claims WHERE id = ?", BigInt = *batch)?;
    }
    Ok(())
}

/// A lease for each message.
pub(super) fn lease(
    conn: &mut MysqlConnection,
    worker_id: i64,
    claimed: Vec<Claimed>,
) -> Result<Vec<Claimed>> {
    if claimed.is_empty() {
        return Ok(claimed);
    }
    let ids: Vec<MessageId> = claimed.iter().map(|c| c.id).collect();
    execute!(
        conn, Mysql,
        "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) picked STRAIGHT_JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = picked.id
         SET m.worker_id = ?, m.attempts = m.attempts + 1, m.claimed_at = CURRENT_TIMESTAMP(6)",
        Text = json(&ids)?,
        BigInt = worker_id,
    )?;
    Ok(claimed)
}

pub(super) fn worker_exists(conn: &mut MysqlConnection, worker_id: i64) -> Result<bool> {
    let found: Vec<i64> =
        load!(conn, Mysql => BigInt, "SELECT id FROM taskmq_workers WHERE id = ?", BigInt = worker_id)?;
    Ok(!found.is_empty())
}

/// The highest priority below `below` of which the topic has any message that nobody holds.
pub(super) fn next_lane(conn: &mut MysqlConnection, topic: &str, below: i32) -> Result<Option<i16>> {
    let found: Vec<i16> = load!(
        conn, Mysql => SmallInt,
        "SELECT priority FROM taskmq_messages FORCE INDEX (taskmq_messages_ready)
         WHERE worker_id = 0 AND topic = ? AND priority < ? ORDER BY priority DESC LIMIT 1",
        Text = topic,
        Integer = below,
    )?;
    Ok(found.first().copied())
}

/// Each priority of the topic, and for how many seconds its first message has been due.
fn aged_lanes(conn: &mut MysqlConnection, topic: &str) -> Result<Vec<(i16, f64)>> {
    let mut lanes = Vec::new();
    let mut lane = next_lane(conn, topic, i32::from(i16::MAX) + 1)?;
    while let Some(priority) = lane {
        let waited: Vec<f64> = load!(
            conn, Mysql => Double,
            "SELECT TIMESTAMPDIFF(MICROSECOND, run_at, CURRENT_TIMESTAMP(6)) / 1e6
             FROM taskmq_messages FORCE INDEX (taskmq_messages_ready)
             WHERE worker_id = 0 AND topic = ? AND priority = ? ORDER BY run_at LIMIT 1",
            Text = topic,
            SmallInt = priority,
        )?;
        lanes.extend(waited.first().map(|waited| (priority, *waited)));
        lane = next_lane(conn, topic, i32::from(priority))?;
    }
    Ok(lanes)
}

pub(super) fn ids(list: &str) -> Result<Vec<MessageId>> {
    serde_json::from_str(list).map_err(|source| Error::Decode { what: "taskmq_claims.message_ids", source })
}

pub(super) fn row_count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
