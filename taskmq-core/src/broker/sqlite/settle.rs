//! Ending attempts. Every write checks the lease.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use diesel::sqlite::Sqlite;

use super::claim::{batches_of, promote_in, release};
use super::runs::runs;
use super::turns::pass_turns;
use super::{delay_modifier, json_list, logs, payloads};
use crate::broker::groups::{DoneGroup, Groups};
use crate::broker::workflows::advance;
use crate::broker::{Outcome, Settlement, WorkerIdentity, nobody};
use crate::statement::{execute, load};
use crate::{Error, MessageId, Result, Retention};

/// Writes every outcome whose lease holds, and gives the others.
pub(super) fn settle_in(
    conn: &mut SqliteConnection,
    worker: &WorkerIdentity,
    settlements: &[Settlement],
) -> Result<Vec<MessageId>> {
    let mut lost = Vec::new();
    let mut before = Vec::new();
    let mut turns = Vec::new();
    let mut groups = Groups::default();
    let batches =
        if settlements.iter().any(|s| s.batch.is_some()) { batches_of(conn, worker.id)? } else { Vec::new() };
    for settlement in settlements {
        match settlement.batch.filter(|batch| batches.contains(batch)) {
            Some(batch) => groups.add(batch, settlement),
            None if settlement.batch.is_none() && settle_one(conn, worker, settlement)? => {
                turns.extend(settlement.ends_turn().then_some(settlement.id));
            }
            None if settled_before(conn, worker.id, settlement)? => before.push(settlement.id),
            None => lost.push(settlement.id),
        }
    }
    pass_turns(conn, &turns)?;
    for group in groups.done {
        settle_done(conn, &group)?;
    }
    for group in groups.handed_back {
        release(conn, group.batch, &json_list(&group.ids())?)?;
    }
    for group in groups.failed {
        promote_in(conn, worker.id, group.batch, &json_list(&group.ids())?)?;
        for settlement in group.settlements {
            if settle_one(conn, worker, settlement)? {
                continue;
            }
            let written = settled_before(conn, worker.id, settlement)?;
            (if written { &mut before } else { &mut lost }).push(settlement.id);
        }
    }
    advance(conn, settlements.iter().filter(|s| !lost.contains(&s.id)))?;
    if settlements.iter().any(Settlement::touches_log) {
        logs::write(conn, settlements.iter().filter(|s| !lost.contains(&s.id) && !before.contains(&s.id)))?;
    }
    let forgotten: Vec<MessageId> =
        settlements.iter().filter(|s| s.forgets_payload() && !lost.contains(&s.id)).map(|s| s.id).collect();
    if !forgotten.is_empty() {
        payloads::delete(conn, &json_list(&forgotten)?)?;
    }
    Ok(lost)
}

/// What every message of a batch that is done now has in common, by the seconds to keep it and the batch.
/// LIMIT keeps SQLite from working the times out again for each message.
macro_rules! claim_done {
    () => {
        "(SELECT worker_id, claimed_at, strftime('%Y-%m-%d %H:%M:%f', 'now') AS finished_at, ? AS keep_seconds
          FROM taskmq_claims WHERE id = ? LIMIT 1) claim"
    };
}

/// The head of the statement that archives messages `m` of a claim. OR FAIL: a failure undoes the whole transaction
/// anyway, so SQLite need not keep what would undo this statement alone.
macro_rules! archive_done {
    ($result:literal) => {
        concat!(
            "INSERT OR FAIL INTO taskmq_archive (id, topic, state, priority, run_at, created_at, claimed_at, finished_at, keep_seconds,
                worker_id, attempts, crashes, max_attempts, unique_key, ordering_key, headers, payload, result)
             SELECT m.id, m.topic, 'done', m.priority, m.run_at, m.created_at, claim.claimed_at, claim.finished_at, claim.keep_seconds,
                claim.worker_id, m.attempts + 1, m.crashes, m.max_attempts, m.unique_key, m.ordering_key, m.headers, m.payload, ",
            $result,
            " FROM ",
            claim_done!()
        )
    };
}

/// Acks messages of one batch whose lease holds. NOT INDEXED leaves the primary key as the way to them; `worker_id = 0`
/// alone would invite SQLite to walk the whole index of what is ready. A message that is gone was deleted by a person while it ran.
pub(super) fn settle_done(conn: &mut SqliteConnection, group: &DoneGroup<'_>) -> Result<()> {
    let runs = runs(group.ids());
    let listed = json_list(&runs)?;
    match keep_seconds(group.retention) {
        // Consumers that return nothing are many, and reading whole runs of ids is much faster than each by itself.
        Some(keep) if !group.has_results() => execute!(
            conn, Sqlite,
            concat!(archive_done!("NULL"), " CROSS JOIN json_each(?) run
             CROSS JOIN taskmq_messages m NOT INDEXED ON m.id BETWEEN run.value ->> 0 AND run.value ->> 1 AND m.worker_id = 0"),
            Nullable<BigInt> = keep,
            BigInt = group.batch,
            Text = &listed,
        )?,
        Some(keep) => execute!(
            conn, Sqlite,
            concat!(archive_done!("done.value"), " CROSS JOIN json_each(?) done
             CROSS JOIN taskmq_messages m NOT INDEXED ON m.id = CAST(done.key AS INTEGER) AND m.worker_id = 0"),
            Nullable<BigInt> = keep,
            BigInt = group.batch,
            Text = results_by_id(group)?,
        )?,
        None => execute!(
            conn, Sqlite,
            "DELETE FROM taskmq_failures WHERE message_id IN (
                SELECT m.id FROM json_each(?) run
                CROSS JOIN taskmq_messages m NOT INDEXED ON m.id BETWEEN run.value ->> 0 AND run.value ->> 1 AND m.attempts > 0)",
            Text = &listed,
        )?,
    };
    // One after the other: without a subquery SQLite deletes what it meets, instead of first listing what it will delete.
    for (first, last) in runs {
        execute!(
            conn,
            Sqlite,
            "DELETE FROM taskmq_messages NOT INDEXED WHERE id BETWEEN ? AND ? AND worker_id = 0",
            BigInt = first,
            BigInt = last,
        )?;
    }
    Ok(())
}

/// `false` when the lease of this single message is lost.
pub(super) fn settle_one(
    conn: &mut SqliteConnection,
    worker: &WorkerIdentity,
    settlement: &Settlement,
) -> Result<bool> {
    let Settlement { id, attempt, outcome, .. } = settlement;
    let touched = match outcome {
        Outcome::Done { result, retention } => {
            if let Some(keep) = keep_seconds(*retention) {
                execute!(
                    conn, Sqlite,
                    "INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, claimed_at, keep_seconds, worker_id,
                        attempts, crashes, max_attempts, unique_key, ordering_key, headers, payload, result)
                     SELECT id, topic, 'done', priority, run_at, created_at, claimed_at, ?, worker_id,
                        attempts, crashes, max_attempts, unique_key, ordering_key, headers, payload, ?
                     FROM taskmq_messages WHERE id = ? AND worker_id = ? AND attempts = ?",
                    Nullable<BigInt> = keep,
                    Nullable<Text> = result.as_deref(),
                    BigInt = *id,
                    BigInt = worker.id,
                    Integer = *attempt,
                )?;
            } else if *attempt > 1 {
                execute!(conn, Sqlite, "DELETE FROM taskmq_failures WHERE message_id = ?", BigInt = *id)?;
            }
            delete_held(conn, worker.id, *id, *attempt)?
        }
        Outcome::Retry { delay, kind, error } => {
            let touched = execute!(
                conn, Sqlite,
                "UPDATE taskmq_messages SET worker_id = 0, suspicions = 0, run_at = strftime('%Y-%m-%d %H:%M:%f', 'now', ?)
                 WHERE id = ? AND worker_id = ? AND attempts = ?",
                Text = &delay_modifier(i64::try_from(delay.as_micros()).unwrap_or(i64::MAX)),
                BigInt = *id,
                BigInt = worker.id,
                Integer = *attempt,
            )?;
            if touched > 0 {
                insert_failure(conn, worker, *id, *attempt, kind, error)?;
            }
            touched
        }
        Outcome::Dead { kind, error } | Outcome::Cancelled { kind, error } => {
            let touched = execute!(
                conn, Sqlite,
                "INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, claimed_at, worker_id,
                    attempts, crashes, max_attempts, unique_key, ordering_key, headers, payload, error)
                 SELECT id, topic, ?, priority, run_at, created_at, claimed_at, worker_id,
                    attempts - ?, crashes, max_attempts, unique_key, ordering_key, headers, payload, ?
                 FROM taskmq_messages WHERE id = ? AND worker_id = ? AND attempts = ?",
                Nullable<Text> = outcome.unsuccessful_end().map(|(state, ..)| state.as_str()),
                Integer = i32::from(kind.is_none()),
                Text = error,
                BigInt = *id,
                BigInt = worker.id,
                Integer = *attempt,
            )?;
            if touched > 0 {
                delete_held(conn, worker.id, *id, *attempt)?;
                if let Some(kind) = kind {
                    insert_failure(conn, worker, *id, *attempt, kind, error)?;
                }
            }
            touched
        }
        Outcome::HandBack => execute!(
            conn,
            Sqlite,
            concat!(
                "UPDATE taskmq_messages SET attempts = attempts - 1, worker_id = ",
                nobody!(),
                "
             WHERE id = ? AND worker_id = ? AND attempts = ?"
            ),
            BigInt = *id,
            BigInt = worker.id,
            Integer = *attempt,
        )?,
    };
    Ok(touched > 0)
}

pub(super) fn delete_held(
    conn: &mut SqliteConnection,
    worker_id: i64,
    id: MessageId,
    attempt: i32,
) -> Result<usize> {
    Ok(execute!(
        conn,
        Sqlite,
        "DELETE FROM taskmq_messages WHERE id = ? AND worker_id = ? AND attempts = ?",
        BigInt = id,
        BigInt = worker_id,
        Integer = attempt,
    )?)
}

pub(super) fn insert_failure(
    conn: &mut SqliteConnection,
    worker: &WorkerIdentity,
    id: MessageId,
    attempt: i32,
    kind: &str,
    error: &str,
) -> Result<()> {
    execute!(
        conn,
        Sqlite,
        "INSERT INTO taskmq_failures (message_id, attempt, kind, error, worker) VALUES (?, ?, ?, ?, ?)",
        BigInt = id,
        Integer = attempt,
        Text = kind,
        Text = error,
        Text = worker.label(),
    )?;
    Ok(())
}

/// Whether this very lease has written its end already, in a transaction whose reply was lost.
pub(super) fn settled_before(
    conn: &mut SqliteConnection,
    worker_id: i64,
    settlement: &Settlement,
) -> Result<bool> {
    let found: Vec<i64> = load!(
        conn, Sqlite => BigInt,
        "SELECT id FROM taskmq_archive WHERE id = ? AND worker_id = ? AND attempts = ?",
        BigInt = settlement.id,
        BigInt = worker_id,
        Integer = settlement.attempt,
    )?;
    Ok(!found.is_empty())
}

/// A JSON object of what the consumer returned for each message.
pub(super) fn results_by_id(group: &DoneGroup<'_>) -> Result<String> {
    let results: BTreeMap<MessageId, Option<&str>> = group.ids().into_iter().zip(group.results()).collect();
    serde_json::to_string(&results).map_err(|source| Error::Encode { what: "the results", source })
}

/// `None`: not at all; `Some(None)`: for ever.
pub(super) fn keep_seconds(retention: Retention) -> Option<Option<i64>> {
    (retention != Retention::None).then(|| retention.seconds())
}
