//! All SQL for MariaDB (10.6 or newer) and MySQL (8.0.19 or newer). Neither `RETURNING` nor `LATERAL` is in both, so
//! a claim is a few statements in one transaction; rows are locked, updated and deleted by primary key only.

use std::time::Duration;

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, SmallInt, Text};
use serde::Serialize;

use super::rows;
use super::{Broker, Claim, Claimed, Lock, MessageFilter, Outcome, Peer, Settlement, WorkerIdentity, sealed};
use crate::message::{FailedAttempt, Message, TopicStats};
use crate::produce::MessageRecord;
use crate::statement::{execute, load};
use crate::{Backend, Error, MessageId, Produced, Result, Retention};

/// A time as microseconds since 1970. The column's own value, whatever the session's time zone is.
macro_rules! micros {
    ($column:literal) => {
        concat!("CAST(UNIX_TIMESTAMP(", $column, ") * 1000000 AS SIGNED)")
    };
}

/// A message's state while it lives.
macro_rules! state {
    () => {
        "CASE WHEN worker_id > 0 THEN 'running' WHEN attempts > 0 AND run_at > CURRENT_TIMESTAMP(6) THEN 'retrying'
              WHEN run_at > CURRENT_TIMESTAMP(6) THEN 'scheduled' ELSE 'ready' END"
    };
}

/// The columns of a live message in the order of `rows::MessageSql`.
macro_rules! live {
    () => {
        concat!(
            "id, topic, ",
            state!(),
            " AS state, priority, attempts, crashes, max_attempts, ",
            micros!("created_at"),
            ", ",
            micros!("run_at"),
            " AS due, ",
            micros!("claimed_at"),
            " AS claimed, CAST(NULL AS SIGNED), worker_id, unique_key, headers, payload,
            CAST(NULL AS CHAR) AS result, CAST(NULL AS CHAR) AS error"
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
            ", worker_id, unique_key, headers, payload, result, error"
        )
    };
}

/// The rest of the statement that stores many messages, given as a JSON array. Without a character set its texts would
/// go through that of the database, which may be latin1.
macro_rules! many {
    () => {
        "taskmq_messages (topic, priority, run_at, max_attempts, unique_key, headers, payload)
         SELECT topic, priority,
                IF(delay_micros = 0, CURRENT_TIMESTAMP(6), FROM_UNIXTIME(UNIX_TIMESTAMP(CURRENT_TIMESTAMP(6)) + delay_micros / 1000000)),
                max_attempts, unique_key, headers, payload
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
            topic VARCHAR(100) PATH '$.topic', priority SMALLINT PATH '$.priority', delay_micros BIGINT PATH '$.delay_micros',
            max_attempts SMALLINT PATH '$.max_attempts', unique_key VARCHAR(255) CHARACTER SET utf8mb4 PATH '$.unique_key',
            headers LONGTEXT CHARACTER SET utf8mb4 PATH '$.headers', payload LONGTEXT CHARACTER SET utf8mb4 PATH '$.payload')) m"
    };
}

pub(crate) fn connect(url: &str) -> Result<MysqlConnection> {
    let failed = |reason: String| Error::Connect { database: super::without_password(url), reason };
    let mut conn = MysqlConnection::establish(url).map_err(|e| failed(e.to_string()))?;
    // READ COMMITTED: gap locks of the default would make claims and producers deadlock.
    conn.batch_execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        .and_then(|()| conn.batch_execute("SET SESSION time_zone = '+00:00'"))
        .map_err(|e| failed(e.to_string()))?;
    Ok(conn)
}

/// Lets the server drop this session when it says nothing for the length of a lease, whatever became of its client.
pub(crate) fn drop_when_silent(conn: &mut MysqlConnection, lease: Duration) -> Result<()> {
    conn.batch_execute(&format!("SET SESSION wait_timeout = {}", lease.as_secs().max(1)))?;
    Ok(())
}

/// Runs a transaction again when InnoDB chose it as the victim of a deadlock: nothing of it has happened then.
fn transaction<T>(
    conn: &mut MysqlConnection,
    mut run: impl FnMut(&mut MysqlConnection) -> Result<T>,
) -> Result<T> {
    let mut tries = 0;
    loop {
        match conn.transaction(&mut run) {
            Err(error) if tries < 10 && is_conflict(&error) => tries += 1,
            outcome => return outcome,
        }
    }
}

/// Errors 1213, 1205 and 1020; Diesel has no kinds for them, so the server's words decide.
fn is_conflict(error: &Error) -> bool {
    let Error::Database(diesel::result::Error::DatabaseError(_, info)) = error else { return false };
    ["Deadlock found", "Lock wait timeout", "Record has changed since last read"]
        .iter()
        .any(|words| info.message().contains(words))
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

    fn produce(&mut self, message: &MessageRecord) -> Result<Produced> {
        // The other message can end between the two statements; then this one is stored after all.
        loop {
            // Adding to the Unix time and not to the session's local time: a summer-time change would shift the delay.
            let stored = execute!(
                self, Mysql,
                "INSERT INTO taskmq_messages (topic, priority, run_at, max_attempts, unique_key, headers, payload)
                 VALUES (?, ?, IF(? = 0, CURRENT_TIMESTAMP(6), FROM_UNIXTIME(UNIX_TIMESTAMP(CURRENT_TIMESTAMP(6)) + ? / 1000000)), ?, ?, ?, ?)",
                Text = &message.topic,
                SmallInt = message.priority,
                BigInt = message.delay_micros,
                BigInt = message.delay_micros,
                Nullable<SmallInt> = message.max_attempts,
                Nullable<Text> = message.unique_key.as_deref(),
                Nullable<Text> = message.headers.as_deref(),
                Text = &message.payload,
            );
            match stored {
                Ok(_) => {
                    let ids: Vec<i64> =
                        load!(self, Mysql => BigInt, "SELECT CAST(LAST_INSERT_ID() AS SIGNED)")?;
                    return Ok(Produced::New(ids.first().copied().unwrap_or_default()));
                }
                Err(diesel::result::Error::DatabaseError(
                    diesel::result::DatabaseErrorKind::UniqueViolation,
                    _,
                )) if message.unique_key.is_some() => {}
                Err(error) => return Err(error.into()),
            }
            let existing: Vec<i64> = load!(
                self, Mysql => BigInt,
                // A locking read sees what is committed, however old the snapshot of the host's transaction is.
                "SELECT id FROM taskmq_messages WHERE topic = ? AND unique_key = ? LOCK IN SHARE MODE",
                Text = &message.topic,
                Nullable<Text> = message.unique_key.as_deref(),
            )?;
            if let Some(id) = existing.first() {
                return Ok(Produced::Existing(*id));
            }
        }
    }

    fn produce_many(&mut self, messages: &[MessageRecord]) -> Result<usize> {
        let records = json(messages)?;
        // IGNORE swallows more errors than that of a taken key, so it is only there where there are keys; all else
        // that it could swallow was checked before.
        Ok(if messages.iter().any(|m| m.unique_key.is_some()) {
            execute!(self, Mysql, concat!("INSERT IGNORE INTO ", many!()), Text = records)?
        } else {
            execute!(self, Mysql, concat!("INSERT INTO ", many!()), Text = records)?
        })
    }

    fn claim(&mut self, claim: &Claim<'_>) -> Result<Vec<Claimed>> {
        transaction(self, |conn| {
            let mut claimed: Vec<Claimed> = Vec::new();
            if !worker_exists(conn, claim.worker_id)? {
                return Ok(claimed);
            }
            'topics: for topic in claim.topics {
                let mut lane = next_lane(conn, topic, i32::from(i16::MAX) + 1)?;
                while let Some(priority) = lane {
                    let room = claim.limit - i64::try_from(claimed.len()).unwrap_or(i64::MAX);
                    if room <= 0 {
                        break 'topics;
                    }
                    let rows: Vec<ClaimedRow> = load!(
                        conn, Mysql => ClaimedSql,
                        "SELECT id, topic, attempts, crashes, max_attempts, headers, payload
                         FROM taskmq_messages FORCE INDEX (taskmq_messages_ready)
                         WHERE worker_id = 0 AND topic = ? AND priority = ? AND run_at <= CURRENT_TIMESTAMP(6)
                         ORDER BY run_at, id LIMIT ? FOR UPDATE SKIP LOCKED",
                        Text = *topic,
                        SmallInt = priority,
                        BigInt = room,
                    )?;
                    claimed.extend(rows.into_iter().map(claimed_row));
                    lane = next_lane(conn, topic, i32::from(priority))?;
                }
            }
            lease(conn, claim.worker_id, &claimed)?;
            Ok(claimed)
        })
    }

    fn claim_alone(&mut self, worker_id: i64, topics: &[&str]) -> Result<Option<Claimed>> {
        let topics = json(topics)?;
        transaction(self, |conn| {
            let rows: Vec<ClaimedRow> = load!(
                conn, Mysql => ClaimedSql,
                "SELECT id, topic, attempts, crashes, max_attempts, headers, payload
                 FROM taskmq_messages FORCE INDEX (taskmq_messages_ready)
                 WHERE worker_id = -1 AND JSON_CONTAINS(?, JSON_QUOTE(topic)) AND run_at <= CURRENT_TIMESTAMP(6)
                 ORDER BY priority DESC, run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED",
                Text = &topics,
            )?;
            let claimed: Vec<Claimed> = rows.into_iter().map(claimed_row).collect();
            let Some(first) = claimed.first() else { return Ok(None) };
            let noted = execute!(
                conn,
                Mysql,
                "UPDATE taskmq_workers SET alone_with = ? WHERE id = ?",
                BigInt = first.id,
                BigInt = worker_id,
            )?;
            if noted == 0 {
                return Ok(None);
            }
            lease(conn, worker_id, &claimed)?;
            Ok(claimed.into_iter().next())
        })
    }

    fn next_due(&mut self, topics: &[&str]) -> Result<Option<Duration>> {
        let mut soonest: Option<i64> = None;
        for topic in topics {
            let mut lane = next_lane(self, topic, i32::from(i16::MAX) + 1)?;
            while let Some(priority) = lane {
                let wait: Vec<i64> = load!(
                    self, Mysql => BigInt,
                    "SELECT GREATEST(0, TIMESTAMPDIFF(MICROSECOND, CURRENT_TIMESTAMP(6), run_at))
                     FROM taskmq_messages FORCE INDEX (taskmq_messages_ready)
                     WHERE worker_id = 0 AND topic = ? AND priority = ? ORDER BY run_at LIMIT 1",
                    Text = *topic,
                    SmallInt = priority,
                )?;
                soonest = soonest.into_iter().chain(wait).min();
                if soonest == Some(0) {
                    return Ok(Some(Duration::ZERO));
                }
                lane = next_lane(self, topic, i32::from(priority))?;
            }
        }
        Ok(soonest.map(|micros| Duration::from_micros(micros.unsigned_abs())))
    }

    fn settle(&mut self, worker: &WorkerIdentity, settlements: &[Settlement]) -> Result<Vec<MessageId>> {
        transaction(self, |conn| {
            let held = lock_held(conn, worker.id, settlements)?;
            let (settlements, lost): (Vec<&Settlement>, Vec<&Settlement>) =
                settlements.iter().partition(|s| held.contains(&s.id));
            settle_done(conn, &settlements)?;
            for settlement in settlements {
                settle_other(conn, worker, settlement)?;
            }
            if lost.is_empty() {
                return Ok(Vec::new());
            }
            let written = settled_before(conn, worker.id, &lost)?;
            Ok(lost.into_iter().map(|s| s.id).filter(|id| !written.contains(id)).collect())
        })
    }

    fn begin(&mut self) -> Result<()> {
        Ok(AnsiTransactionManager::begin_transaction(self)?)
    }

    fn ack(&mut self, worker: &WorkerIdentity, settlement: &Settlement) -> Result<bool> {
        if lock_held(self, worker.id, std::slice::from_ref(settlement))?.is_empty() {
            return Ok(false);
        }
        settle_done(self, &[settlement])?;
        Ok(true)
    }

    fn commit(&mut self) -> Result<()> {
        Ok(AnsiTransactionManager::commit_transaction(self)?)
    }

    fn rollback(&mut self) -> Result<()> {
        Ok(AnsiTransactionManager::rollback_transaction(self)?)
    }

    fn hand_back_unknown(&mut self, worker_id: i64, known: &[MessageId]) -> Result<usize> {
        let known = json(known)?;
        transaction(self, |conn| {
            Ok(execute!(
                conn, Mysql,
                "UPDATE taskmq_messages SET worker_id = 0, attempts = attempts - 1
                 WHERE worker_id = ? AND id NOT IN (SELECT id FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) known)",
                BigInt = worker_id,
                Text = &known,
            )?)
        })
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
        let got: QueryResult<Vec<Option<i32>>> = load!(self, Mysql => Nullable<Integer>, "SELECT GET_LOCK(CONCAT('taskmq:', ?), 0)", BigInt = worker_id);
        match got.map(|rows| rows.first().copied().flatten()) {
            Ok(Some(1)) => {}
            Ok(_) => return Ok(Lock::Busy),
            // A Galera cluster refuses locks (error 1235): then only the beats count.
            Err(diesel::result::Error::DatabaseError(_, info))
                if info.message().contains("doesn't yet support") =>
            {
                return Ok(Lock::Unsupported);
            }
            Err(error) => return Err(error.into()),
        }
        execute!(self, Mysql, "UPDATE taskmq_workers SET locked = TRUE WHERE id = ?", BigInt = worker_id)?;
        Ok(Lock::Held)
    }

    fn beat(&mut self, worker_id: i64) -> Result<bool> {
        let touched = execute!(
            self,
            Mysql,
            "UPDATE taskmq_workers SET beat = beat + 1, beat_at = CURRENT_TIMESTAMP(6) WHERE id = ?",
            BigInt = worker_id,
        )?;
        Ok(touched > 0)
    }

    fn peers(&mut self, worker_id: i64) -> Result<Vec<Peer>> {
        let rows: Vec<(i64, Option<i64>, Option<i32>)> = load!(
            self, Mysql => (BigInt, Nullable<BigInt>, Nullable<Integer>),
            "SELECT id, beat, IF(locked, IS_FREE_LOCK(CONCAT('taskmq:', id)), NULL) FROM taskmq_workers WHERE id <> ?
             UNION ALL
             SELECT DISTINCT m.worker_id, CAST(NULL AS SIGNED), CAST(NULL AS SIGNED) FROM taskmq_messages m
             LEFT JOIN taskmq_workers w ON w.id = m.worker_id WHERE m.worker_id > 0 AND w.id IS NULL",
            BigInt = worker_id,
        )?;
        Ok(rows
            .into_iter()
            .map(|(id, beat, free)| Peer { id, beat, lock_free: free.map(|free| free == 1) })
            .collect())
    }

    fn rescue(&mut self, peer: &Peer) -> Result<usize> {
        transaction(self, |conn| {
            let dead: Vec<(Option<i64>, String)> = load!(
                conn, Mysql => (Nullable<BigInt>, Text),
                "SELECT alone_with, CONCAT(host, ':', pid) FROM taskmq_workers WHERE id = ? AND beat = ? FOR UPDATE",
                BigInt = peer.id,
                BigInt = peer.beat.unwrap_or_default(),
            )?;
            if dead.is_empty() && peer.beat.is_some() {
                return Ok(0); // it moved after all, or another worker was faster
            }
            execute!(conn, Mysql, "DELETE FROM taskmq_workers WHERE id = ?", BigInt = peer.id)?;
            let (alone_with, label) = dead.into_iter().next().unwrap_or((None, "unknown".to_owned()));
            let held: Vec<i64> = load!(
                conn, Mysql => BigInt,
                "SELECT id FROM taskmq_messages WHERE worker_id = ? FOR UPDATE",
                BigInt = peer.id,
            )?;
            if let Some(culprit) = super::culprit(alone_with, &held) {
                execute!(
                    conn, Mysql,
                    "INSERT INTO taskmq_failures (message_id, attempt, kind, error, worker)
                     SELECT id, attempts + suspicions, 'crash', 'the worker process died while it ran this message', ?
                     FROM taskmq_messages WHERE id = ?",
                    Text = &label,
                    BigInt = culprit,
                )?;
                // Assignments take effect from left to right here, so each reads only what stands to its right.
                execute!(
                    conn, Mysql,
                    "UPDATE taskmq_messages SET worker_id = CASE WHEN crashes + suspicions >= 1 THEN -1 ELSE 0 END,
                     attempts = attempts + suspicions, crashes = crashes + 1 + suspicions, suspicions = 0 WHERE id = ?",
                    BigInt = culprit,
                )?;
            }
            if alone_with.is_some() {
                // The others that it held had not begun.
                execute!(
                    conn,
                    Mysql,
                    "UPDATE taskmq_messages SET worker_id = 0, attempts = attempts - 1 WHERE worker_id = ?",
                    BigInt = peer.id,
                )?;
            } else {
                execute!(
                    conn, Mysql,
                    "UPDATE taskmq_messages SET worker_id = CASE WHEN crashes + suspicions >= 1 THEN -1 ELSE 0 END,
                     attempts = attempts - 1, suspicions = suspicions + 1 WHERE worker_id = ?",
                    BigInt = peer.id,
                )?;
            }
            Ok(held.len())
        })
    }

    fn any_set_aside(&mut self) -> Result<bool> {
        let found: Vec<i64> =
            load!(self, Mysql => BigInt, "SELECT id FROM taskmq_messages WHERE worker_id = -1 LIMIT 1")?;
        Ok(!found.is_empty())
    }

    fn alone_ended(&mut self, worker_id: i64) -> Result<()> {
        execute!(
            self,
            Mysql,
            "UPDATE taskmq_workers SET alone_with = NULL WHERE id = ?",
            BigInt = worker_id
        )?;
        Ok(())
    }

    fn deregister(&mut self, worker_id: i64) -> Result<()> {
        execute!(self, Mysql, "DELETE FROM taskmq_workers WHERE id = ?", BigInt = worker_id)?;
        Ok(())
    }

    fn purge(&mut self, limit: i64) -> Result<usize> {
        transaction(self, |conn| {
            let ids: Vec<i64> = load!(
                conn, Mysql => BigInt,
                "SELECT id FROM taskmq_archive WHERE keep_until <= CURRENT_TIMESTAMP(6) LIMIT ? FOR UPDATE SKIP LOCKED",
                BigInt = limit,
            )?;
            if ids.is_empty() {
                return Ok(0);
            }
            let list = json(&ids)?;
            execute!(
                conn,
                Mysql,
                "DELETE f FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) gone
                 STRAIGHT_JOIN taskmq_failures f ON f.message_id = gone.id",
                Text = &list,
            )?;
            execute!(
                conn,
                Mysql,
                "DELETE a FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) gone STRAIGHT_JOIN taskmq_archive a ON a.id = gone.id",
                Text = &list,
            )?;
            Ok(ids.len())
        })
    }

    fn topics(&mut self) -> Result<Vec<TopicStats>> {
        let rows = load!(
            self, Mysql => rows::StatsSql,
            concat!("SELECT topic, ", state!(), ", count(*) FROM taskmq_messages GROUP BY 1, 2
             UNION ALL SELECT topic, state, count(*) FROM taskmq_archive GROUP BY 1, 2")
        )?;
        Ok(rows::topic_stats(rows))
    }

    fn messages(&mut self, filter: &MessageFilter) -> Result<Vec<Message>> {
        let state = filter.state.map(|s| s.as_str());
        let mut found: Vec<rows::MessageRow> = load!(
            self, Mysql => rows::MessageSql,
            concat!("SELECT ", live!(), " FROM taskmq_messages WHERE topic = coalesce(?, topic) HAVING state = coalesce(?, state)
             ORDER BY topic, priority DESC, due, id LIMIT ?"),
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
            concat!("SELECT ", live!(), " FROM taskmq_messages WHERE id = ? UNION ALL
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

    fn retry(&mut self, id: MessageId) -> Result<()> {
        transaction(self, |conn| {
            let Some(message) = conn.message(id)? else {
                return Err(super::no_such_message(id));
            };
            super::check_retriable(&message)?;
            if message.state.is_finished() {
                execute!(
                    conn, Mysql,
                    "INSERT INTO taskmq_messages (id, topic, priority, created_at, max_attempts, unique_key, ordering_key, headers, payload)
                     SELECT id, topic, priority, created_at, max_attempts, unique_key, ordering_key, headers, payload
                     FROM taskmq_archive WHERE id = ? FOR UPDATE",
                    BigInt = id,
                )
                .map_err(|e| super::taken_key(id, e))?;
                execute!(conn, Mysql, "DELETE FROM taskmq_archive WHERE id = ?", BigInt = id)?;
            } else {
                execute!(
                    conn,
                    Mysql,
                    "UPDATE taskmq_messages SET run_at = CURRENT_TIMESTAMP(6), worker_id = 0
                     WHERE id = ? AND worker_id <= 0 AND run_at > CURRENT_TIMESTAMP(6)",
                    BigInt = id,
                )?;
            }
            Ok(())
        })
    }
}

type ClaimedSql = (BigInt, Text, Integer, SmallInt, Nullable<SmallInt>, Nullable<Text>, Text);
type ClaimedRow = (i64, String, i32, i16, Option<i16>, Option<String>, String);

/// The row is read before it is leased, so the attempt that begins is one more than it has.
fn claimed_row((id, topic, attempts, crashes, max_attempts, headers, payload): ClaimedRow) -> Claimed {
    Claimed { id, topic, attempt: attempts.saturating_add(1), crashes, max_attempts, headers, payload }
}

fn lease(conn: &mut MysqlConnection, worker_id: i64, claimed: &[Claimed]) -> Result<()> {
    if claimed.is_empty() {
        return Ok(());
    }
    let ids: Vec<MessageId> = claimed.iter().map(|c| c.id).collect();
    execute!(
        conn, Mysql,
        "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) picked STRAIGHT_JOIN taskmq_messages m ON m.id = picked.id
         SET m.worker_id = ?, m.attempts = m.attempts + 1, m.claimed_at = CURRENT_TIMESTAMP(6)",
        Text = json(&ids)?,
        BigInt = worker_id,
    )?;
    Ok(())
}

fn worker_exists(conn: &mut MysqlConnection, worker_id: i64) -> Result<bool> {
    let found: Vec<i64> =
        load!(conn, Mysql => BigInt, "SELECT id FROM taskmq_workers WHERE id = ?", BigInt = worker_id)?;
    Ok(!found.is_empty())
}

/// The highest priority below `below` of which the topic has any message that nobody holds.
fn next_lane(conn: &mut MysqlConnection, topic: &str, below: i32) -> Result<Option<i16>> {
    let found: Vec<i16> = load!(
        conn, Mysql => SmallInt,
        "SELECT priority FROM taskmq_messages FORCE INDEX (taskmq_messages_ready)
         WHERE worker_id = 0 AND topic = ? AND priority < ? ORDER BY priority DESC LIMIT 1",
        Text = topic,
        Integer = below,
    )?;
    Ok(found.first().copied())
}

/// What a statement needs of a settlement, as a row of a JSON table.
#[derive(Serialize)]
struct Lease<'a> {
    id: MessageId,
    attempt: i32,
    result: Option<&'a str>,
    keep: Option<i64>,
}

fn leases<'a>(settlements: impl Iterator<Item = &'a Settlement>) -> Result<String> {
    let rows: Vec<Lease<'_>> = settlements
        .map(|settlement| {
            let (result, keep) = match &settlement.outcome {
                Outcome::Done { result, retention } => (
                    result.as_deref(),
                    match retention {
                        Retention::None => Some(0),
                        Retention::For(time) => Some(i64::try_from(time.as_secs()).unwrap_or(i64::MAX)),
                        Retention::Forever => None,
                    },
                ),
                _ => (None, None),
            };
            Lease { id: settlement.id, attempt: settlement.attempt, result, keep }
        })
        .collect();
    json(&rows)
}

/// Locks the messages whose lease still holds, so that the statements that follow see the same rows.
fn lock_held(
    conn: &mut MysqlConnection,
    worker_id: i64,
    settlements: &[Settlement],
) -> Result<Vec<MessageId>> {
    Ok(load!(
        conn, Mysql => BigInt,
        "SELECT m.id FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$.id', attempt INTEGER PATH '$.attempt')) s
         STRAIGHT_JOIN taskmq_messages m ON m.id = s.id
         WHERE m.worker_id = ? AND m.attempts = s.attempt FOR UPDATE",
        Text = leases(settlements.iter())?,
        BigInt = worker_id,
    )?)
}

/// Acks all that are done with one statement for each table.
fn settle_done(conn: &mut MysqlConnection, settlements: &[&Settlement]) -> Result<()> {
    let done = || settlements.iter().copied().filter(|s| matches!(s.outcome, Outcome::Done { .. }));
    if done().next().is_none() {
        return Ok(());
    }
    let done = leases(done())?;
    execute!(
        conn, Mysql,
        "INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, claimed_at, keep_until, worker_id, attempts,
            crashes, max_attempts, unique_key, ordering_key, headers, payload, result)
         SELECT m.id, m.topic, 'done', m.priority, m.run_at, m.created_at, m.claimed_at,
            CURRENT_TIMESTAMP(6) + INTERVAL s.keep SECOND, m.worker_id, m.attempts,
            m.crashes, m.max_attempts, m.unique_key, m.ordering_key, m.headers, m.payload, s.result
         FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$.id', keep BIGINT PATH '$.keep', result LONGTEXT CHARACTER SET utf8mb4 PATH '$.result')) s
         STRAIGHT_JOIN taskmq_messages m ON m.id = s.id
         WHERE s.keep IS NULL OR s.keep > 0",
        Text = &done,
    )?;
    execute!(
        conn, Mysql,
        "DELETE f FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$.id', attempt INTEGER PATH '$.attempt', keep BIGINT PATH '$.keep')) s
         STRAIGHT_JOIN taskmq_failures f ON f.message_id = s.id WHERE s.keep = 0 AND s.attempt > 1",
        Text = &done,
    )?;
    execute!(
        conn,
        Mysql,
        "DELETE m FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$.id')) s STRAIGHT_JOIN taskmq_messages m ON m.id = s.id",
        Text = &done,
    )?;
    Ok(())
}

/// The lease has been checked and its row locked.
fn settle_other(conn: &mut MysqlConnection, worker: &WorkerIdentity, settlement: &Settlement) -> Result<()> {
    let Settlement { id, attempt, outcome } = settlement;
    let failure = match outcome {
        Outcome::Done { .. } => return Ok(()),
        Outcome::Retry { delay, kind, error } => {
            execute!(
                conn,
                Mysql,
                "UPDATE taskmq_messages SET worker_id = 0, suspicions = 0, run_at = CURRENT_TIMESTAMP(6) + INTERVAL ? MICROSECOND WHERE id = ?",
                BigInt = i64::try_from(delay.as_micros()).unwrap_or(i64::MAX),
                BigInt = *id,
            )?;
            Some((*kind, error))
        }
        Outcome::Dead { kind, error } => {
            execute!(
                conn, Mysql,
                "INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, claimed_at, worker_id, attempts,
                    crashes, max_attempts, unique_key, ordering_key, headers, payload, error)
                 SELECT id, topic, 'dead', priority, run_at, created_at, claimed_at, worker_id, attempts - ?,
                    crashes, max_attempts, unique_key, ordering_key, headers, payload, ? FROM taskmq_messages WHERE id = ?",
                Integer = i32::from(kind.is_none()),
                Text = error,
                BigInt = *id,
            )?;
            execute!(conn, Mysql, "DELETE FROM taskmq_messages WHERE id = ?", BigInt = *id)?;
            kind.map(|kind| (kind, error))
        }
        Outcome::HandBack => {
            execute!(
                conn,
                Mysql,
                "UPDATE taskmq_messages SET worker_id = 0, attempts = attempts - 1 WHERE id = ?",
                BigInt = *id,
            )?;
            None
        }
    };
    if let Some((kind, error)) = failure {
        execute!(
            conn,
            Mysql,
            "INSERT INTO taskmq_failures (message_id, attempt, kind, error, worker) VALUES (?, ?, ?, ?, ?)",
            BigInt = *id,
            Integer = *attempt,
            Text = kind,
            Text = error,
            Text = worker.label(),
        )?;
    }
    Ok(())
}

/// Which of these leases have written their end already, in a transaction whose reply was lost.
fn settled_before(
    conn: &mut MysqlConnection,
    worker_id: i64,
    settlements: &[&Settlement],
) -> Result<Vec<MessageId>> {
    Ok(load!(
        conn, Mysql => BigInt,
        "SELECT a.id FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$.id', attempt INTEGER PATH '$.attempt')) s
         STRAIGHT_JOIN taskmq_archive a ON a.id = s.id WHERE a.worker_id = ? AND a.attempts = s.attempt",
        Text = leases(settlements.iter().copied())?,
        BigInt = worker_id,
    )?)
}

fn json<T: Serialize + ?Sized>(items: &T) -> Result<String> {
    serde_json::to_string(items).map_err(|source| Error::Encode { what: "a list", source })
}
