//! All SQL for PostgreSQL.

mod claim;
mod rescue;
mod sessions;
mod settle;
mod turns;

use std::collections::HashMap;
use std::time::Duration;

use diesel::connection::{AnsiTransactionManager, CacheSize, SimpleConnection, TransactionManager};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, SmallInt, Text};

use self::payloads::payload;
use super::again::again;
use super::rows;
use super::workflows::Stepping;
use super::{
    Among, BatchId, Blame, Broker, Claim, Claimed, Exchanged, Leases, Lock, Look, MessageFilter, Peer,
    SessionId, Settlement, Share, Within, WorkerIdentity, WorkflowId, WorkflowRecord, sealed, workflows,
};
use crate::message::{FailedAttempt, LogLine, Message, TopicStats};
use crate::produce::MessageRecord;
use crate::statement::{execute, load};
use crate::{Backend, MessageId, Produced, Result, database_url};

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
            ", CAST(NULL AS BIGINT), coalesce(leased.worker_id, m.worker_id), m.unique_key, m.ordering_key, m.headers::text, ",
            payload!("m"),
            ", CAST(NULL AS TEXT), CAST(NULL AS TEXT)"
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
            ", worker_id, unique_key, ordering_key, headers::text, ",
            payload!("taskmq_archive"),
            ", result::text, error"
        )
    };
}

/// Each time that done messages are kept for, found by one index probe each.
macro_rules! retentions {
    () => {
        "RECURSIVE retention (seconds) AS (
            (SELECT keep_seconds FROM taskmq_archive WHERE state = 'done' AND keep_seconds IS NOT NULL ORDER BY keep_seconds LIMIT 1)
            UNION ALL
            SELECT (SELECT keep_seconds FROM taskmq_archive WHERE state = 'done' AND keep_seconds > r.seconds ORDER BY keep_seconds LIMIT 1)
            FROM retention r WHERE r.seconds IS NOT NULL
         )"
    };
}

/// Opens a connection; libpq's time-outs, without which a vanished server is waited for two hours, are added where
/// the URL does not set them. Of several hosts each gets little time, for the next one may be the one. Behind a pooler a statement that was prepared may be on another session by the next time.
pub(crate) fn connect(url: &str) -> Result<PgConnection> {
    let mut full = url.to_owned();
    let connect_timeout = if database_url::hosts(url) > 1 { "2" } else { "10" };
    for (name, value) in [
        ("connect_timeout", connect_timeout),
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
    let failed = |reason: String| database_url::cannot_connect(url, &reason);
    let mut conn = PgConnection::establish(&full).map_err(|e| failed(e.to_string()))?;
    conn.set_prepared_statement_cache_size(CacheSize::Disabled);
    conn.batch_execute("SET TIME ZONE 'UTC'").map_err(|e| failed(e.to_string()))?;
    if has_own_session(&mut conn).map_err(|e| failed(e.to_string()))? {
        conn.set_prepared_statement_cache_size(CacheSize::Unbounded);
        // Whatever the role's default is: who waited for a lock must see what came before it.
        conn.batch_execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED")
            .map_err(|e| failed(e.to_string()))?;
    }
    Ok(conn)
}

/// Whether the server's session is this connection's alone, from beginning to end. A pooler such as pgbouncer lends
/// sessions that it opened itself, so the application name that `connect` always sends was not there from the
/// beginning. What is set, locked or listened for on such a session goes on to whoever gets it next.
pub(crate) fn has_own_session(conn: &mut PgConnection) -> Result<bool> {
    let own: Vec<bool> =
        load!(conn, Pg => Bool, "SELECT source = 'client' FROM pg_settings WHERE name = 'application_name'")?;
    Ok(own.first() == Some(&true))
}

/// How a worker's statements are planned. Each has one index that serves it, while the statistics of a table that is
/// empty one moment and full the next are no guide to the planner: it is left no other way. (A way that is off counts
/// as very dear, which alone would make the planner compile the statement, and start processes to share it.)
macro_rules! by_index {
    ($set:literal) => {
        concat!(
            $set,
            " enable_seqscan = off; ",
            $set,
            " enable_bitmapscan = off; ",
            $set,
            " enable_sort = off; ",
            $set,
            " jit = off; ",
            $set,
            " max_parallel_workers_per_gather = 0"
        )
    };
}

// Below the macros that they use.
mod admin;
mod cancels;
mod change;
mod diagnosis;
mod limits;
mod logs;
mod paused;
mod payloads;
mod schedules;
mod schemas;
mod stepping;

/// For the connections of a worker. Planning a claim anew would take three times as long as carrying it out, and there
/// is nothing to be found out: each statement is planned once.
#[cfg(feature = "worker")]
pub(crate) fn plan_by_index(conn: &mut PgConnection) -> Result<()> {
    conn.batch_execute(concat!(by_index!("SET"), "; SET plan_cache_mode = force_generic_plan"))?;
    Ok(())
}

/// Where settings would go on to the pooler's other clients they are those of one transaction, and so everything that
/// a worker asks is one.
#[cfg(feature = "worker")]
pub(crate) fn begin_planned(conn: &mut PgConnection, stalled: Duration) -> Result<()> {
    let begin = format!(
        concat!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; ",
            by_index!("SET LOCAL"),
            "; SET LOCAL idle_in_transaction_session_timeout = {}"
        ),
        stalled.as_millis()
    );
    Ok(AnsiTransactionManager::begin_transaction_sql(conn, &begin)?)
}

/// A worker that is stopped in the middle of a transaction must not keep its locks: all others wait for them.
#[cfg(feature = "worker")]
pub(crate) fn end_stalled_transactions(conn: &mut PgConnection, after: Duration) -> Result<()> {
    conn.batch_execute(&format!("SET idle_in_transaction_session_timeout = {}", after.as_millis()))?;
    Ok(())
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

/// From now on producers are to tell of new messages. Look for such as there are after this, not before.
pub(crate) fn rest(conn: &mut PgConnection) -> Result<()> {
    conn.batch_execute("SELECT pg_advisory_lock_shared(1953329457, 1)")?;
    Ok(())
}

/// Producers need not tell: this worker looks by itself.
pub(crate) fn rise(conn: &mut PgConnection) -> Result<()> {
    conn.batch_execute("SELECT pg_advisory_unlock_shared(1953329457, 1)")?;
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

    fn insert(&mut self, message: &MessageRecord) -> Result<Produced> {
        // The other message can end between the two statements; then this one is stored after all.
        loop {
            let stored: Vec<i64> = load!(
                self, Pg => BigInt,
                "INSERT INTO taskmq_messages (topic, priority, run_at, max_attempts, unique_key, ordering_key, headers, payload)
                 VALUES (?, ?, statement_timestamp() + ? * interval '1 microsecond', ?, ?, ?, ?::json, ?::json)
                 ON CONFLICT (topic, unique_key) WHERE unique_key IS NOT NULL DO NOTHING
                 RETURNING id",
                Text = &message.topic,
                SmallInt = message.priority,
                BigInt = message.delay_micros,
                Nullable<SmallInt> = message.max_attempts,
                Nullable<Text> = message.unique_key.as_deref(),
                Nullable<Text> = message.ordering_key.as_deref(),
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

    fn insert_many(&mut self, messages: &[MessageRecord]) -> Result<usize> {
        // Those who want the same unique keys in another order wait for each other.
        again(self, |conn| insert_many(conn, messages))
    }

    fn insert_each(&mut self, messages: &[MessageRecord]) -> Result<Vec<MessageId>> {
        let column = |of: fn(&MessageRecord) -> Option<&str>| messages.iter().map(of).collect::<Vec<_>>();
        let mut ids: Vec<MessageId> = load!(
            self, Pg => BigInt,
            // Ids are drawn in the order of the rows: "INSERT ... SELECT ... ORDER BY" promises that.
            "INSERT INTO taskmq_messages (topic, priority, run_at, max_attempts, ordering_key, headers, payload)
             SELECT topic, priority, statement_timestamp() + delay * interval '1 microsecond', max_attempts, ordering_key,
                    headers::json, payload::json
             FROM unnest(?, ?, ?, ?, ?, ?, ?) WITH ORDINALITY
                AS m (topic, priority, delay, max_attempts, ordering_key, headers, payload, place)
             ORDER BY place RETURNING id",
            Array<Nullable<Text>> = column(|m| Some(&m.topic)),
            Array<SmallInt> = messages.iter().map(|m| m.priority).collect::<Vec<_>>(),
            Array<BigInt> = messages.iter().map(|m| m.delay_micros).collect::<Vec<_>>(),
            Array<Nullable<SmallInt>> = messages.iter().map(|m| m.max_attempts).collect::<Vec<_>>(),
            Array<Nullable<Text>> = column(|m| m.ordering_key.as_deref()),
            Array<Nullable<Text>> = column(|m| m.headers.as_deref()),
            Array<Nullable<Text>> = column(|m| Some(&m.payload)),
        )?;
        ids.sort_unstable();
        Ok(ids)
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
        Ok(claim::claim(self, claim)?.claimed)
    }

    fn promote(&mut self, worker_id: i64, batch: BatchId, ids: &[MessageId], ends: bool) -> Result<bool> {
        self.transaction(|conn| {
            let held = claim::promote(conn, worker_id, batch, ids)?;
            if held && ends {
                claim::end_batches(conn, worker_id, &[batch])?;
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
        claim::next_due(self, topics)
    }

    fn exchange(
        &mut self,
        worker: &WorkerIdentity,
        settlements: &[Settlement],
        ended: &[BatchId],
        claim: Option<&Claim<'_>>,
    ) -> Result<Exchanged> {
        settle::exchange(self, worker, settlements, ended, claim)
    }

    fn is_in_transaction(&mut self) -> Result<bool> {
        let status = AnsiTransactionManager::transaction_manager_status_mut(self);
        Ok(status.transaction_depth()?.is_some())
    }

    fn begin(&mut self) -> Result<()> {
        Ok(AnsiTransactionManager::begin_transaction(self)?)
    }

    fn ack(&mut self, worker: &WorkerIdentity, settlement: &Settlement) -> Result<bool> {
        // The handler has run its own statements by now. A savepoint can be set only while the transaction is open.
        self.batch_execute(concat!("SAVEPOINT taskmq; RELEASE SAVEPOINT taskmq; ", by_index!("SET LOCAL")))?;
        let held = !settle::done(self, worker, &[settlement])?.is_empty();
        if held && settlement.ends_turn() {
            turns::pass_turns(self, &[settlement.id])?;
        }
        if held {
            workflows::advance(self, std::iter::once(settlement))?;
        }
        if held && settlement.touches_log() {
            logs::write(self, std::iter::once(settlement))?;
        }
        if held && settlement.forgets_payload() {
            payloads::delete(self, &[settlement.id])?;
        }
        Ok(held)
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
        if !has_own_session(self)? {
            return Ok(Lock::Unsupported);
        }
        let got: Vec<bool> = load!(self, Pg => Bool, "SELECT pg_try_advisory_lock(?)", BigInt = worker_id)?;
        if got.first() != Some(&true) {
            return Ok(Lock::Busy);
        }
        execute!(
            self,
            Pg,
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
            Pg,
            "UPDATE taskmq_workers SET beat = beat + 1, beat_at = clock_timestamp(), memory_bytes = coalesce(?, memory_bytes) WHERE id = ?",
            Nullable<BigInt> = memory_bytes.and_then(|bytes| i64::try_from(bytes).ok()),
            BigInt = worker_id,
        )?;
        Ok(touched > 0)
    }

    fn look(&mut self, worker_id: i64, topics: &[&str]) -> Result<Look> {
        claim::look(self, worker_id, topics)
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
            Pg,
            "UPDATE taskmq_workers SET alone_with = ? WHERE id = ?",
            Nullable<BigInt> = blame.alone_with(),
            BigInt = worker_id
        )?;
        Ok(())
    }

    fn deregister(&mut self, worker_id: i64) -> Result<()> {
        execute!(self, Pg, "DELETE FROM taskmq_workers WHERE id = ?", BigInt = worker_id)?;
        Ok(())
    }

    fn take_back(&mut self, ids: &[MessageId]) -> Result<usize> {
        cancels::take_back(self, ids)
    }

    fn mend_lines(&mut self) -> Result<usize> {
        self.transaction(turns::mend_lines)
    }

    fn purge(&mut self, limit: i64) -> Result<usize> {
        Ok(execute!(
            self, Pg,
            concat!("WITH ", retentions!(), ", over AS MATERIALIZED (
                SELECT due.id FROM retention CROSS JOIN LATERAL (
                    SELECT a.id FROM taskmq_archive a WHERE a.state = 'done' AND a.keep_seconds = retention.seconds
                    AND a.finished_at <= statement_timestamp() - least(retention.seconds, 100000000000) * interval '1 second'
                    ORDER BY a.finished_at LIMIT ? FOR UPDATE SKIP LOCKED
                ) due LIMIT ?
             ), gone AS (
                DELETE FROM taskmq_archive WHERE id = ANY(ARRAY(SELECT id FROM over)) RETURNING id
             ), failures AS (
                DELETE FROM taskmq_failures WHERE message_id IN (SELECT id FROM gone)
             ), logs AS (
                DELETE FROM taskmq_logs WHERE message_id IN (SELECT id FROM gone)
             ), payloads AS (
                DELETE FROM taskmq_payloads WHERE id = ANY(ARRAY(SELECT id FROM gone))
             )
             SELECT id FROM gone"),
            BigInt = limit,
            BigInt = limit,
        )?)
    }

    fn purge_workflows(&mut self, limit: i64) -> Result<usize> {
        workflows::purge(self, limit)
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

    fn log(&mut self, id: MessageId) -> Result<Vec<LogLine>> {
        logs::of(self, id)
    }
}

fn insert_many(conn: &mut PgConnection, messages: &[MessageRecord]) -> Result<usize> {
    if let Some((first, payloads)) = super::alike(messages) {
        return Ok(execute!(
            conn, Pg,
            "INSERT INTO taskmq_messages (topic, priority, run_at, max_attempts, payload)
             SELECT ?, ?, time.due, ?, payload::json
             FROM (SELECT statement_timestamp() + ? * interval '1 microsecond' AS due OFFSET 0) time, unnest(?) AS payload",
            Text = &first.topic,
            SmallInt = first.priority,
            Nullable<SmallInt> = first.max_attempts,
            BigInt = first.delay_micros,
            Array<Text> = payloads,
        )?);
    }
    let column = |of: fn(&MessageRecord) -> Option<&str>| messages.iter().map(of).collect::<Vec<_>>();
    Ok(execute!(
        conn, Pg,
        "INSERT INTO taskmq_messages (topic, priority, run_at, max_attempts, unique_key, ordering_key, headers, payload)
         SELECT topic, priority, statement_timestamp() + delay * interval '1 microsecond', max_attempts, unique_key,
                ordering_key, headers::json, payload::json
         FROM unnest(?, ?, ?, ?, ?, ?, ?, ?) AS m (topic, priority, delay, max_attempts, unique_key, ordering_key, headers, payload)
         ON CONFLICT (topic, unique_key) WHERE unique_key IS NOT NULL DO NOTHING",
        Array<Nullable<Text>> = column(|m| Some(&m.topic)),
        Array<SmallInt> = messages.iter().map(|m| m.priority).collect::<Vec<_>>(),
        Array<BigInt> = messages.iter().map(|m| m.delay_micros).collect::<Vec<_>>(),
        Array<Nullable<SmallInt>> = messages.iter().map(|m| m.max_attempts).collect::<Vec<_>>(),
        Array<Nullable<Text>> = column(|m| m.unique_key.as_deref()),
        Array<Nullable<Text>> = column(|m| m.ordering_key.as_deref()),
        Array<Nullable<Text>> = column(|m| m.headers.as_deref()),
        Array<Nullable<Text>> = column(|m| Some(&m.payload)),
    )?)
}
