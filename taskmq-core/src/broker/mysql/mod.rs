//! All SQL for MariaDB (10.6 or newer) and MySQL (8.0.19 or newer). Neither `RETURNING` nor `LATERAL` is in both, so
//! a claim is a few statements in one transaction; rows are locked, updated and deleted by primary key only.

mod claim;
mod connection;
mod look;
mod produce;
mod rescue;
mod schedules;
mod sessions;
mod settle;
mod turns;
#[cfg(feature = "worker")]
mod wait;

use std::collections::HashMap;
use std::time::Duration;

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, SmallInt, Text};
use serde::Serialize;

use self::claim::{
    Taken, claim_in, claim_in_turn, claim_lock, end_batches, leased, lock_batches, next_lane, promote_in,
    row_count, try_claim_in,
};
use self::connection::transaction;
pub(crate) use self::connection::{connect, is_galera};
#[cfg(feature = "worker")]
pub(crate) use self::connection::{drop_when_silent, end_stalled_transactions};
use self::produce::{produce_all, produce_each, produce_one};
use self::settle::{lock_held, settle_done, settle_in};
#[cfg(feature = "worker")]
pub(crate) use self::wait::{has_newer, newest, wait_for_newer};
use super::again::again;
use super::payloads::payload;
use super::rows;
use super::workflows::Stepping;
use super::{
    Among, BatchId, Blame, Broker, Claim, Claimed, Exchanged, Leases, Lock, Look, MessageFilter, Peer,
    SessionId, Settlement, Share, Within, WorkerIdentity, WorkflowId, WorkflowRecord, sealed, workflows,
};
use crate::message::{FailedAttempt, LogLine, Message, TopicStats};
use crate::produce::MessageRecord;
use crate::statement::{execute, load};
use crate::{Backend, Error, MessageId, Produced, Result};

/// A time as microseconds since 1970. The column's own value, whatever the session's time zone is.
macro_rules! micros {
    ($column:literal) => {
        concat!("CAST(UNIX_TIMESTAMP(", $column, ") * 1000000 AS SIGNED)")
    };
}

/// Live messages `m`, with their batch's claim where they are leased with one.
/// DISTINCT has the server write the members down and find each by its id, where it would go through all lists for each message.
macro_rules! live_messages {
    () => {
        "taskmq_messages m LEFT JOIN (
            SELECT DISTINCT ids.id, claim.worker_id, claim.claimed_at
            FROM taskmq_claims claim, JSON_TABLE(claim.message_ids, '$[*]' COLUMNS (id BIGINT PATH '$')) ids
         ) leased ON leased.id = m.id"
    };
}

/// A message's state while it lives; for one that no batch holds, `state!("m.worker_id > 0")`.
macro_rules! state {
    () => {
        state!("m.worker_id > 0 OR leased.id IS NOT NULL")
    };
    ($running:literal) => {
        concat!(
            "CASE WHEN ",
            $running,
            " THEN 'running'
              WHEN m.attempts > 0 AND m.run_at > CURRENT_TIMESTAMP(6) THEN 'retrying'
              WHEN m.run_at > CURRENT_TIMESTAMP(6) THEN 'scheduled' ELSE 'ready' END"
        )
    };
}

/// The columns of a live message in the order of `rows::MessageSql`.
macro_rules! live {
    () => {
        concat!(
            "m.id, m.topic AS of_topic, ",
            state!(),
            " AS state, m.priority AS of_priority, m.attempts + (leased.id IS NOT NULL), m.crashes, m.max_attempts, ",
            micros!("m.created_at"),
            ", ",
            micros!("m.run_at"),
            " AS due, ",
            micros!("coalesce(leased.claimed_at, m.claimed_at)"),
            " AS claimed, CAST(NULL AS SIGNED), coalesce(leased.worker_id, m.worker_id), m.unique_key, m.ordering_key, m.headers, ",
            payload!("m"),
            ", CAST(NULL AS CHAR) AS result, CAST(NULL AS CHAR) AS error"
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
            ", worker_id, unique_key, ordering_key, headers, ",
            payload!("taskmq_archive"),
            ", result, error"
        )
    };
}

// Below the macros that they use.
mod admin;
mod cancels;
mod change;
mod diagnosis;
mod lanes;
mod limits;
mod logs;
mod paused;
mod payloads;
mod schemas;
mod stepping;

/// If a claim met ordering keys, another transaction is for them: to exclude the other claims in the same one, two that
/// already share would wait for each other.
fn with_turns(conn: &mut MysqlConnection, claim: &Claim<'_>, taken: Taken) -> Result<(Vec<Claimed>, usize)> {
    let Taken { mut claimed, in_line, ordered, .. } = taken;
    if !ordered {
        return Ok((claimed, in_line));
    }
    let rest = Claim { limit: claim.limit.saturating_sub(row_count(claimed.len())), ..*claim };
    let (in_turn, in_line) = transaction(conn, |conn| claim_in_turn(conn, &rest))?;
    claimed.extend(in_turn);
    Ok((claimed, in_line))
}

impl sealed::Sealed for MysqlConnection {}

impl Broker for MysqlConnection {
    fn backend(&self) -> Backend {
        Backend::Mysql
    }

    fn schema_version(&mut self) -> Result<i32> {
        let version: Vec<i32> =
            load!(self, Mysql => Integer, "SELECT coalesce(max(version), 0) FROM taskmq_schema")?;
        Ok(version.first().copied().unwrap_or_default())
    }

    fn insert(&mut self, message: &MessageRecord) -> Result<Produced> {
        again(self, |conn| produce_one(conn, message))
    }

    fn insert_many(&mut self, messages: &[MessageRecord]) -> Result<usize> {
        again(self, |conn| produce_all(conn, messages))
    }

    fn insert_each(&mut self, messages: &[MessageRecord]) -> Result<Vec<MessageId>> {
        produce_each(self, messages)
    }

    fn insert_payloads(&mut self, payloads: &[(MessageId, &str)]) -> Result<()> {
        payloads::insert(self, payloads)
    }

    fn large_payloads(&mut self, ids: &[MessageId]) -> Result<HashMap<MessageId, String>> {
        payloads::of(self, ids)
    }

    fn produce_workflow(&mut self, workflow: &WorkflowRecord) -> Result<WorkflowId> {
        workflows::produce(self, workflow)
    }

    fn results_before(&mut self, id: MessageId) -> Result<Vec<(String, Option<String>)>> {
        Stepping::results_before(self, id)
    }

    fn claim(&mut self, claim: &Claim<'_>) -> Result<Vec<Claimed>> {
        let taken = transaction(self, |conn| claim_in(conn, claim))?;
        Ok(with_turns(self, claim, taken)?.0)
    }

    fn promote(&mut self, worker_id: i64, batch: BatchId, ids: &[MessageId], ends: bool) -> Result<bool> {
        transaction(self, |conn| {
            let held = !lock_batches(conn, worker_id, &[batch])?.is_empty();
            if held {
                promote_in(conn, worker_id, batch, ids)?;
            }
            if held && ends {
                end_batches(conn, &[batch])?;
            }
            Ok(held)
        })
    }

    fn claim_alone(&mut self, worker_id: i64, topics: &[&str]) -> Result<Option<Claimed>> {
        rescue::claim_alone(self, worker_id, topics)
    }

    fn claim_suspects(&mut self, worker_id: i64, topics: &[&str], limit: i64) -> Result<Vec<Claimed>> {
        rescue::claim_suspects(self, worker_id, topics, limit)
    }

    fn claim_limited(&mut self, worker_id: i64, share: &Share<'_>, among: Among) -> Result<Within> {
        limits::claim_limited(self, worker_id, share, among)
    }

    fn next_due(&mut self, topics: &[&str]) -> Result<Option<Duration>> {
        let mut soonest: Option<i64> = None;
        let leased = leased(self)?;
        for topic in topics {
            let mut lane = next_lane(self, topic, i32::from(i16::MAX) + 1)?;
            while let Some(priority) = lane {
                let waits: Vec<(i64, i64)> = load!(
                    self, Mysql => (BigInt, BigInt),
                    "SELECT id, GREATEST(0, TIMESTAMPDIFF(MICROSECOND, CURRENT_TIMESTAMP(6), run_at))
                     FROM taskmq_messages FORCE INDEX (taskmq_messages_ready)
                     WHERE worker_id = 0 AND topic = ? AND priority = ? ORDER BY run_at LIMIT ?",
                    Text = *topic,
                    SmallInt = priority,
                    BigInt = row_count(leased.len()).saturating_add(1),
                )?;
                let wait = waits.into_iter().find(|(id, _)| !leased.contains(id)).map(|(_, wait)| wait);
                soonest = soonest.into_iter().chain(wait).min();
                if soonest == Some(0) {
                    return Ok(Some(Duration::ZERO));
                }
                lane = next_lane(self, topic, i32::from(priority))?;
            }
        }
        Ok(soonest.map(|micros| Duration::from_micros(micros.unsigned_abs())))
    }

    fn exchange(
        &mut self,
        worker: &WorkerIdentity,
        settlements: &[Settlement],
        ended: &[BatchId],
        claim: Option<&Claim<'_>>,
    ) -> Result<Exchanged> {
        let (lost, taken) = transaction(self, |conn| {
            let locked = claim.is_some() && settlements.iter().any(|s| s.ends_turn() || s.ends_step());
            if let Some(claim) = claim
                && locked
            {
                // Before the locks of turns, for who claims has them in this order, and of workflows.
                claim_lock(conn, claim.as_batch)?;
            }
            let lost = settle_in(conn, worker, settlements, ended)?;
            Ok((lost, claim.map_or(Ok(Taken::default()), |claim| try_claim_in(conn, claim, locked))?))
        })?;
        let busy = taken.busy;
        let (claimed, in_line) = match claim {
            Some(claim) => with_turns(self, claim, taken)?,
            None => (taken.claimed, taken.in_line),
        };
        Ok(Exchanged { lost, claimed, in_line, busy, searched: Duration::ZERO })
    }

    fn is_in_transaction(&mut self) -> Result<bool> {
        let status = AnsiTransactionManager::transaction_manager_status_mut(self);
        Ok(status.transaction_depth()?.is_some())
    }

    fn begin(&mut self) -> Result<()> {
        AnsiTransactionManager::begin_transaction(self)?;
        // A deadlock undoes all of the transaction, and what comes after it is none: each statement is committed at once.
        Ok(self.batch_execute("SAVEPOINT taskmq")?)
    }

    fn ack(&mut self, worker: &WorkerIdentity, settlement: &Settlement) -> Result<bool> {
        self.batch_execute("RELEASE SAVEPOINT taskmq")?;
        if lock_held(self, worker.id, &[settlement])?.is_empty() {
            return Ok(false);
        }
        settle_done(self, worker, &[settlement])?;
        if settlement.ends_turn() {
            turns::pass_turns(self, &[settlement.id])?;
        }
        workflows::advance(self, std::iter::once(settlement))?;
        if settlement.touches_log() {
            logs::write(self, std::iter::once(settlement))?;
        }
        if settlement.forgets_payload() {
            payloads::delete(self, &json(&[settlement.id])?)?;
        }
        Ok(true)
    }

    fn commit(&mut self) -> Result<()> {
        Ok(AnsiTransactionManager::commit_transaction(self)?)
    }

    fn rollback(&mut self) -> Result<()> {
        Ok(AnsiTransactionManager::rollback_transaction(self)?)
    }

    fn reconcile(&mut self, worker_id: i64, known: &[(MessageId, i32)]) -> Result<Leases> {
        rescue::reconcile(self, worker_id, known)
    }

    fn register(&mut self, worker: &WorkerIdentity) -> Result<()> {
        execute!(
            self,
            Mysql,
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
        // Others would see this lock free on their nodes, so only the beats count.
        if is_galera(self)? {
            return Ok(Lock::Unsupported);
        }
        let got: QueryResult<Vec<Option<i32>>> = load!(self, Mysql => Nullable<Integer>, "SELECT GET_LOCK(CONCAT('taskmq:', ?), 0)", BigInt = worker_id);
        match got.map(|rows| rows.first().copied().flatten()) {
            Ok(Some(1)) => {}
            Ok(_) => return Ok(Lock::Busy),
            Err(error) => return Err(error.into()),
        }
        execute!(
            self,
            Mysql,
            "UPDATE taskmq_workers SET locked = TRUE, beat = beat + 1 WHERE id = ?",
            BigInt = worker_id
        )?;
        Ok(Lock::Held)
    }

    fn session(&mut self) -> Result<Option<SessionId>> {
        sessions::session(self)
    }

    fn mark_session(&mut self, worker_id: i64) -> Result<()> {
        sessions::mark_session(self, worker_id)
    }

    fn marked_sessions(&mut self, worker_id: i64) -> Result<Vec<SessionId>> {
        sessions::marked_sessions(self, worker_id)
    }

    fn end_sessions(&mut self, worker_id: i64, sessions: &[SessionId]) -> Result<()> {
        sessions::end_sessions(self, worker_id, sessions)
    }

    fn beat(&mut self, worker_id: i64, memory_bytes: Option<u64>) -> Result<bool> {
        let touched = execute!(
            self,
            Mysql,
            "UPDATE taskmq_workers SET beat = beat + 1, beat_at = CURRENT_TIMESTAMP(6), memory_bytes = coalesce(?, memory_bytes) WHERE id = ?",
            Nullable<BigInt> = memory_bytes.and_then(|bytes| i64::try_from(bytes).ok()),
            BigInt = worker_id,
        )?;
        Ok(touched > 0)
    }

    fn look(&mut self, worker_id: i64, topics: &[&str]) -> Result<Look> {
        look::look(self, worker_id, topics)
    }

    fn rescue(&mut self, peer: &Peer) -> Result<usize> {
        rescue::rescue(self, peer)
    }

    fn explain_death(&mut self, worker_id: i64, how: &str) -> Result<()> {
        rescue::explain_death(self, worker_id, how)
    }

    fn blame(&mut self, worker_id: i64, blame: Blame) -> Result<()> {
        execute!(
            self,
            Mysql,
            "UPDATE taskmq_workers SET alone_with = ? WHERE id = ?",
            Nullable<BigInt> = blame.alone_with(),
            BigInt = worker_id
        )?;
        Ok(())
    }

    fn deregister(&mut self, worker_id: i64) -> Result<()> {
        execute!(self, Mysql, "DELETE FROM taskmq_workers WHERE id = ?", BigInt = worker_id)?;
        Ok(())
    }

    fn take_back(&mut self, ids: &[MessageId]) -> Result<usize> {
        cancels::take_back(self, ids)
    }

    fn mend_lines(&mut self) -> Result<usize> {
        if !turns::are_lines_broken(self)? {
            return Ok(0);
        }
        transaction(self, turns::mend_lines)
    }

    fn purge(&mut self, limit: i64) -> Result<usize> {
        // Without a transaction first: most of the time there is nothing.
        let retentions = retentions(self)?;
        if !is_any_over(self, &retentions)? {
            return Ok(0);
        }
        transaction(self, |conn| {
            let mut ids: Vec<i64> = Vec::new();
            for &retention in &retentions {
                let over: Vec<i64> = load!(
                    conn, Mysql => BigInt,
                    "SELECT id FROM taskmq_archive FORCE INDEX (taskmq_archive_finished)
                     WHERE state = 'done' AND keep_seconds = ? AND finished_at <= CURRENT_TIMESTAMP(6) - INTERVAL ? SECOND
                     ORDER BY finished_at LIMIT ? FOR UPDATE SKIP LOCKED",
                    BigInt = retention,
                    BigInt = retention,
                    BigInt = limit - row_count(ids.len()),
                )?;
                ids.extend(over);
            }
            if ids.is_empty() {
                return Ok(0);
            }
            let list = json(&ids)?;
            execute!(
                conn,
                Mysql,
                "DELETE f FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) gone
                 STRAIGHT_JOIN taskmq_failures f FORCE INDEX (taskmq_failures_message) ON f.message_id = gone.id",
                Text = &list,
            )?;
            logs::delete(conn, &list)?;
            payloads::delete(conn, &list)?;
            execute!(
                conn,
                Mysql,
                "DELETE a FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) gone STRAIGHT_JOIN taskmq_archive a FORCE INDEX (PRIMARY) ON a.id = gone.id",
                Text = &list,
            )?;
            Ok(ids.len())
        })
    }

    fn purge_workflows(&mut self, limit: i64) -> Result<usize> {
        workflows::purge(self, limit)
    }

    fn topics(&mut self) -> Result<Vec<TopicStats>> {
        let rows = load!(
            self, Mysql => rows::StatsSql,
            concat!("SELECT m.topic, ", state!(), ", count(*) FROM ", live_messages!(), " GROUP BY 1, 2
             UNION ALL SELECT topic, state, count(*) FROM taskmq_archive GROUP BY 1, 2")
        )?;
        Ok(rows::topic_stats(rows))
    }

    fn messages(&mut self, filter: &MessageFilter) -> Result<Vec<Message>> {
        let state = filter.state.map(|s| s.as_str());
        let mut found: Vec<rows::MessageRow> = load!(
            self, Mysql => rows::MessageSql,
            concat!("SELECT ", live!(), " FROM ", live_messages!(), " WHERE m.topic = coalesce(?, m.topic) HAVING state = coalesce(?, state)
             ORDER BY of_topic, of_priority DESC, due, id LIMIT ?"),
            Nullable<Text> = filter.topic.as_deref(),
            Nullable<Text> = state,
            BigInt = filter.limit,
        )?;
        let room = filter.limit - i64::try_from(found.len()).unwrap_or(i64::MAX);
        if room > 0 {
            let finished: Vec<rows::MessageRow> = load!(
                self, Mysql => rows::MessageSql,
                concat!("SELECT ", finished!(), " FROM taskmq_archive WHERE topic = coalesce(?, topic) AND state = coalesce(?, state)
                 ORDER BY id DESC LIMIT ?"),
                Nullable<Text> = filter.topic.as_deref(),
                Nullable<Text> = state,
                BigInt = room,
            )?;
            found.extend(finished);
        }
        Ok(found.into_iter().map(rows::message).collect())
    }

    fn message(&mut self, id: MessageId) -> Result<Option<Message>> {
        let found: Vec<rows::MessageRow> = load!(
            self, Mysql => rows::MessageSql,
            concat!("SELECT ", live!(), " FROM ", live_messages!(), " WHERE m.id = ? UNION ALL
             SELECT ", finished!(), " FROM taskmq_archive WHERE id = ?"),
            BigInt = id,
            BigInt = id,
        )?;
        Ok(found.into_iter().map(rows::message).next())
    }

    fn failures(&mut self, id: MessageId) -> Result<Vec<FailedAttempt>> {
        let found: Vec<(i32, String, String, String, i64)> = load!(
            self, Mysql => rows::FailureSql,
            concat!("SELECT attempt, kind, error, worker, ", micros!("failed_at"), " FROM taskmq_failures WHERE message_id = ? ORDER BY id"),
            BigInt = id,
        )?;
        Ok(found.into_iter().map(rows::failed_attempt).collect())
    }

    fn log(&mut self, id: MessageId) -> Result<Vec<LogLine>> {
        logs::of(self, id)
    }
}

/// Each time that done messages are kept for, found by one index probe each.
fn retentions(conn: &mut MysqlConnection) -> Result<Vec<i64>> {
    let mut retentions: Vec<i64> = Vec::new();
    loop {
        let next: Vec<i64> = load!(
            conn, Mysql => BigInt,
            "SELECT keep_seconds FROM taskmq_archive FORCE INDEX (taskmq_archive_finished)
             WHERE state = 'done' AND keep_seconds > ? ORDER BY keep_seconds LIMIT 1",
            BigInt = retentions.last().copied().unwrap_or_default(),
        )?;
        if next.is_empty() {
            return Ok(retentions);
        }
        retentions.extend(next);
    }
}

/// Whether a message has been kept for as long as it was to be.
fn is_any_over(conn: &mut MysqlConnection, retentions: &[i64]) -> Result<bool> {
    if retentions.is_empty() {
        return Ok(false);
    }
    let over: Vec<i64> = load!(
        conn, Mysql => BigInt,
        "SELECT kept.seconds FROM JSON_TABLE(?, '$[*]' COLUMNS (seconds BIGINT PATH '$')) kept
         WHERE (SELECT a.finished_at FROM taskmq_archive a FORCE INDEX (taskmq_archive_finished)
                WHERE a.state = 'done' AND a.keep_seconds = kept.seconds ORDER BY a.finished_at LIMIT 1)
            <= CURRENT_TIMESTAMP(6) - INTERVAL kept.seconds SECOND LIMIT 1",
        Text = json(retentions)?,
    )?;
    Ok(!over.is_empty())
}

fn last_id(conn: &mut MysqlConnection) -> Result<i64> {
    let ids: Vec<i64> = load!(conn, Mysql => BigInt, "SELECT CAST(LAST_INSERT_ID() AS SIGNED)")?;
    Ok(ids.first().copied().unwrap_or_default())
}

fn json<T: Serialize + ?Sized>(items: &T) -> Result<String> {
    serde_json::to_string(items).map_err(|source| Error::Encode { what: "a list", source })
}
