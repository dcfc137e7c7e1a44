//! Ending attempts. Every write checks the lease.

use std::collections::{BTreeMap, HashSet};

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text};
use serde::Serialize;

use super::claim::{self, Found, unheld};
use super::turns::pass_turns;
use super::{logs, payloads};
use crate::broker::again::again;
use crate::broker::groups::{DoneGroup, Groups};
use crate::broker::workflows::advance;
use crate::broker::{BatchId, Claim, Exchanged, Outcome, Settlement, WorkerIdentity, nobody};
use crate::statement::load;
use crate::{Error, MessageId, Result};

/// The messages of these ids. The array is the condition of the primary key's index, so there is no join that the
/// planner could turn round and walk the whole table for.
macro_rules! by_id {
    () => {
        "m.id = ANY(?)"
    };
}

/// What the CTE `known` says of a message. A scalar subquery and no join: to an UPDATE or DELETE that joins, PostgreSQL
/// hands a copy of the whole joined row with each message, and so the work would grow with the square of their number.
macro_rules! known {
    ($place:literal) => {
        known!($place, "m.id")
    };
    ($place:literal, $id:literal) => {
        concat!("(SELECT of FROM known) -> ", $id, "::text ->> ", $place)
    };
}

/// The message's own lease holds: its attempt is the first thing that is known of it.
macro_rules! held {
    () => {
        concat!("m.worker_id = ? AND m.attempts = (", known!(0), ")::int")
    };
}

pub(super) fn exchange(
    conn: &mut PgConnection,
    worker: &WorkerIdentity,
    settlements: &[Settlement],
    ended: &[BatchId],
    claim: Option<&Claim<'_>>,
) -> Result<Exchanged> {
    let sorted = Sorted::of(settlements, ended);
    let batch_claim = claim.filter(|claim| claim.as_batch);
    let (mut written, mut found) = match (&batch_claim, sorted.statements()) {
        (None, 0) => (Vec::new(), Found::default()),
        // One statement is a transaction, too.
        (None, 1) => (sorted.write(conn, worker)?, Found::default()),
        (Some(claim), 0) => (Vec::new(), claim::claim(conn, claim)?),
        _ => again(conn, |conn| {
            conn.transaction(|conn| {
                if batch_claim.is_some() && !(sorted.turns.is_empty() && sorted.steps.is_empty()) {
                    // Before the locks of turns, for who claims has them in this order, and of workflows.
                    claim::claim_alone_from_now(conn)?;
                }
                let written = sorted.write(conn, worker)?;
                let Some(claim) = batch_claim else { return Ok((written, Found::default())) };
                claim::claim_alone_from_now(conn)?;
                Ok::<_, Error>((written, claim::claim_batch(conn, claim)?))
            })
        })?,
    };
    if let Some(claim) = claim.filter(|claim| !claim.as_batch) {
        found = claim::claim(conn, claim)?;
    }
    let mut lost = Vec::new();
    if written.len() < settlements.len() {
        written.sort_unstable();
        let unwritten: Vec<&Settlement> =
            settlements.iter().filter(|s| written.binary_search(&s.id).is_err()).collect();
        written = settled_before(conn, worker.id, &unwritten)?;
        lost = unwritten.into_iter().map(|s| s.id).filter(|id| !written.contains(id)).collect();
    }
    let Found { claimed, in_line, searched } = found;
    Ok(Exchanged { lost, claimed, in_line, busy: false, searched })
}

/// Settlements by the statement that writes them.
struct Sorted<'a> {
    batches: Groups<'a>,
    done: Vec<&'a Settlement>,
    failed: Vec<&'a Settlement>,
    handed_back: Vec<&'a Settlement>,
    ended: &'a [BatchId],
    /// Whose turn of an ordering key may be over.
    turns: Vec<MessageId>,
    /// Those that end steps of workflows.
    steps: Vec<&'a Settlement>,
    /// Those with lines to write or to delete.
    logs: Vec<&'a Settlement>,
    /// Whose payload is deleted.
    forgotten: Vec<MessageId>,
}

impl<'a> Sorted<'a> {
    fn of(settlements: &'a [Settlement], ended: &'a [BatchId]) -> Self {
        let mut sorted = Sorted {
            batches: Groups::default(),
            done: Vec::new(),
            failed: Vec::new(),
            handed_back: Vec::new(),
            ended,
            turns: settlements.iter().filter(|s| s.ends_turn()).map(|s| s.id).collect(),
            steps: settlements.iter().filter(|s| s.ends_step()).collect(),
            logs: settlements.iter().filter(|s| s.touches_log()).collect(),
            forgotten: settlements.iter().filter(|s| s.forgets_payload()).map(|s| s.id).collect(),
        };
        for settlement in settlements {
            match (settlement.batch, &settlement.outcome) {
                (Some(batch), _) => sorted.batches.add(batch, settlement),
                (None, Outcome::Done { .. }) => sorted.done.push(settlement),
                (None, Outcome::Retry { .. } | Outcome::Dead { .. } | Outcome::Cancelled { .. }) => {
                    sorted.failed.push(settlement);
                }
                (None, Outcome::HandBack) => sorted.handed_back.push(settlement),
            }
        }
        sorted
    }

    /// How many statements [`write`](Self::write) takes; two stand for "more than one".
    fn statements(&self) -> usize {
        let many = !self.turns.is_empty()
            || !self.steps.is_empty()
            || !self.logs.is_empty()
            || !self.forgotten.is_empty()
            || !self.failed.is_empty()
            || !self.batches.failed.is_empty()
            || !self.batches.handed_back.is_empty();
        let [batches, done, handed_back] =
            [self.batches.done.len(), self.done.len().min(1), self.handed_back.len().min(1)];
        let unended =
            self.ended.iter().any(|batch| self.batches.done.iter().all(|group| group.batch != *batch));
        2 * usize::from(many) + batches + done + handed_back + usize::from(unended)
    }

    /// Gives the ids of those whose lease still held.
    fn write(&self, conn: &mut PgConnection, worker: &WorkerIdentity) -> Result<Vec<MessageId>> {
        let mut written = Vec::new();
        let mut failed = self.failed.clone();
        for group in &self.batches.failed {
            if claim::promote(conn, worker.id, group.batch, &group.ids())? {
                failed.extend(&group.settlements);
            }
        }
        for group in &self.batches.handed_back {
            if claim::release(conn, worker.id, group.batch, &group.ids())? {
                written.extend(group.ids());
            }
        }
        if !failed.is_empty() {
            written.extend(retry(conn, worker, &failed)?);
            written.extend(bury(conn, worker, &failed)?);
        }
        if !self.handed_back.is_empty() {
            written.extend(hand_back(conn, worker, &self.handed_back)?);
        }
        if !self.done.is_empty() {
            written.extend(done(conn, worker, &self.done)?);
        }
        if !self.turns.is_empty() {
            let written: HashSet<MessageId> = written.iter().copied().collect();
            let turns: Vec<MessageId> =
                self.turns.iter().copied().filter(|id| written.contains(id)).collect();
            pass_turns(conn, &turns)?;
        }
        let mut ended = self.ended.to_vec();
        let groups = &self.batches.done;
        for (at, group) in groups.iter().enumerate() {
            let last = groups[at + 1..].iter().all(|later| later.batch != group.batch);
            let ends = last && ended.contains(&group.batch);
            written.extend(done_of_batch(conn, worker, group, ends)?);
            ended.retain(|batch| !ends || *batch != group.batch);
        }
        if !ended.is_empty() {
            claim::end_batches(conn, worker.id, &ended)?;
        }
        advance(conn, self.steps.iter().copied().filter(|s| written.contains(&s.id)))?;
        if !self.logs.is_empty() {
            let written: HashSet<MessageId> = written.iter().copied().collect();
            logs::write(conn, self.logs.iter().copied().filter(|s| written.contains(&s.id)))?;
        }
        if !self.forgotten.is_empty() {
            let written: HashSet<MessageId> = written.iter().copied().collect();
            let forgotten: Vec<MessageId> =
                self.forgotten.iter().copied().filter(|id| written.contains(id)).collect();
            payloads::delete(conn, &forgotten)?;
        }
        Ok(written)
    }
}

/// Acks messages of one batch. The lease is locked to the end, so that a rescuer waits and then sees what is left.
fn done_of_batch(
    conn: &mut PgConnection,
    worker: &WorkerIdentity,
    group: &DoneGroup<'_>,
    ends: bool,
) -> Result<Vec<MessageId>> {
    let ids = group.ids();
    let number = i64::try_from(ids.len()).unwrap_or(i64::MAX);
    let keep = group.retention.seconds();
    let results =
        group.has_results().then(|| of_messages(ids.iter().copied().zip(group.results()))).transpose()?;
    let gone: Vec<(i64, Vec<MessageId>)> = load!(
        conn, Pg => (BigInt, Array<BigInt>),
        concat!("WITH batch AS MATERIALIZED (
            SELECT claimed_at, message_ids FROM taskmq_claims WHERE id = ? AND worker_id = ? FOR UPDATE
         ), gone AS (
            DELETE FROM taskmq_messages m
            WHERE m.id = ANY(ARRAY(SELECT unnest(?) INTERSECT SELECT unnest(message_ids) FROM batch)) AND ", unheld!(), "
            RETURNING m.*
         ), known AS MATERIALIZED (SELECT ?::jsonb AS of),
         kept AS (
            INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, claimed_at, keep_seconds, worker_id, attempts,
                crashes, max_attempts, unique_key, ordering_key, headers, payload, result)
            SELECT id, topic, 'done', priority, run_at, created_at, (SELECT claimed_at FROM batch), ?, ?, attempts + 1,
                crashes, max_attempts, unique_key, ordering_key, headers, payload, ((SELECT of FROM known) ->> id::text)::json
            FROM gone WHERE ?
         ), forgotten AS (
            DELETE FROM taskmq_failures WHERE message_id = ANY(ARRAY(SELECT id FROM gone WHERE attempts > 0 AND NOT ?))
         ), ended AS (
            DELETE FROM taskmq_claims WHERE id = ? AND worker_id = ? AND ?
         )
         SELECT n.n, CASE WHEN n.n = ? THEN '{}' ELSE ARRAY(SELECT id FROM gone) END FROM (SELECT count(*) AS n FROM gone) n"),
        BigInt = group.batch,
        BigInt = worker.id,
        Array<BigInt> = &ids,
        Nullable<Text> = results,
        Nullable<BigInt> = keep,
        BigInt = worker.id,
        Bool = keep != Some(0),
        Bool = keep != Some(0),
        BigInt = group.batch,
        BigInt = worker.id,
        Bool = ends,
        BigInt = number,
    )?;
    // If it is not all of them, the lease is lost, or a person deleted messages while they ran.
    Ok(gone.into_iter().find(|(gone, _)| *gone != number).map_or(ids, |(_, written)| written))
}

/// Acks messages that have leases of their own.
pub(super) fn done(
    conn: &mut PgConnection,
    worker: &WorkerIdentity,
    settlements: &[&Settlement],
) -> Result<Vec<MessageId>> {
    let of = |settlement: &Settlement| match &settlement.outcome {
        Outcome::Done { result, retention } => {
            Some((settlement.id, (settlement.attempt, retention.seconds(), result.clone())))
        }
        _ => None,
    };
    let done: Vec<_> = settlements.iter().filter_map(|s| of(s)).collect();
    Ok(load!(
        conn, Pg => BigInt,
        concat!("WITH known AS MATERIALIZED (SELECT ?::jsonb AS of), gone AS (
            DELETE FROM taskmq_messages m WHERE ", by_id!(), " AND ", held!(), "
            RETURNING m.*, (", known!(1), ")::bigint AS keep, ", known!(2), " AS result
         ), kept AS (
            INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, claimed_at, keep_seconds, worker_id, attempts,
                crashes, max_attempts, unique_key, ordering_key, headers, payload, result)
            SELECT id, topic, 'done', priority, run_at, created_at, claimed_at, keep, worker_id,
                attempts, crashes, max_attempts, unique_key, ordering_key, headers, payload, result::json
            FROM gone WHERE keep IS NULL OR keep > 0
         ), forgotten AS (
            DELETE FROM taskmq_failures WHERE message_id = ANY(ARRAY(SELECT id FROM gone WHERE keep = 0 AND attempts > 1))
         )
         SELECT id FROM gone"),
        Text = of_messages(done.iter().map(|(id, of)| (*id, of)))?,
        Array<BigInt> = ids(&done),
        BigInt = worker.id,
    )?)
}

/// Writes the retries among these.
fn retry(conn: &mut PgConnection, worker: &WorkerIdentity, failed: &[&Settlement]) -> Result<Vec<MessageId>> {
    let of = |settlement: &Settlement| match &settlement.outcome {
        Outcome::Retry { delay, kind, error } => {
            let micros = i64::try_from(delay.as_micros()).unwrap_or(i64::MAX);
            Some((settlement.id, (settlement.attempt, micros, *kind, error.clone())))
        }
        _ => None,
    };
    let retries: Vec<_> = failed.iter().filter_map(|s| of(s)).collect();
    if retries.is_empty() {
        return Ok(Vec::new());
    }
    Ok(load!(
        conn, Pg => BigInt,
        concat!("WITH known AS MATERIALIZED (SELECT ?::jsonb AS of), again AS (
            UPDATE taskmq_messages m SET worker_id = 0, suspicions = 0,
                run_at = clock_timestamp() + (", known!(1), ")::bigint * interval '1 microsecond'
            WHERE ", by_id!(), " AND ", held!(), " RETURNING m.id, m.attempts
         ), noted AS (
            INSERT INTO taskmq_failures (message_id, attempt, kind, error, worker)
            SELECT id, attempts, ", known!(2, "id"), ", ", known!(3, "id"), ", ? FROM again
         )
         SELECT id FROM again"),
        Text = of_messages(retries.iter().map(|(id, of)| (*id, of)))?,
        Array<BigInt> = ids(&retries),
        BigInt = worker.id,
        Text = worker.label(),
    )?)
}

/// Writes the dead letters and the cancelled ones among these. Without a kind the attempt never began.
fn bury(conn: &mut PgConnection, worker: &WorkerIdentity, failed: &[&Settlement]) -> Result<Vec<MessageId>> {
    let of = |settlement: &Settlement| {
        let (state, kind, error) = settlement.outcome.unsuccessful_end()?;
        Some((settlement.id, (settlement.attempt, kind, error.to_owned(), state.as_str())))
    };
    let dead: Vec<_> = failed.iter().filter_map(|s| of(s)).collect();
    if dead.is_empty() {
        return Ok(Vec::new());
    }
    Ok(load!(
        conn, Pg => BigInt,
        concat!("WITH known AS MATERIALIZED (SELECT ?::jsonb AS of), gone AS (
            DELETE FROM taskmq_messages m WHERE ", by_id!(), " AND ", held!(), "
            RETURNING m.*, ", known!(1), " AS kind, ", known!(2), " AS error, ", known!(3), " AS state
         ), kept AS (
            INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, claimed_at, worker_id, attempts,
                crashes, max_attempts, unique_key, ordering_key, headers, payload, error)
            SELECT id, topic, state, priority, run_at, created_at, claimed_at, worker_id, attempts - (kind IS NULL)::int,
                crashes, max_attempts, unique_key, ordering_key, headers, payload, error FROM gone
         ), noted AS (
            INSERT INTO taskmq_failures (message_id, attempt, kind, error, worker)
            SELECT id, attempts, kind, error, ? FROM gone WHERE kind IS NOT NULL
         )
         SELECT id FROM gone"),
        Text = of_messages(dead.iter().map(|(id, of)| (*id, of)))?,
        Array<BigInt> = ids(&dead),
        BigInt = worker.id,
        Text = worker.label(),
    )?)
}

fn hand_back(
    conn: &mut PgConnection,
    worker: &WorkerIdentity,
    settlements: &[&Settlement],
) -> Result<Vec<MessageId>> {
    let back: Vec<_> = settlements.iter().map(|s| (s.id, (s.attempt,))).collect();
    Ok(load!(
        conn, Pg => BigInt,
        concat!("WITH known AS MATERIALIZED (SELECT ?::jsonb AS of)
         UPDATE taskmq_messages m SET attempts = attempts - 1, worker_id = ", nobody!(), "
         WHERE ", by_id!(), " AND ", held!(), " RETURNING m.id"),
        Text = of_messages(back.iter().map(|(id, of)| (*id, of)))?,
        Array<BigInt> = ids(&back),
        BigInt = worker.id,
    )?)
}

/// Which of these leases have written their end already, in a transaction whose reply was lost.
fn settled_before(
    conn: &mut PgConnection,
    worker_id: i64,
    settlements: &[&Settlement],
) -> Result<Vec<MessageId>> {
    let ended: Vec<(MessageId, i32)> = load!(
        conn, Pg => (BigInt, Integer),
        "SELECT id, attempts FROM taskmq_archive WHERE id = ANY(?) AND worker_id = ?",
        Array<BigInt> = settlements.iter().map(|s| s.id).collect::<Vec<_>>(),
        BigInt = worker_id,
    )?;
    let before = settlements.iter().filter(|s| ended.contains(&(s.id, s.attempt)));
    Ok(before.map(|s| s.id).collect())
}

fn ids<T>(of: &[(MessageId, T)]) -> Vec<MessageId> {
    of.iter().map(|(id, _)| *id).collect()
}

/// What a statement needs to know of each message, as a JSON object by id.
fn of_messages<T: Serialize>(of: impl Iterator<Item = (MessageId, T)>) -> Result<String> {
    let of: BTreeMap<MessageId, T> = of.collect();
    serde_json::to_string(&of).map_err(|source| Error::Encode { what: "the outcomes", source })
}
