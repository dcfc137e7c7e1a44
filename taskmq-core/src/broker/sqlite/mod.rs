//! All SQL for SQLite. One writer at a time is SQLite's own rule: every write here is one `BEGIN IMMEDIATE`
//! transaction of a few milliseconds, so no lock of ours is needed on a row.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, SmallInt, Text};
use diesel::sqlite::Sqlite;

use self::claim::{batches_of, claim_in, end_batches, next_lane, promote_in, worker_exists};
use self::leased::{Leased, unleased};
use self::settle::{settle_in, settle_one};
use super::payloads::payload;
use super::rows;
use super::workflows::Stepping;
use super::{
    Among, BatchId, Blame, Broker, Claim, Claimed, Exchanged, Leases, Lock, Look, MessageFilter, Peer,
    Settlement, Share, Within, WorkerIdentity, WorkflowId, WorkflowRecord, sealed, workflows,
};
use crate::message::{FailedAttempt, LogLine, Message, TopicStats};
use crate::produce::MessageRecord;
use crate::statement::{execute, load};
use crate::{Backend, Error, MessageId, Produced, Result};

/// After a transaction that was longer than this one, a worker leaves the write lock to others for a quarter of that time. SQLite has no
/// line for the lock, and a host's own statements ask for it each tenth of a second: between workers that take it in
/// turns they would find it taken for as long as those have thousands of failures to write.
const LONG: Duration = Duration::from_millis(25);

/// The time now, in the one form in which the tables have times.
macro_rules! now {
    () => {
        "strftime('%Y-%m-%d %H:%M:%f', 'now')"
    };
}

/// A time as microseconds since 1970.
macro_rules! micros {
    ($column:literal) => {
        concat!("CAST(unixepoch(", $column, ", 'subsec') * 1000 AS INTEGER) * 1000")
    };
}

/// Every message that is leased with its batch: `leased.id`, and its claim's own columns. Only of a number that is known
/// to be one does SQLite make an index for the join; it would walk the whole list for each message otherwise.
macro_rules! leased {
    () => {
        "(SELECT CAST(leased.value AS INTEGER) AS id, claim.worker_id, claim.claimed_at
          FROM taskmq_claims claim, json_each(claim.message_ids) leased) leased"
    };
}

/// Each time that done messages are kept for, found by one index probe each.
macro_rules! retentions {
    () => {
        "RECURSIVE retention (seconds) AS (
            SELECT min(keep_seconds) FROM taskmq_archive WHERE state = 'done' AND keep_seconds IS NOT NULL
            UNION ALL
            SELECT (SELECT min(keep_seconds) FROM taskmq_archive WHERE state = 'done' AND keep_seconds > r.seconds)
            FROM retention r WHERE r.seconds IS NOT NULL
         )"
    };
}

/// A message's state while it lives; for `m LEFT JOIN leased`.
macro_rules! state {
    () => {
        concat!(
            "CASE WHEN m.worker_id > 0 OR leased.id IS NOT NULL THEN 'running'
                  WHEN m.attempts > 0 AND m.run_at > ",
            now!(),
            " THEN 'retrying' WHEN m.run_at > ",
            now!(),
            " THEN 'scheduled' ELSE 'ready' END"
        )
    };
}

/// The columns of a live message in the order of `rows::MessageSql`; for `m LEFT JOIN leased`.
macro_rules! live {
    () => {
        concat!(
            "m.id, m.topic, ",
            state!(),
            " AS state, m.priority, m.attempts + (leased.id IS NOT NULL), m.crashes, m.max_attempts, ",
            micros!("m.created_at"),
            ", ",
            micros!("m.run_at"),
            ", ",
            micros!("coalesce(leased.claimed_at, m.claimed_at)"),
            ", NULL, coalesce(leased.worker_id, m.worker_id), m.unique_key, m.ordering_key, m.headers, ",
            payload!("m"),
            ", NULL, NULL"
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
mod claim;
mod diagnosis;
mod leased;
mod limits;
mod logs;
mod look;
mod paused;
mod payloads;
mod rescue;
mod runs;
mod schedules;
mod schemas;
mod settle;
mod stepping;
mod turns;
mod waits;
mod write_lock;

pub(crate) fn connect(url: &str) -> Result<SqliteConnection> {
    let failed = |reason: String| crate::database_url::cannot_connect(url, &reason);
    let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("file:")).unwrap_or(url);
    let path = path.split('?').next().unwrap_or(path);
    if path != ":memory:" && !path.is_empty() && !Path::new(path).exists() {
        return Err(failed(
            "there is no such file; `diesel migration run` or `taskmq-cli migrate` makes it".to_owned(),
        ));
    }
    let mut conn = SqliteConnection::establish(url).map_err(|e| failed(e.to_string()))?;
    conn.batch_execute(
        "PRAGMA busy_timeout = 30000; PRAGMA synchronous = FULL; PRAGMA cache_size = -12000; PRAGMA wal_autocheckpoint = 4000; PRAGMA temp_store = MEMORY;",
    )
        .map_err(|e| failed(e.to_string()))?;
    // Two that first open a new file at once: SQLite does not wait for the other one here, whatever the time-out.
    let began = Instant::now();
    while let Err(error) = conn.batch_execute("PRAGMA journal_mode = WAL;") {
        if began.elapsed() > Duration::from_secs(5) || !error.to_string().contains("database is locked") {
            return Err(failed(error.to_string()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(conn)
}

/// The write lock is waited for so long at most.
#[cfg(feature = "worker")]
pub(crate) fn wait_for_lock(conn: &mut SqliteConnection, time: Duration) -> Result<()> {
    Ok(conn.batch_execute(&format!("PRAGMA busy_timeout = {}", time.as_millis()))?)
}

/// The file of the main database; `None` for one in memory.
pub(crate) fn file_of(conn: &mut SqliteConnection) -> Result<Option<String>> {
    let files: Vec<String> =
        load!(conn, Sqlite => Text, "SELECT file FROM pragma_database_list WHERE name = 'main'")?;
    Ok(files.into_iter().next().filter(|file| !file.is_empty()))
}

/// Changes whenever another connection has committed.
pub(crate) fn data_version(conn: &mut SqliteConnection) -> Result<i64> {
    let versions: Vec<i64> = load!(conn, Sqlite => BigInt, "PRAGMA data_version")?;
    Ok(versions.first().copied().unwrap_or_default())
}

/// The version of the SQLite library.
pub(crate) fn library_version(conn: &mut SqliteConnection) -> Result<String> {
    let versions: Vec<String> = load!(conn, Sqlite => Text, "SELECT sqlite_version()")?;
    Ok(versions.into_iter().next().unwrap_or_default())
}

impl sealed::Sealed for SqliteConnection {}

impl Broker for SqliteConnection {
    fn backend(&self) -> Backend {
        Backend::Sqlite
    }

    fn schema_version(&mut self) -> Result<i32> {
        let version: Vec<i32> =
            load!(self, Sqlite => Integer, "SELECT coalesce(max(version), 0) FROM taskmq_schema")?;
        Ok(version.first().copied().unwrap_or_default())
    }

    fn insert(&mut self, message: &MessageRecord) -> Result<Produced> {
        let delay = delay_modifier(message.delay_micros);
        // The other message can end between the two statements; then this one is stored after all.
        loop {
            let stored: Vec<i64> = write_lock::with(self, |conn| {
                Ok(load!(
                    conn, Sqlite => BigInt,
                    "INSERT INTO taskmq_messages (topic, priority, run_at, max_attempts, unique_key, ordering_key, headers, checked, payload)
                 VALUES (?, ?, strftime('%Y-%m-%d %H:%M:%f', 'now', ?), ?, ?, ?, ?, TRUE, ?)
                 ON CONFLICT (topic, unique_key) WHERE unique_key IS NOT NULL DO NOTHING
                 RETURNING id",
                    Text = &message.topic,
                    SmallInt = message.priority,
                    Text = &delay,
                    Nullable<SmallInt> = message.max_attempts,
                    Nullable<Text> = message.unique_key.as_deref(),
                    Nullable<Text> = message.ordering_key.as_deref(),
                    Nullable<Text> = message.headers.as_deref(),
                    Text = &message.payload,
                )?)
            })?;
            if let Some(id) = stored.first() {
                return Ok(Produced::New(*id));
            }
            let existing: Vec<i64> = load!(
                self, Sqlite => BigInt,
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
        if let Some((first, payloads)) = super::alike(messages) {
            // LIMIT keeps SQLite from working the times out again for each message.
            let payloads = json_list(&payloads)?;
            return write_lock::with(self, |conn| {
                Ok(execute!(
                    conn, Sqlite,
                    "INSERT INTO taskmq_messages (topic, priority, run_at, created_at, max_attempts, checked, payload)
                 SELECT ?, ?, time.due, time.now, ?, TRUE, message.value
                 FROM (SELECT strftime('%Y-%m-%d %H:%M:%f', 'now', ?) AS due, strftime('%Y-%m-%d %H:%M:%f', 'now') AS now LIMIT 1) time
                 CROSS JOIN json_each(?) message",
                    Text = &first.topic,
                    SmallInt = first.priority,
                    Nullable<SmallInt> = first.max_attempts,
                    Text = delay_modifier(first.delay_micros),
                    Text = &payloads,
                )?)
            });
        }
        let records = serde_json::to_string(messages)
            .map_err(|source| Error::Encode { what: "the messages", source })?;
        write_lock::with(self, |conn| {
            Ok(execute!(
            conn, Sqlite,
            "INSERT INTO taskmq_messages (topic, priority, run_at, max_attempts, unique_key, ordering_key, headers, checked, payload)
             SELECT value ->> 'topic', value ->> 'priority',
                    strftime('%Y-%m-%d %H:%M:%f', 'now', ((value ->> 'delay_micros') / 1000000.0) || ' seconds'),
                    value ->> 'max_attempts', value ->> 'unique_key', value ->> 'ordering_key', value ->> 'headers',
                    TRUE, value ->> 'payload'
             FROM json_each(?) WHERE true
             ON CONFLICT (topic, unique_key) WHERE unique_key IS NOT NULL DO NOTHING",
            Text = &records,
        )?)
        })
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
        write_lock::transaction(self, |conn| Ok(claim_in(conn, claim)?.0))
    }

    fn promote(&mut self, worker_id: i64, batch: BatchId, ids: &[MessageId], ends: bool) -> Result<bool> {
        write_lock::transaction(self, |conn| {
            if !batches_of(conn, worker_id)?.contains(&batch) {
                return Ok(false);
            }
            promote_in(conn, worker_id, batch, &json_list(ids)?)?;
            if ends {
                end_batches(conn, worker_id, &[batch])?;
            }
            Ok(true)
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
        let leased = Leased::note(self)?;
        let mut soonest: Option<i64> = None;
        for topic in topics {
            let mut lane = next_lane(self, topic, i32::from(i16::MAX) + 1)?;
            while let Some(priority) = lane {
                let wait: Vec<i64> = load!(
                    self, Sqlite => BigInt,
                    concat!("SELECT max(0, CAST((julianday(run_at) - julianday('now')) * 86400000 AS INTEGER)) FROM taskmq_messages
                     WHERE worker_id = 0 AND topic = ? AND priority = ? AND ", unleased!(), "
                     ORDER BY run_at LIMIT 1"),
                    Text = *topic,
                    SmallInt = priority,
                    BigInt = leased.longest.0,
                    BigInt = leased.longest.1,
                )?;
                soonest = soonest.into_iter().chain(wait).min();
                if soonest == Some(0) {
                    return Ok(Some(Duration::ZERO));
                }
                lane = next_lane(self, topic, i32::from(priority))?;
            }
        }
        Ok(soonest.map(|millis| Duration::from_millis(millis.unsigned_abs())))
    }

    fn exchange(
        &mut self,
        worker: &WorkerIdentity,
        settlements: &[Settlement],
        ended: &[BatchId],
        claim: Option<&Claim<'_>>,
    ) -> Result<Exchanged> {
        let mut began = Instant::now();
        let exchanged = write_lock::transaction(self, |conn| {
            // From here on it keeps others out, and not while it waited for the lock itself.
            began = Instant::now();
            let lost = settle_in(conn, worker, settlements)?;
            end_batches(conn, worker.id, ended)?;
            let (claimed, in_line) = claim.map_or(Ok((Vec::new(), 0)), |claim| claim_in(conn, claim))?;
            Ok::<_, Error>(Exchanged { lost, claimed, in_line, busy: false, searched: Duration::ZERO })
        })?;
        let long = began.elapsed();
        if long > LONG {
            std::thread::sleep(long / 4);
        }
        Ok(exchanged)
    }

    fn is_in_transaction(&mut self) -> Result<bool> {
        let status = AnsiTransactionManager::transaction_manager_status_mut(self);
        Ok(status.transaction_depth()?.is_some())
    }

    fn begin(&mut self) -> Result<()> {
        if self.is_in_transaction()? {
            AnsiTransactionManager::begin_transaction(self)?;
        } else {
            write_lock::with(self, |conn| {
                Ok(AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN IMMEDIATE")?)
            })?;
        }
        // A full disk undoes all of the transaction, and what comes after it is none: each statement is committed at once.
        Ok(self.batch_execute("SAVEPOINT taskmq")?)
    }

    fn ack(&mut self, worker: &WorkerIdentity, settlement: &Settlement) -> Result<bool> {
        self.batch_execute("RELEASE SAVEPOINT taskmq")?;
        let held = settle_one(self, worker, settlement)?;
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
            payloads::delete(self, &json_list(&[settlement.id])?)?;
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
        write_lock::with(self, |conn| {
            execute!(
                conn,
                Sqlite,
                "INSERT INTO taskmq_workers (id, host, pid, version, topics, concurrency, locked) VALUES (?, ?, ?, ?, ?, ?, TRUE)",
                BigInt = worker.id,
                Text = &worker.host,
                Integer = worker.pid,
                Text = env!("CARGO_PKG_VERSION"),
                Text = &worker.topics,
                Integer = worker.concurrency,
            )?;
            Ok(())
        })
    }

    /// A connection to SQLite cannot hold a lock for a session: the worker locks a file of its own instead.
    fn lock(&mut self, _worker_id: i64) -> Result<Lock> {
        Ok(Lock::Unsupported)
    }

    /// Without anything to note it only looks: the file lock tells who lives, and an idle worker should not take the write
    /// lock every second.
    fn beat(&mut self, worker_id: i64, memory_bytes: Option<u64>) -> Result<bool> {
        let Some(bytes) = memory_bytes else { return worker_exists(self, worker_id) };
        let touched = write_lock::with(self, |conn| {
            Ok(execute!(
                conn,
                Sqlite,
                "UPDATE taskmq_workers SET beat = beat + 1, beat_at = strftime('%Y-%m-%d %H:%M:%f', 'now'), memory_bytes = ? WHERE id = ?",
                BigInt = i64::try_from(bytes).unwrap_or(i64::MAX),
                BigInt = worker_id,
            )?)
        })?;
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
        write_lock::with(self, |conn| {
            execute!(
                conn,
                Sqlite,
                "UPDATE taskmq_workers SET alone_with = ? WHERE id = ?",
                Nullable<BigInt> = blame.alone_with(),
                BigInt = worker_id
            )?;
            Ok(())
        })
    }

    fn deregister(&mut self, worker_id: i64) -> Result<()> {
        write_lock::with(self, |conn| {
            execute!(conn, Sqlite, "DELETE FROM taskmq_workers WHERE id = ?", BigInt = worker_id)?;
            Ok(())
        })
    }

    fn take_back(&mut self, ids: &[MessageId]) -> Result<usize> {
        cancels::take_back(self, ids)
    }

    fn mend_lines(&mut self) -> Result<usize> {
        if !turns::are_lines_broken(self)? {
            return Ok(0);
        }
        write_lock::transaction(self, turns::mend_lines)
    }

    fn purge(&mut self, limit: i64) -> Result<usize> {
        // Without the write lock first: most of the time there is nothing.
        let find = |conn: &mut Self| -> Result<Vec<i64>> {
            Ok(load!(
                conn, Sqlite => BigInt,
                concat!("WITH ", retentions!(), "
                 SELECT a.id FROM retention CROSS JOIN taskmq_archive a ON a.state = 'done' AND a.keep_seconds = retention.seconds
                    AND a.finished_at <= strftime('%Y-%m-%d %H:%M:%f', 'now', -retention.seconds || ' seconds')
                 LIMIT ?"),
                BigInt = limit,
            )?)
        };
        if find(self)?.is_empty() {
            return Ok(0);
        }
        write_lock::transaction(self, |conn| {
            let ids = json_list(&find(conn)?)?;
            execute!(
                conn,
                Sqlite,
                "DELETE FROM taskmq_failures WHERE message_id IN (SELECT value FROM json_each(?))",
                Text = &ids
            )?;
            logs::delete(conn, &ids)?;
            payloads::delete(conn, &ids)?;
            Ok(execute!(
                conn,
                Sqlite,
                "DELETE FROM taskmq_archive WHERE id IN (SELECT value FROM json_each(?))",
                Text = &ids
            )?)
        })
    }

    fn purge_workflows(&mut self, limit: i64) -> Result<usize> {
        workflows::purge(self, limit)
    }

    fn topics(&mut self) -> Result<Vec<TopicStats>> {
        let rows = load!(
            self, Sqlite => rows::StatsSql,
            concat!("SELECT topic, ", state!(), ", count(*) FROM taskmq_messages m LEFT JOIN ", leased!(), " ON leased.id = m.id GROUP BY 1, 2
             UNION ALL SELECT topic, state, count(*) FROM taskmq_archive GROUP BY 1, 2")
        )?;
        Ok(rows::topic_stats(rows))
    }

    fn messages(&mut self, filter: &MessageFilter) -> Result<Vec<Message>> {
        let state = filter.state.map(|s| s.as_str());
        let found: Vec<rows::MessageRow> = load!(
            self, Sqlite => rows::MessageSql,
            concat!("SELECT * FROM (SELECT ", live!(), " FROM taskmq_messages m LEFT JOIN ", leased!(), " ON leased.id = m.id
                WHERE m.topic = coalesce(?, m.topic) ORDER BY m.topic, m.priority DESC, m.run_at, m.id) WHERE state = coalesce(?, state)
             UNION ALL
             SELECT * FROM (SELECT ", finished!(), " FROM taskmq_archive
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
            self, Sqlite => rows::MessageSql,
            concat!("SELECT ", live!(), " FROM taskmq_messages m LEFT JOIN ", leased!(), " ON leased.id = m.id WHERE m.id = ? UNION ALL
             SELECT ", finished!(), " FROM taskmq_archive WHERE id = ?"),
            BigInt = id,
            BigInt = id,
        )?;
        Ok(found.into_iter().map(rows::message).next())
    }

    fn failures(&mut self, id: MessageId) -> Result<Vec<FailedAttempt>> {
        let found: Vec<(i32, String, String, String, i64)> = load!(
            self, Sqlite => rows::FailureSql,
            concat!("SELECT attempt, kind, error, worker, ", micros!("failed_at"), " FROM taskmq_failures WHERE message_id = ? ORDER BY id"),
            BigInt = id,
        )?;
        Ok(found.into_iter().map(rows::failed_attempt).collect())
    }

    fn log(&mut self, id: MessageId) -> Result<Vec<LogLine>> {
        logs::of(self, id)
    }
}

fn delay_modifier(micros: i64) -> String {
    // SQLite's times have milliseconds; rounding up keeps a delay from ending early.
    let millis = micros.unsigned_abs().div_ceil(1000);
    format!("+{}.{:03} seconds", millis / 1000, millis % 1000)
}

fn json_list<T: serde::Serialize>(items: &[T]) -> Result<String> {
    serde_json::to_string(items).map_err(|source| Error::Encode { what: "a list", source })
}
