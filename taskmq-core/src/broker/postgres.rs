//! All SQL for PostgreSQL.

use std::time::Duration;

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, SmallInt, Text};

use super::groups::Groups;
use super::rows;
use super::{
    BatchId, Broker, Claim, Claimed, Exchanged, Lock, MessageFilter, Outcome, Peer, Settlement,
    WorkerIdentity, sealed,
};
use crate::message::{FailedAttempt, Message, TopicStats};
use crate::produce::MessageRecord;
use crate::statement::{execute, load};
use crate::{Backend, Error, MessageId, Produced, Result, Retention};

/// A time as microseconds since 1970.
macro_rules! micros {
    ($column:literal) => {
        concat!("CAST(extract(epoch FROM ", $column, ") * 1000000 AS BIGINT)")
    };
}

/// Live messages `m`, with their batch's claim where they are leased with one.
macro_rules! live_messages {
    () => {
        "taskmq_messages m LEFT JOIN (SELECT unnest(message_ids) AS id, worker_id, claimed_at FROM taskmq_claims) leased
         ON leased.id = m.id"
    };
}

/// A message's state while it lives.
macro_rules! state {
    () => {
        "CASE WHEN m.worker_id > 0 OR leased.id IS NOT NULL THEN 'running'
              WHEN m.attempts > 0 AND m.run_at > clock_timestamp() THEN 'retrying'
              WHEN m.run_at > clock_timestamp() THEN 'scheduled' ELSE 'ready' END"
    };
}

/// The columns of a live message in the order of `rows::MessageSql`.
macro_rules! live {
    () => {
        concat!(
            "m.id, m.topic, ",
            state!(),
            " AS state, m.priority, m.attempts + (leased.id IS NOT NULL)::int, m.crashes, m.max_attempts, ",
            micros!("m.created_at"),
            ", ",
            micros!("m.run_at"),
            ", ",
            micros!("coalesce(leased.claimed_at, m.claimed_at)"),
            ", CAST(NULL AS BIGINT), coalesce(leased.worker_id, m.worker_id), m.unique_key, m.headers::text, m.payload::text,
            CAST(NULL AS TEXT), CAST(NULL AS TEXT)"
        )
    };
}

/// The columns of a finished message in the order of `rows::MessageSql`.
macro_rules! finished {
    () => {
        concat!(
            "id, topic, state, priority, attempts, crashes, max_attempts, ",
            micros!("created_at"),
            ", ",
            micros!("run_at"),
            ", ",
            micros!("claimed_at"),
            ", ",
            micros!("finished_at"),
            ", worker_id, unique_key, headers::text, payload::text, result::text, error"
        )
    };
}

/// Every (topic, priority) that has a message which nobody holds, topics in the order given, found by one index probe
/// each: rows of other lanes, and rows that are not due, are never walked over.
macro_rules! lanes {
    () => {
        "RECURSIVE lane AS (
            SELECT t.topic, t.place, (SELECT m.priority FROM taskmq_messages m WHERE m.worker_id = 0 AND m.topic = t.topic
                                      ORDER BY m.priority DESC LIMIT 1) AS priority
            FROM unnest(?) WITH ORDINALITY AS t (topic, place)
            UNION ALL
            SELECT l.topic, l.place, (SELECT m.priority FROM taskmq_messages m WHERE m.worker_id = 0 AND m.topic = l.topic
                                      AND m.priority < l.priority ORDER BY m.priority DESC LIMIT 1)
            FROM lane l WHERE l.priority IS NOT NULL
         )"
    };
}

/// Not leased with a batch. One look at the few rows of taskmq_claims, kept as a hash table for the whole statement.
macro_rules! unleased {
    () => {
        "m.id NOT IN (SELECT unnest(message_ids) FROM taskmq_claims)"
    };
}

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
        concat!("BEGIN; SET LOCAL synchronous_commit = off; ", claim_lock!($how))
    };
}

/// Opens a connection; libpq's time-outs, without which a vanished server is waited for two hours, are added where
/// the URL does not set them.
pub(crate) fn connect(url: &str) -> Result<PgConnection> {
    let mut full = url.to_owned();
    for (name, value) in [
        ("connect_timeout", "10"),
        ("keepalives_idle", "5"),
        ("keepalives_interval", "2"),
        ("keepalives_count", "3"),
        ("tcp_user_timeout", "10000"),
        ("application_name", "taskmq"),
    ] {
        if !url.contains(&format!("{name}=")) {
            full.push(if full.contains('?') { '&' } else { '?' });
            full.push_str(&format!("{name}={value}"));
        }
    }
    let failed = |reason: String| Error::Connect { database: super::without_password(url), reason };
    let mut conn = PgConnection::establish(&full).map_err(|e| failed(e.to_string()))?;
    conn.batch_execute("SET TIME ZONE 'UTC'").map_err(|e| failed(e.to_string()))?;
    Ok(conn)
}

/// Lets the server drop this session when it says nothing for the length of a lease, whatever became of its client.
pub(crate) fn drop_when_silent(conn: &mut PgConnection, lease: Duration) -> Result<()> {
    conn.batch_execute(&format!("SET idle_session_timeout = {}", lease.as_millis()))?;
    Ok(())
}

/// Asks to be told when messages are produced.
pub(crate) fn listen(conn: &mut PgConnection) -> Result<()> {
    conn.batch_execute("LISTEN taskmq")?;
    Ok(())
}

/// Whether messages were produced since the last look. Reads what has arrived, and sends nothing.
pub(crate) fn notified(conn: &mut PgConnection) -> Result<bool> {
    let mut any = false;
    for notification in conn.notifications_iter() {
        notification?;
        any = true;
    }
    Ok(any)
}

impl sealed::Sealed for PgConnection {}

impl Broker for PgConnection {
    fn backend(&self) -> Backend {
        Backend::Postgres
    }

    fn schema_version(&mut self) -> Result<i32> {
        let version: Vec<i32> =
            load!(self, Pg => Integer, "SELECT coalesce(max(version), 0) FROM taskmq_schema")?;
        Ok(version.first().copied().unwrap_or_default())
    }

    fn produce(&mut self, message: &MessageRecord) -> Result<Produced> {
        // The other message can end between the two statements; then this one is stored after all.
        loop {
            let stored: Vec<i64> = load!(
                self, Pg => BigInt,
                "INSERT INTO taskmq_messages (topic, priority, run_at, max_attempts, unique_key, headers, payload)
                 VALUES (?, ?, statement_timestamp() + ? * interval '1 microsecond', ?, ?, ?::json, ?::json)
                 ON CONFLICT (topic, unique_key) WHERE unique_key IS NOT NULL DO NOTHING
                 RETURNING id",
                Text = &message.topic,
                SmallInt = message.priority,
                BigInt = message.delay_micros,
                Nullable<SmallInt> = message.max_attempts,
                Nullable<Text> = message.unique_key.as_deref(),
                Nullable<Text> = message.headers.as_deref(),
                Text = &message.payload,
            )?;
            if let Some(id) = stored.first() {
                return Ok(Produced::New(*id));
            }
            let existing: Vec<i64> = load!(
                self, Pg => BigInt,
                "SELECT id FROM taskmq_messages WHERE topic = ? AND unique_key = ?",
                Text = &message.topic,
                Nullable<Text> = message.unique_key.as_deref(),
            )?;
            if let Some(id) = existing.first() {
                return Ok(Produced::Existing(*id));
            }
        }
    }

    fn produce_many(&mut self, messages: &[MessageRecord]) -> Result<usize> {
        let column = |of: fn(&MessageRecord) -> Option<&str>| messages.iter().map(of).collect::<Vec<_>>();
        Ok(execute!(
            self, Pg,
            "INSERT INTO taskmq_messages (topic, priority, run_at, max_attempts, unique_key, headers, payload)
             SELECT topic, priority, statement_timestamp() + delay * interval '1 microsecond', max_attempts, unique_key,
                    headers::json, payload::json
             FROM unnest(?, ?, ?, ?, ?, ?, ?) AS m (topic, priority, delay, max_attempts, unique_key, headers, payload)
             ON CONFLICT (topic, unique_key) WHERE unique_key IS NOT NULL DO NOTHING",
            Array<Nullable<Text>> = column(|m| Some(&m.topic)),
            Array<SmallInt> = messages.iter().map(|m| m.priority).collect::<Vec<_>>(),
            Array<BigInt> = messages.iter().map(|m| m.delay_micros).collect::<Vec<_>>(),
            Array<Nullable<SmallInt>> = messages.iter().map(|m| m.max_attempts).collect::<Vec<_>>(),
            Array<Nullable<Text>> = column(|m| m.unique_key.as_deref()),
            Array<Nullable<Text>> = column(|m| m.headers.as_deref()),
            Array<Nullable<Text>> = column(|m| Some(&m.payload)),
        )?)
    }

    fn claim(&mut self, claim: &Claim<'_>) -> Result<Vec<Claimed>> {
        let begin = if claim.as_batch { begin_claim!("exclusive") } else { begin_claim!("shared") };
        AnsiTransactionManager::begin_transaction_sql(self, begin)?;
        let claimed = if claim.as_batch { claim_batch(self, claim) } else { claim_each(self, claim) };
        match claimed {
            Ok(claimed) => {
                AnsiTransactionManager::commit_transaction(self)?;
                Ok(claimed)
            }
            Err(error) => {
                // The first error is the one to tell.
                let _ = AnsiTransactionManager::rollback_transaction(self);
                Err(error)
            }
        }
    }

    fn promote(&mut self, worker_id: i64, batch: BatchId, ids: &[MessageId], ends: bool) -> Result<bool> {
        self.transaction(|conn| {
            let held = promote_in(conn, worker_id, batch, ids)?;
            if held && ends {
                end_batches(conn, worker_id, &[batch])?;
            }
            Ok(held)
        })
    }

    fn claim_alone(&mut self, worker_id: i64, topics: &[&str]) -> Result<Option<Claimed>> {
        let rows: Vec<ClaimedRow> = load!(
            self, Pg => ClaimedSql,
            "WITH picked AS MATERIALIZED (
                SELECT id FROM taskmq_messages
                WHERE worker_id = -1 AND worker_id <> 0 AND topic = ANY(?) AND run_at <= statement_timestamp()
                AND EXISTS (SELECT 1 FROM taskmq_workers WHERE id = ?)
                ORDER BY priority DESC, run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
             ), noted AS (
                UPDATE taskmq_workers SET alone_with = picked.id FROM picked WHERE taskmq_workers.id = ?
             )
             UPDATE taskmq_messages m SET worker_id = ?, attempts = attempts + 1, claimed_at = statement_timestamp()
             FROM picked WHERE m.id = picked.id
             RETURNING m.id, m.topic, m.attempts, m.crashes, m.max_attempts, m.headers::text, m.payload::text",
            Array<Text> = topics,
            BigInt = worker_id,
            BigInt = worker_id,
            BigInt = worker_id,
        )?;
        Ok(rows.into_iter().map(claimed_row).next())
    }

    fn next_due(&mut self, topics: &[&str]) -> Result<Option<Duration>> {
        let micros: Vec<Option<i64>> = load!(
            self, Pg => Nullable<BigInt>,
            concat!("WITH ", lanes!(), "
             SELECT CAST(extract(epoch FROM min(first.run_at) - clock_timestamp()) * 1000000 AS BIGINT)
             FROM lane CROSS JOIN LATERAL (
                SELECT m.run_at FROM taskmq_messages m
                WHERE m.worker_id = 0 AND m.topic = lane.topic AND m.priority = lane.priority AND ", unleased!(), "
                ORDER BY m.run_at LIMIT 1
             ) first WHERE lane.priority IS NOT NULL"),
            Array<Text> = topics,
        )?;
        Ok(micros
            .first()
            .copied()
            .flatten()
            .map(|micros| Duration::from_micros(micros.max(0).unsigned_abs())))
    }

    fn exchange(
        &mut self,
        worker: &WorkerIdentity,
        settlements: &[Settlement],
        ended: &[BatchId],
        claim: Option<&Claim<'_>>,
    ) -> Result<Exchanged> {
        let (done, rest): (Vec<&Settlement>, Vec<&Settlement>) =
            settlements.iter().partition(|s| matches!(s.outcome, Outcome::Done { .. }));
        let (mut written, claimed) = match claim.filter(|claim| claim.as_batch) {
            // One statement is a transaction, too.
            None if rest.is_empty() => (settle_done(self, worker, &done, ended)?, Vec::new()),
            claim => self.transaction(|conn| {
                let mut written = settle_others(conn, worker, &rest)?;
                written.extend(settle_done(conn, worker, &done, ended)?);
                let mut claimed = Vec::new();
                if let Some(claim) = claim {
                    execute!(conn, Pg, claim_lock!("exclusive"))?;
                    claimed = claim_batch(conn, claim)?;
                }
                Ok::<_, Error>((written, claimed))
            })?,
        };
        let claimed = match claim.filter(|claim| !claim.as_batch) {
            Some(claim) => self.claim(claim)?,
            None => claimed,
        };
        let mut lost = Vec::new();
        if written.len() < settlements.len() {
            written.sort_unstable();
            let unwritten: Vec<&Settlement> =
                settlements.iter().filter(|s| written.binary_search(&s.id).is_err()).collect();
            written = settled_before(self, worker.id, &unwritten)?;
            lost = unwritten.into_iter().map(|s| s.id).filter(|id| !written.contains(id)).collect();
        }
        Ok(Exchanged { lost, claimed })
    }

    fn begin(&mut self) -> Result<()> {
        Ok(AnsiTransactionManager::begin_transaction(self)?)
    }

    fn ack(&mut self, worker: &WorkerIdentity, settlement: &Settlement) -> Result<bool> {
        Ok(!settle_done(self, worker, &[settlement], &[])?.is_empty())
    }

    fn commit(&mut self) -> Result<()> {
        Ok(AnsiTransactionManager::commit_transaction(self)?)
    }

    fn rollback(&mut self) -> Result<()> {
        Ok(AnsiTransactionManager::rollback_transaction(self)?)
    }

    fn hand_back_unknown(&mut self, worker_id: i64, known: &[MessageId], batches: &[BatchId]) -> Result<()> {
        execute!(
            self, Pg,
            "WITH batch AS (DELETE FROM taskmq_claims WHERE worker_id = ? AND id <> ALL(?))
             UPDATE taskmq_messages SET worker_id = 0, attempts = attempts - 1
             WHERE worker_id = ? AND worker_id <> 0 AND id <> ALL(?)",
            BigInt = worker_id,
            Array<BigInt> = batches,
            BigInt = worker_id,
            Array<BigInt> = known,
        )?;
        Ok(())
    }

    fn register(&mut self, worker: &WorkerIdentity) -> Result<()> {
        execute!(
            self,
            Pg,
            "INSERT INTO taskmq_workers (id, host, pid, version, topics, concurrency) VALUES (?, ?, ?, ?, ?, ?)",
            BigInt = worker.id,
            Text = &worker.host,
            Integer = worker.pid,
            Text = env!("CARGO_PKG_VERSION"),
            Text = &worker.topics,
            Integer = worker.concurrency,
        )?;
        Ok(())
    }

    fn lock(&mut self, worker_id: i64) -> Result<Lock> {
        let got: Vec<bool> = load!(self, Pg => Bool, "SELECT pg_try_advisory_lock(?)", BigInt = worker_id)?;
        if got.first() != Some(&true) {
            return Ok(Lock::Busy);
        }
        execute!(self, Pg, "UPDATE taskmq_workers SET locked = TRUE WHERE id = ?", BigInt = worker_id)?;
        Ok(Lock::Held)
    }

    fn beat(&mut self, worker_id: i64) -> Result<bool> {
        let touched = execute!(
            self,
            Pg,
            "UPDATE taskmq_workers SET beat = beat + 1, beat_at = clock_timestamp() WHERE id = ?",
            BigInt = worker_id,
        )?;
        Ok(touched > 0)
    }

    fn peers(&mut self, worker_id: i64) -> Result<Vec<Peer>> {
        let rows: Vec<(i64, Option<i64>, Option<bool>)> = load!(
            self, Pg => (BigInt, Nullable<BigInt>, Nullable<Bool>),
            "SELECT w.id, w.beat, CASE WHEN w.locked THEN NOT EXISTS (
                    SELECT 1 FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND (l.classid::bigint << 32) | l.objid::bigint = w.id) END
             FROM taskmq_workers w WHERE w.id <> ?
             UNION ALL
             SELECT held.worker_id, CAST(NULL AS BIGINT), CAST(NULL AS BOOLEAN) FROM (
                SELECT worker_id FROM taskmq_messages WHERE worker_id <> 0 AND worker_id > 0
                UNION SELECT worker_id FROM taskmq_claims) held
             WHERE NOT EXISTS (SELECT 1 FROM taskmq_workers w WHERE w.id = held.worker_id)",
            BigInt = worker_id,
        )?;
        Ok(rows.into_iter().map(|(id, beat, lock_free)| Peer { id, beat, lock_free }).collect())
    }

    fn rescue(&mut self, peer: &Peer) -> Result<usize> {
        self.transaction(|conn| {
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
            execute!(
                conn, Pg,
                "WITH batch AS (DELETE FROM taskmq_claims WHERE worker_id = ? RETURNING claimed_at, message_ids)
                 UPDATE taskmq_messages m SET worker_id = ?, attempts = attempts + 1, claimed_at = batch.claimed_at
                 FROM batch WHERE m.id = ANY(batch.message_ids) AND m.worker_id = 0",
                BigInt = peer.id,
                BigInt = peer.id,
            )?;
            let held: Vec<i64> = load!(
                conn, Pg => BigInt,
                "SELECT id FROM taskmq_messages WHERE worker_id = ? AND worker_id <> 0 FOR UPDATE",
                BigInt = peer.id,
            )?;
            if let Some(culprit) = super::culprit(alone_with, &held) {
                execute!(
                    conn, Pg,
                    "INSERT INTO taskmq_failures (message_id, attempt, kind, error, worker)
                     SELECT id, attempts + suspicions, 'crash', 'the worker process died while it ran this message', ?
                     FROM taskmq_messages WHERE id = ?",
                    Text = &label,
                    BigInt = culprit,
                )?;
                execute!(
                    conn, Pg,
                    "UPDATE taskmq_messages SET worker_id = CASE WHEN crashes + suspicions >= 1 THEN -1 ELSE 0 END,
                     attempts = attempts + suspicions, crashes = crashes + 1 + suspicions, suspicions = 0 WHERE id = ?",
                    BigInt = culprit,
                )?;
            }
            if alone_with.is_some() {
                // The others that it held had not begun.
                execute!(
                    conn, Pg,
                    "UPDATE taskmq_messages SET worker_id = 0, attempts = attempts - 1 WHERE worker_id = ? AND worker_id <> 0",
                    BigInt = peer.id,
                )?;
            } else {
                execute!(
                    conn, Pg,
                    "UPDATE taskmq_messages SET worker_id = CASE WHEN crashes + suspicions >= 1 THEN -1 ELSE 0 END,
                     attempts = attempts - 1, suspicions = suspicions + 1 WHERE worker_id = ? AND worker_id <> 0",
                    BigInt = peer.id,
                )?;
            }
            Ok(held.len())
        })
    }

    fn any_set_aside(&mut self) -> Result<bool> {
        let found: Vec<i64> = load!(self, Pg => BigInt, "SELECT id FROM taskmq_messages WHERE worker_id = -1 AND worker_id <> 0 LIMIT 1")?;
        Ok(!found.is_empty())
    }

    fn alone_ended(&mut self, worker_id: i64) -> Result<()> {
        execute!(self, Pg, "UPDATE taskmq_workers SET alone_with = NULL WHERE id = ?", BigInt = worker_id)?;
        Ok(())
    }

    fn deregister(&mut self, worker_id: i64) -> Result<()> {
        execute!(self, Pg, "DELETE FROM taskmq_workers WHERE id = ?", BigInt = worker_id)?;
        Ok(())
    }

    fn purge(&mut self, limit: i64) -> Result<usize> {
        Ok(execute!(
            self, Pg,
            "WITH gone AS (
                DELETE FROM taskmq_archive WHERE id IN (
                    SELECT id FROM taskmq_archive WHERE keep_until <= clock_timestamp() LIMIT ? FOR UPDATE SKIP LOCKED)
                RETURNING id
             ), failures AS (
                DELETE FROM taskmq_failures WHERE message_id IN (SELECT id FROM gone)
             )
             SELECT id FROM gone",
            BigInt = limit,
        )?)
    }

    fn topics(&mut self) -> Result<Vec<TopicStats>> {
        let rows = load!(
            self, Pg => rows::StatsSql,
            concat!("SELECT m.topic, ", state!(), ", count(*) FROM ", live_messages!(), " GROUP BY 1, 2
             UNION ALL SELECT topic, state, count(*) FROM taskmq_archive GROUP BY 1, 2")
        )?;
        Ok(rows::topic_stats(rows))
    }

    fn messages(&mut self, filter: &MessageFilter) -> Result<Vec<Message>> {
        let state = filter.state.map(|s| s.as_str());
        let found: Vec<rows::MessageRow> = load!(
            self, Pg => rows::MessageSql,
            concat!("(SELECT * FROM (SELECT ", live!(), " FROM ", live_messages!(), " WHERE m.topic = coalesce(?, m.topic)
                ORDER BY m.topic, m.priority DESC, m.run_at, m.id) live WHERE state = coalesce(?, state))
             UNION ALL
             (SELECT ", finished!(), " FROM taskmq_archive
                WHERE topic = coalesce(?, topic) AND state = coalesce(?, state) ORDER BY id DESC)
             LIMIT ?"),
            Nullable<Text> = filter.topic.as_deref(),
            Nullable<Text> = state,
            Nullable<Text> = filter.topic.as_deref(),
            Nullable<Text> = state,
            BigInt = filter.limit,
        )?;
        Ok(found.into_iter().map(rows::message).collect())
    }

    fn message(&mut self, id: MessageId) -> Result<Option<Message>> {
        let found: Vec<rows::MessageRow> = load!(
            self, Pg => rows::MessageSql,
            concat!("SELECT ", live!(), " FROM ", live_messages!(), " WHERE m.id = ? UNION ALL
             SELECT ", finished!(), " FROM taskmq_archive WHERE id = ?"),
            BigInt = id,
            BigInt = id,
        )?;
        Ok(found.into_iter().map(rows::message).next())
    }

    fn failures(&mut self, id: MessageId) -> Result<Vec<FailedAttempt>> {
        let found: Vec<(i32, String, String, String, i64)> = load!(
            self, Pg => rows::FailureSql,
            concat!("SELECT attempt, kind, error, worker, ", micros!("failed_at"), " FROM taskmq_failures WHERE message_id = ? ORDER BY id"),
            BigInt = id,
        )?;
        Ok(found.into_iter().map(rows::failed_attempt).collect())
    }

    fn retry(&mut self, id: MessageId) -> Result<()> {
        self.transaction(|conn| {
            let Some(message) = conn.message(id)? else {
                return Err(super::no_such_message(id));
            };
            super::check_retriable(&message)?;
            if message.state.is_finished() {
                execute!(
                    conn, Pg,
                    "WITH gone AS (DELETE FROM taskmq_archive WHERE id = ? RETURNING *)
                     INSERT INTO taskmq_messages (id, topic, priority, created_at, max_attempts, unique_key, ordering_key, headers, payload)
                     SELECT id, topic, priority, created_at, max_attempts, unique_key, ordering_key, headers, payload FROM gone",
                    BigInt = id,
                )
                .map_err(|e| super::taken_key(id, e))?;
            } else {
                execute!(
                    conn, Pg,
                    "UPDATE taskmq_messages SET run_at = statement_timestamp(), worker_id = 0
                     WHERE id = ? AND worker_id <= 0 AND run_at > statement_timestamp()",
                    BigInt = id,
                )?;
            }
            Ok(())
        })
    }
}

type ClaimedSql = (BigInt, Text, Integer, SmallInt, Nullable<SmallInt>, Nullable<Text>, Text);
type ClaimedRow = (i64, String, i32, i16, Option<i16>, Option<String>, String);

fn claimed_row((id, topic, attempt, crashes, max_attempts, headers, payload): ClaimedRow) -> Claimed {
    Claimed { id, topic, attempt, batch: None, crashes, max_attempts, headers, payload }
}

/// A lease for each message.
fn claim_each(conn: &mut PgConnection, claim: &Claim<'_>) -> Result<Vec<Claimed>> {
    // MATERIALIZED, for otherwise the planner may run the inner query again and lease more than the limit.
    let mut rows: Vec<(i64, ClaimedRow)> = load!(
        conn, Pg => (BigInt, ClaimedSql),
        concat!("WITH ", lanes!(), ", picked AS MATERIALIZED (
            SELECT row_number() OVER () AS place, due.id
            FROM (SELECT topic, priority FROM lane WHERE priority IS NOT NULL ORDER BY place, priority DESC) l
            CROSS JOIN LATERAL (
                SELECT m.id FROM taskmq_messages m
                WHERE m.worker_id = 0 AND m.topic = l.topic AND m.priority = l.priority AND m.run_at <= statement_timestamp()
                AND ", unleased!(), " ORDER BY m.run_at, m.id LIMIT ? FOR UPDATE SKIP LOCKED
            ) due
            WHERE EXISTS (SELECT 1 FROM taskmq_workers WHERE id = ?)
            LIMIT ?
         )
         UPDATE taskmq_messages m SET worker_id = ?, attempts = attempts + 1, claimed_at = statement_timestamp()
         FROM picked WHERE m.id = picked.id
         RETURNING picked.place, m.id, m.topic, m.attempts, m.crashes, m.max_attempts, m.headers::text, m.payload::text"),
        Array<Text> = claim.topics,
        BigInt = claim.limit,
        BigInt = claim.worker_id,
        BigInt = claim.limit,
        BigInt = claim.worker_id,
    )?;
    // RETURNING promises no order.
    rows.sort_unstable_by_key(|row| row.0);
    Ok(rows.into_iter().map(|row| claimed_row(row.1)).collect())
}

/// One lease for all of them. The claim lock is held.
fn claim_batch(conn: &mut PgConnection, claim: &Claim<'_>) -> Result<Vec<Claimed>> {
    let mut rows: Vec<(i64, BatchId, ClaimedRow)> = load!(
        conn, Pg => (BigInt, BigInt, ClaimedSql),
        concat!("WITH ", lanes!(), ", picked AS MATERIALIZED (
            SELECT row_number() OVER () AS place, due.*
            FROM (SELECT topic, priority FROM lane WHERE priority IS NOT NULL ORDER BY place, priority DESC) l
            CROSS JOIN LATERAL (
                SELECT m.id, m.topic, m.attempts, m.crashes, m.max_attempts, m.headers, m.payload FROM taskmq_messages m
                WHERE m.worker_id = 0 AND m.topic = l.topic AND m.priority = l.priority AND m.run_at <= statement_timestamp()
                AND ", unleased!(), " ORDER BY m.run_at, m.id LIMIT ?
            ) due
            WHERE EXISTS (SELECT 1 FROM taskmq_workers WHERE id = ?)
            LIMIT ?
         ), batch AS (
            INSERT INTO taskmq_claims (worker_id, message_ids) SELECT ?, array_agg(id) FROM picked HAVING count(*) > 0 RETURNING id
         )
         SELECT place, batch.id, picked.id, topic, attempts + 1, crashes, max_attempts, headers::text, payload::text
         FROM picked CROSS JOIN batch"),
        Array<Text> = claim.topics,
        BigInt = claim.limit,
        BigInt = claim.worker_id,
        BigInt = claim.limit,
        BigInt = claim.worker_id,
    )?;
    rows.sort_unstable_by_key(|row| row.0);
    Ok(rows.into_iter().map(|(_, batch, row)| Claimed { batch: Some(batch), ..claimed_row(row) }).collect())
}

/// Lets messages go from the lease of their batch. `false`: that lease is lost.
fn release(conn: &mut PgConnection, worker_id: i64, batch: BatchId, ids: &[MessageId]) -> Result<bool> {
    let held = execute!(
        conn, Pg,
        "UPDATE taskmq_claims SET message_ids = ARRAY(SELECT unnest(message_ids) EXCEPT SELECT unnest(?)) WHERE id = ? AND worker_id = ?",
        Array<BigInt> = ids,
        BigInt = batch,
        BigInt = worker_id,
    )?;
    Ok(held > 0)
}

/// From the lease of their batch to leases of their own. `false`: that lease is lost.
fn promote_in(conn: &mut PgConnection, worker_id: i64, batch: BatchId, ids: &[MessageId]) -> Result<bool> {
    let held = release(conn, worker_id, batch, ids)?;
    if held {
        execute!(
            conn, Pg,
            "UPDATE taskmq_messages SET worker_id = ?, attempts = attempts + 1,
                    claimed_at = (SELECT claimed_at FROM taskmq_claims WHERE id = ?)
             WHERE id = ANY(?) AND worker_id = 0",
            BigInt = worker_id,
            BigInt = batch,
            Array<BigInt> = ids,
        )?;
    }
    Ok(held)
}

fn end_batches(conn: &mut PgConnection, worker_id: i64, batches: &[BatchId]) -> Result<()> {
    execute!(
        conn, Pg,
        "DELETE FROM taskmq_claims WHERE id = ANY(?) AND worker_id = ?",
        Array<BigInt> = batches,
        BigInt = worker_id,
    )?;
    Ok(())
}

/// Acks all that are done, and ends batches, with one statement; gives the ids of those whose lease still held.
fn settle_done(
    conn: &mut PgConnection,
    worker: &WorkerIdentity,
    settlements: &[&Settlement],
    ended: &[BatchId],
) -> Result<Vec<MessageId>> {
    if settlements.is_empty() {
        if !ended.is_empty() {
            end_batches(conn, worker.id, ended)?;
        }
        return Ok(Vec::new());
    }
    let (mut ids, mut attempts, mut batches, mut results, mut keep) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for settlement in settlements {
        let Outcome::Done { result, retention } = &settlement.outcome else { continue };
        ids.push(settlement.id);
        attempts.push(settlement.attempt);
        batches.push(settlement.batch);
        results.push(result.as_deref());
        keep.push(match retention {
            Retention::None => Some(0),
            Retention::For(time) => Some(i64::try_from(time.as_secs()).unwrap_or(i64::MAX)),
            Retention::Forever => None,
        });
    }
    // The leases of batches are locked until the end, so that a rescuer waits and then sees what is left.
    Ok(load!(
        conn, Pg => BigInt,
        "WITH done AS (
            SELECT * FROM unnest(?, ?, ?, ?, ?) AS d (id, attempt, batch, result, keep)
         ), batch AS MATERIALIZED (
            SELECT id, claimed_at FROM taskmq_claims WHERE worker_id = ? AND id IN (SELECT batch FROM done) FOR UPDATE
         ), gone AS (
            DELETE FROM taskmq_messages m USING done LEFT JOIN batch ON batch.id = done.batch
            WHERE m.id = done.id AND CASE WHEN done.batch IS NULL THEN m.worker_id = ? AND m.attempts = done.attempt
                                          ELSE m.worker_id = 0 AND batch.id IS NOT NULL END
            RETURNING m.id, m.topic, m.priority, m.run_at, m.created_at, coalesce(batch.claimed_at, m.claimed_at) AS claimed_at,
                m.crashes, m.max_attempts, m.unique_key, m.ordering_key, m.headers, m.payload, done.attempt, done.result, done.keep
         ), kept AS (
            INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, claimed_at, keep_until, worker_id, attempts,
                crashes, max_attempts, unique_key, ordering_key, headers, payload, result)
            SELECT id, topic, 'done', priority, run_at, created_at, claimed_at, statement_timestamp() + keep * interval '1 second', ?,
                attempt, crashes, max_attempts, unique_key, ordering_key, headers, payload, result::json
            FROM gone WHERE keep IS NULL OR keep > 0
         ), forgotten AS (
            DELETE FROM taskmq_failures WHERE message_id IN (SELECT id FROM gone WHERE keep = 0 AND attempt > 1)
         ), ended AS (
            DELETE FROM taskmq_claims WHERE id = ANY(?) AND worker_id = ?
         )
         SELECT id FROM gone",
        Array<BigInt> = ids,
        Array<Integer> = attempts,
        Array<Nullable<BigInt>> = batches,
        Array<Nullable<Text>> = results,
        Array<Nullable<BigInt>> = keep,
        BigInt = worker.id,
        BigInt = worker.id,
        BigInt = worker.id,
        Array<BigInt> = ended,
        BigInt = worker.id,
    )?)
}

/// Writes retries, dead letters and hand-backs, and gives the ids of those whose lease still held.
fn settle_others(
    conn: &mut PgConnection,
    worker: &WorkerIdentity,
    settlements: &[&Settlement],
) -> Result<Vec<MessageId>> {
    let mut groups = Groups::default();
    let mut held: Vec<&Settlement> = Vec::new();
    for settlement in settlements {
        match settlement.batch {
            Some(batch) => groups.add(batch, settlement),
            None => held.push(settlement),
        }
    }
    for group in groups.failed {
        if promote_in(conn, worker.id, group.batch, &group.ids())? {
            held.extend(group.settlements);
        }
    }
    let mut written = Vec::new();
    for group in groups.handed_back {
        if release(conn, worker.id, group.batch, &group.ids())? {
            written.extend(group.ids());
        }
    }
    for settlement in held {
        written.extend(settle_other(conn, worker, settlement)?);
    }
    Ok(written)
}

/// The message's id if its lease still held.
fn settle_other(
    conn: &mut PgConnection,
    worker: &WorkerIdentity,
    settlement: &Settlement,
) -> Result<Option<MessageId>> {
    let Settlement { id, attempt, outcome, .. } = settlement;
    let (touched, failure) = match outcome {
        Outcome::Done { .. } => return Ok(None),
        Outcome::Retry { delay, kind, error } => {
            let touched = execute!(
                conn, Pg,
                "UPDATE taskmq_messages SET worker_id = 0, suspicions = 0, run_at = clock_timestamp() + ? * interval '1 microsecond'
                 WHERE id = ? AND worker_id = ? AND attempts = ?",
                BigInt = i64::try_from(delay.as_micros()).unwrap_or(i64::MAX),
                BigInt = *id,
                BigInt = worker.id,
                Integer = *attempt,
            )?;
            (touched, Some((*kind, error)))
        }
        Outcome::Dead { kind, error } => {
            let touched = execute!(
                conn, Pg,
                "WITH gone AS (DELETE FROM taskmq_messages WHERE id = ? AND worker_id = ? AND attempts = ? RETURNING *)
                 INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, claimed_at, worker_id, attempts,
                    crashes, max_attempts, unique_key, ordering_key, headers, payload, error)
                 SELECT id, topic, 'dead', priority, run_at, created_at, claimed_at, worker_id, attempts - ?,
                    crashes, max_attempts, unique_key, ordering_key, headers, payload, ? FROM gone",
                BigInt = *id,
                BigInt = worker.id,
                Integer = *attempt,
                Integer = i32::from(kind.is_none()),
                Text = error,
            )?;
            (touched, kind.map(|kind| (kind, error)))
        }
        Outcome::HandBack => {
            let touched = execute!(
                conn,
                Pg,
                "UPDATE taskmq_messages SET worker_id = 0, attempts = attempts - 1 WHERE id = ? AND worker_id = ? AND attempts = ?",
                BigInt = *id,
                BigInt = worker.id,
                Integer = *attempt,
            )?;
            (touched, None)
        }
    };
    if touched == 0 {
        return Ok(None);
    }
    if let Some((kind, error)) = failure {
        execute!(
            conn,
            Pg,
            "INSERT INTO taskmq_failures (message_id, attempt, kind, error, worker) VALUES (?, ?, ?, ?, ?)",
            BigInt = *id,
            Integer = *attempt,
            Text = kind,
            Text = error,
            Text = worker.label(),
        )?;
    }
    Ok(Some(*id))
}

/// Which of these leases have written their end already, in a transaction whose reply was lost.
fn settled_before(
    conn: &mut PgConnection,
    worker_id: i64,
    settlements: &[&Settlement],
) -> Result<Vec<MessageId>> {
    Ok(load!(
        conn, Pg => BigInt,
        "SELECT a.id FROM unnest(?, ?) AS s (id, attempt)
         JOIN taskmq_archive a ON a.id = s.id AND a.worker_id = ? AND a.attempts = s.attempt",
        Array<BigInt> = settlements.iter().map(|s| s.id).collect::<Vec<_>>(),
        Array<Integer> = settlements.iter().map(|s| s.attempt).collect::<Vec<_>>(),
        BigInt = worker_id,
    )?)
}
