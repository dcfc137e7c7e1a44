//! What people look at.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Integer, Nullable, SmallInt, Text};
use diesel::sqlite::Sqlite;

use super::claim::next_lane;
use super::{cancels, diagnosis, file_of, json_list, paused, write_lock};
use crate::broker::audit::write_down_drain;
use crate::broker::line::lines;
use crate::broker::payloads::payload;
use crate::broker::{
    Action, Administration, Changed, FailedLately, FinishedMessage, HeldMessage, InLine, Lane, LaneCount,
    Note, NoteEntry, NoteId, Noted, Place, ProducedMessage, Span, Summary, WorkerEntry,
};
use crate::broker::{
    Figures, Limit, LimitedTopic, PausedTopic, RunningWorkflows, Step, WorkflowEntry, WorkflowId,
    WorkflowState, rows,
};
use crate::broker::{change, limits, workflows};
use crate::lock_files::{LockFiles, Sign};
use crate::statement::{execute, load};
use crate::{Error, MessageId, Result, State};

/// As `rows::SummarySql`, but for texts that are not sure to be UTF-8: another program may have stored anything.
type SummarySql = (
    BigInt,
    Text,
    Text,
    SmallInt,
    Integer,
    BigInt,
    BigInt,
    Nullable<BigInt>,
    Nullable<Text>,
    Nullable<Text>,
    Binary,
    Nullable<Text>,
);
type SummaryRow = rows::SummaryRow<Vec<u8>>;

impl Administration for SqliteConnection {
    fn restrict(&mut self, time: Duration, read_only: bool) -> Result<()> {
        self.batch_execute(&format!(
            "PRAGMA busy_timeout = {}; PRAGMA query_only = {};",
            time.as_millis(),
            i32::from(read_only)
        ))?;
        Ok(())
    }

    fn now(&mut self) -> Result<DateTime<Utc>> {
        let now: Vec<i64> = load!(self, Sqlite => BigInt, concat!("SELECT ", micros!("'now'")))?;
        Ok(rows::time(now.first().copied().unwrap_or_default()))
    }

    fn lanes(&mut self, limit: usize) -> Result<Vec<Lane>> {
        let lanes: Vec<(String, i16)> = load!(
            self, Sqlite => (Text, SmallInt),
            "WITH RECURSIVE topics (topic) AS (
                SELECT (SELECT topic FROM taskmq_messages INDEXED BY taskmq_messages_ready WHERE worker_id = 0 AND topic > '' ORDER BY topic LIMIT 1)
                UNION ALL
                SELECT (SELECT m.topic FROM taskmq_messages m INDEXED BY taskmq_messages_ready
                    WHERE m.worker_id = 0 AND m.topic > topics.topic ORDER BY m.topic LIMIT 1)
                FROM topics WHERE topics.topic IS NOT NULL LIMIT ?
             ), lanes (topic, priority) AS (
                SELECT topic, (SELECT m.priority FROM taskmq_messages m INDEXED BY taskmq_messages_ready
                    WHERE m.worker_id = 0 AND m.topic = topics.topic ORDER BY m.priority DESC LIMIT 1)
                FROM topics WHERE topic IS NOT NULL
                UNION ALL
                SELECT topic, (SELECT m.priority FROM taskmq_messages m INDEXED BY taskmq_messages_ready
                    WHERE m.worker_id = 0 AND m.topic = lanes.topic AND m.priority < lanes.priority ORDER BY m.priority DESC LIMIT 1)
                FROM lanes WHERE priority IS NOT NULL
             )
             SELECT topic, priority FROM lanes WHERE priority IS NOT NULL",
            BigInt = i64::try_from(limit).unwrap_or(i64::MAX),
        )?;
        let mut lanes: Vec<Lane> =
            lanes.into_iter().map(|(topic, priority)| Lane { topic, priority }).collect();
        lanes.sort_by(|a, b| (&a.topic, b.priority).cmp(&(&b.topic, a.priority)));
        lanes.truncate(limit);
        Ok(lanes)
    }

    fn lanes_of(&mut self, topic: &str) -> Result<Vec<Lane>> {
        let mut lanes: Vec<Lane> = Vec::new();
        let mut below = i32::from(i16::MAX) + 1;
        while let Some(priority) = next_lane(self, topic, below)? {
            lanes.push(Lane { topic: topic.to_owned(), priority });
            below = i32::from(priority);
        }
        Ok(lanes)
    }

    fn count_lane(&mut self, lane: &Lane, at_most: i64) -> Result<LaneCount> {
        let due: Vec<(i64, Option<i64>)> = load!(
            self, Sqlite => (BigInt, Nullable<BigInt>),
            concat!("SELECT count(*), ", micros!("min(run_at)"), " FROM (
                SELECT run_at FROM taskmq_messages WHERE worker_id = 0 AND topic = ? AND priority = ? AND run_at <= ", now!(), "
                ORDER BY run_at LIMIT ?)"),
            Text = &lane.topic,
            SmallInt = lane.priority,
            BigInt = at_most,
        )?;
        let later: Vec<(i64, i64)> = load!(
            self, Sqlite => (BigInt, BigInt),
            concat!("SELECT count(*), coalesce(sum(attempts > 0), 0) FROM (
                SELECT attempts FROM taskmq_messages WHERE worker_id = 0 AND topic = ? AND priority = ? AND run_at > ", now!(), "
                ORDER BY run_at LIMIT ?)"),
            Text = &lane.topic,
            SmallInt = lane.priority,
            BigInt = at_most,
        )?;
        Ok(rows::lane_count(due.first(), later.first()))
    }

    fn count_lanes(&mut self, lanes: &[Lane], at_most: i64) -> Result<Vec<LaneCount>> {
        // One statement for all of them: most of the time of a thousand is spent between them.
        let lanes: Vec<(&str, i16)> = lanes.iter().map(|lane| (&*lane.topic, lane.priority)).collect();
        let lanes =
            serde_json::to_string(&lanes).map_err(|source| Error::Encode { what: "the lanes", source })?;
        let counts: Vec<(i64, Option<i64>, i64, i64)> = load!(
            self, Sqlite => (BigInt, Nullable<BigInt>, BigInt, BigInt),
            concat!("WITH lanes AS (
                SELECT key, value ->> 0 AS topic, CAST(value ->> 1 AS INTEGER) AS priority FROM json_each(?))
             SELECT (SELECT count(*) FROM (SELECT 1 FROM taskmq_messages m INDEXED BY taskmq_messages_ready
                    WHERE m.worker_id = 0 AND m.topic = lanes.topic AND m.priority = lanes.priority AND m.run_at <= ", now!(), "
                    LIMIT ?)),
                ", micros!("(SELECT m.run_at FROM taskmq_messages m INDEXED BY taskmq_messages_ready
                    WHERE m.worker_id = 0 AND m.topic = lanes.topic AND m.priority = lanes.priority
                    AND m.run_at <= strftime('%Y-%m-%d %H:%M:%f', 'now') ORDER BY m.run_at LIMIT 1)"), ",
                (SELECT count(*) FROM (SELECT 1 FROM taskmq_messages m INDEXED BY taskmq_messages_ready
                    WHERE m.worker_id = 0 AND m.topic = lanes.topic AND m.priority = lanes.priority AND m.run_at > ", now!(), "
                    LIMIT ?)),
                (SELECT coalesce(sum(attempts > 0), 0) FROM (SELECT m.attempts FROM taskmq_messages m INDEXED BY taskmq_messages_ready
                    WHERE m.worker_id = 0 AND m.topic = lanes.topic AND m.priority = lanes.priority AND m.run_at > ", now!(), "
                    ORDER BY m.run_at LIMIT ?))
             FROM lanes ORDER BY key"),
            Text = &lanes,
            BigInt = at_most,
            BigInt = at_most,
            BigInt = at_most,
        )?;
        let count =
            |(due, oldest, later, retrying)| rows::lane_count(Some(&(due, oldest)), Some(&(later, retrying)));
        Ok(counts.into_iter().map(count).collect())
    }

    fn waiting(&mut self, lane: &Lane, span: &Span) -> Result<Vec<Place>> {
        let (from, to) = (text(span.from.at), text(span.to.at));
        let places: Vec<(i64, i64)> = load!(
            self, Sqlite => rows::PlaceSql,
            concat!("SELECT ", micros!("run_at"), ", id FROM taskmq_messages WHERE worker_id = 0 AND topic = ? AND priority = ?
             AND run_at >= ? AND (run_at > ? OR id > ?) AND run_at <= ? AND (run_at < ? OR id < ?)
             ORDER BY run_at, id LIMIT ?"),
            Text = &lane.topic,
            SmallInt = lane.priority,
            Text = &from,
            Text = &from,
            BigInt = span.from.id,
            Text = &to,
            Text = &to,
            BigInt = span.to.id,
            BigInt = span.limit,
        )?;
        Ok(places.into_iter().map(rows::place).collect())
    }

    fn held(&mut self, limit: i64) -> Result<Vec<HeldMessage>> {
        let held = load!(
            self, Sqlite => rows::HeldSql,
            concat!("SELECT id, topic, worker_id, 0, ", micros!("run_at"), ", ", micros!("claimed_at"), "
             FROM taskmq_messages WHERE worker_id <> 0 AND worker_id >= -2
             UNION ALL
             SELECT m.id, m.topic, leased.worker_id, 1, ", micros!("m.run_at"), ", ", micros!("leased.claimed_at"), "
             FROM ", leased!(), " CROSS JOIN taskmq_messages m NOT INDEXED ON m.id = leased.id AND m.worker_id = 0
             LIMIT ?"),
            BigInt = limit,
        )?;
        Ok(held.into_iter().map(rows::held).collect())
    }

    lines!(
        Sqlite, micros: micros, time: Text = text,
        from: "taskmq_messages", next_lanes: "priority < ?", order: "worker_id, priority DESC, run_at, id",
    );

    fn newest(&mut self, below: MessageId, limit: i64) -> Result<Vec<ProducedMessage>> {
        // Put together here, where it needs no table of its own to sort in.
        let newest = load!(
            self, Sqlite => rows::ProducedSql,
            concat!("SELECT * FROM (SELECT id, topic, ", micros!("created_at"), " FROM taskmq_messages NOT INDEXED
                WHERE id < ? ORDER BY id DESC LIMIT ?)
             UNION ALL
             SELECT * FROM (SELECT id, topic, ", micros!("created_at"), " FROM taskmq_archive NOT INDEXED
                WHERE id < ? ORDER BY id DESC LIMIT ?)"),
            BigInt = below,
            BigInt = limit,
            BigInt = below,
            BigInt = limit,
        )?;
        let mut newest: Vec<ProducedMessage> = newest.into_iter().map(rows::produced).collect();
        newest.sort_unstable_by_key(|message| std::cmp::Reverse(message.id));
        newest.truncate(usize::try_from(limit).unwrap_or_default());
        Ok(newest)
    }

    fn retentions(&mut self) -> Result<Vec<i64>> {
        Ok(load!(
            self, Sqlite => BigInt,
            concat!("WITH ", retentions!(), " SELECT seconds FROM retention WHERE seconds IS NOT NULL")
        )?)
    }

    fn finished_of(
        &mut self,
        state: State,
        retention: Option<i64>,
        span: &Span,
    ) -> Result<Vec<FinishedMessage>> {
        let (from, to) = (text(span.from.at), text(span.to.at));
        let finished = load!(
            self, Sqlite => rows::FinishedSql,
            concat!("SELECT id, topic, ", micros!("run_at"), ", ", micros!("claimed_at"), ", ", micros!("finished_at"), ", substr(error, 1, ?)
             FROM taskmq_archive INDEXED BY taskmq_archive_finished WHERE state = ? AND keep_seconds IS ?
             AND finished_at >= ? AND (finished_at > ? OR id > ?) AND finished_at <= ? AND (finished_at < ? OR id < ?)
             ORDER BY finished_at DESC, id DESC LIMIT ?"),
            Integer = FinishedMessage::ERROR_CHARS,
            Text = state.as_str(),
            Nullable<BigInt> = retention,
            Text = &from,
            Text = &from,
            BigInt = span.from.id,
            Text = &to,
            Text = &to,
            BigInt = span.to.id,
            BigInt = span.limit,
        )?;
        Ok(finished.into_iter().map(rows::finished).collect())
    }

    fn failed(&mut self, limit: i64) -> Result<Vec<FailedLately>> {
        let failed = load!(
            self, Sqlite => rows::FailedSql,
            concat!("SELECT coalesce(m.topic, a.topic), ", micros!("f.failed_at"), "
             FROM (SELECT id, message_id, failed_at FROM taskmq_failures ORDER BY id DESC LIMIT ?) f
             LEFT JOIN taskmq_messages m ON m.id = f.message_id LEFT JOIN taskmq_archive a ON a.id = f.message_id
             WHERE coalesce(m.topic, a.topic) IS NOT NULL ORDER BY f.id DESC"),
            BigInt = limit,
        )?;
        Ok(failed.into_iter().map(rows::failed).collect())
    }

    fn count_finished(&mut self, state: State, at_most: i64) -> Result<Vec<(String, i64)>> {
        Ok(load!(
            self, Sqlite => (Text, BigInt),
            "SELECT topic, count(*) FROM (
                SELECT topic FROM taskmq_archive INDEXED BY taskmq_archive_finished
                WHERE state = ? AND keep_seconds IS NULL ORDER BY finished_at DESC LIMIT ?)
             GROUP BY topic",
            Text = state.as_str(),
            BigInt = at_most,
        )?)
    }

    fn summaries(&mut self, ids: &[MessageId], text: Option<&str>) -> Result<Vec<Summary>> {
        let ids = json_list(ids)?;
        let found: Vec<SummaryRow> = load!(
            self, Sqlite => SummarySql,
            concat!("WITH wanted AS (SELECT value AS id FROM json_each(?)), sought AS (SELECT ? AS text)
             SELECT m.id, m.topic, ", state!(), ", m.priority, m.attempts + (leased.id IS NOT NULL), ", micros!("m.created_at"), ",
                ", micros!("m.run_at"), ", NULL, m.unique_key, m.ordering_key, CAST(substr(", payload!("m"), ", 1, ?) AS BLOB), CASE WHEN m.attempts > 0 THEN (SELECT substr(f.error, 1, ?) FROM taskmq_failures f
                WHERE f.message_id = m.id ORDER BY f.id DESC LIMIT 1) END
             FROM wanted CROSS JOIN taskmq_messages m NOT INDEXED ON m.id = wanted.id CROSS JOIN sought
             LEFT JOIN ", leased!(), " ON leased.id = m.id
             WHERE sought.text IS NULL OR instr(", payload!("m"), ", sought.text) OR instr(coalesce(m.headers, ''), sought.text)
                OR instr(coalesce(m.unique_key, ''), sought.text) OR instr(coalesce(m.ordering_key, ''), sought.text)
                OR EXISTS (SELECT 1 FROM taskmq_failures f WHERE f.message_id = m.id AND instr(f.error, sought.text))
             UNION ALL
             SELECT a.id, a.topic, a.state, a.priority, a.attempts, ", micros!("a.created_at"), ", ", micros!("a.run_at"), ",
                ", micros!("a.finished_at"), ", a.unique_key, a.ordering_key, CAST(substr(", payload!("a"), ", 1, ?) AS BLOB), substr(a.error, 1, ?)
             FROM wanted CROSS JOIN taskmq_archive a NOT INDEXED ON a.id = wanted.id CROSS JOIN sought
             WHERE sought.text IS NULL OR instr(", payload!("a"), ", sought.text) OR instr(coalesce(a.headers, ''), sought.text)
                OR instr(coalesce(a.unique_key, ''), sought.text) OR instr(coalesce(a.ordering_key, ''), sought.text)
                OR instr(coalesce(a.error, ''), sought.text)"),
            Text = &ids,
            Nullable<Text> = text,
            Integer = Summary::PAYLOAD_CHARS,
            Integer = FinishedMessage::ERROR_CHARS,
            Integer = Summary::PAYLOAD_CHARS,
            Integer = FinishedMessage::ERROR_CHARS,
        )?;
        let readable = |row: SummaryRow| {
            let (
                id,
                topic,
                state,
                priority,
                attempts,
                created,
                run_at,
                finished,
                key,
                ordering,
                payload,
                error,
            ) = row;
            let payload = String::from_utf8_lossy(&payload).into_owned();
            rows::summary((
                id, topic, state, priority, attempts, created, run_at, finished, key, ordering, payload,
                error,
            ))
        };
        Ok(found.into_iter().map(readable).collect())
    }

    fn payloads(&mut self, ids: &[MessageId], longest: i64) -> Result<Vec<(MessageId, String)>> {
        let ids = json_list(ids)?;
        let found: Vec<(MessageId, Vec<u8>)> = load!(
            self, Sqlite => (BigInt, Binary),
            concat!("SELECT id, payload FROM (
                SELECT m.id AS id, CAST(", payload!("m"), " AS BLOB) AS payload FROM json_each(?) wanted
                CROSS JOIN taskmq_messages m NOT INDEXED ON m.id = wanted.value
                UNION ALL
                SELECT a.id, CAST(", payload!("a"), " AS BLOB) FROM json_each(?) wanted
                CROSS JOIN taskmq_archive a NOT INDEXED ON a.id = wanted.value
             ) WHERE length(payload) <= ?"),
            Text = &ids,
            Text = &ids,
            BigInt = longest,
        )?;
        Ok(found.into_iter().map(|(id, text)| (id, String::from_utf8_lossy(&text).into_owned())).collect())
    }

    fn keyed(&mut self, unique_key: &str, topic: Option<&str>) -> Result<Vec<MessageId>> {
        if let Some(topic) = topic {
            return Ok(load!(
                self, Sqlite => BigInt,
                "SELECT id FROM taskmq_messages INDEXED BY taskmq_messages_unique WHERE topic = ? AND unique_key = ?",
                Text = topic,
                Text = unique_key,
            )?);
        }
        Ok(load!(
            self, Sqlite => BigInt,
            "WITH RECURSIVE topics (topic) AS (
                SELECT min(topic) FROM taskmq_messages INDEXED BY taskmq_messages_unique WHERE unique_key IS NOT NULL
                UNION ALL
                SELECT (SELECT min(m.topic) FROM taskmq_messages m INDEXED BY taskmq_messages_unique
                        WHERE m.unique_key IS NOT NULL AND m.topic > topics.topic)
                FROM topics WHERE topics.topic IS NOT NULL
             )
             SELECT m.id FROM topics CROSS JOIN taskmq_messages m INDEXED BY taskmq_messages_unique
                ON m.topic = topics.topic AND m.unique_key = ?",
            Text = unique_key,
        )?)
    }

    fn workers(&mut self, limit: i64) -> Result<Vec<WorkerEntry>> {
        let workers = load!(
            self, Sqlite => rows::WorkerSql,
            concat!("SELECT id, host, pid, version, topics, concurrency, ", micros!("started_at"), ", ", micros!("beat_at"), ",
                alone_with, memory_bytes, draining, TRUE
             FROM taskmq_workers ORDER BY started_at, id LIMIT ?"),
            BigInt = limit,
        )?;
        let files = file_of(self)?.map(|file| LockFiles::beside(file.as_ref()));
        // Of one whose file is not to be seen nobody knows.
        let is_dead = |id| files.as_ref().is_some_and(|files| files.look(id) == Sign::Free);
        let known = |worker: WorkerEntry| WorkerEntry { alive: !is_dead(worker.id), ..worker };
        Ok(workers.into_iter().map(rows::worker).map(known).collect())
    }

    fn drain(&mut self, worker_id: i64, actor: &str) -> Result<bool> {
        write_lock::transaction(self, |conn| {
            let told = execute!(
                conn,
                Sqlite,
                "UPDATE taskmq_workers SET draining = TRUE WHERE id = ? AND NOT draining",
                BigInt = worker_id,
            )?;
            if told > 0 {
                write_down_drain(conn, worker_id, actor)?;
            }
            Ok(told > 0)
        })
    }

    fn change(&mut self, action: &Action, ids: &[MessageId], noted: Noted<'_>) -> Result<Changed> {
        write_lock::transaction(self, |conn| change::change(conn, action, ids, noted))
    }

    fn cancel_asked_at(&mut self, id: MessageId) -> Result<Option<DateTime<Utc>>> {
        cancels::asked_at(self, id)
    }

    fn pause(&mut self, topic: &str, actor: &str) -> Result<bool> {
        paused::pause(self, topic, actor)
    }

    fn resume(&mut self, topic: &str, actor: &str) -> Result<bool> {
        paused::resume(self, topic, actor)
    }

    fn set_limit(&mut self, topic: &str, limit: &Limit, actor: &str) -> Result<bool> {
        write_lock::transaction(self, |conn| limits::set(conn, topic, limit, actor))
    }

    fn lift_limit(&mut self, topic: &str, actor: &str) -> Result<bool> {
        write_lock::transaction(self, |conn| limits::lift(conn, topic, actor))
    }

    fn limits(&mut self) -> Result<Vec<LimitedTopic>> {
        limits::limits(self)
    }

    fn paused(&mut self) -> Result<Vec<PausedTopic>> {
        paused::paused(self)
    }

    fn workflows(
        &mut self,
        state: Option<WorkflowState>,
        below: WorkflowId,
        limit: i64,
    ) -> Result<Vec<WorkflowEntry>> {
        workflows::workflows(self, state, below, limit)
    }

    fn running_workflows(&mut self, at_most: i64) -> Result<RunningWorkflows> {
        workflows::running(self, at_most)
    }

    fn workflow(&mut self, id: WorkflowId) -> Result<Option<(WorkflowEntry, Vec<Step>)>> {
        workflows::workflow(self, id)
    }

    fn cancel_workflow(&mut self, id: WorkflowId, actor: &str) -> Result<bool> {
        workflows::cancel(self, id, actor)
    }

    fn diagnose(&mut self) -> Result<Figures> {
        diagnosis::diagnose(self)
    }

    fn note(&mut self, note: &Note<'_>) -> Result<NoteId> {
        let ids: Vec<NoteId> = load!(
            self, Sqlite => BigInt,
            "INSERT INTO taskmq_audit (actor, action, topic, message_id, details, messages) VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
            Text = note.actor,
            Text = note.action,
            Nullable<Text> = note.topic,
            Nullable<BigInt> = note.message_id,
            Text = note.details,
            BigInt = note.messages,
        )?;
        Ok(ids.first().copied().unwrap_or_default())
    }

    fn add_to_note(&mut self, id: NoteId, messages: i64) -> Result<()> {
        execute!(
            self,
            Sqlite,
            "UPDATE taskmq_audit SET messages = messages + ? WHERE id = ?",
            BigInt = messages,
            BigInt = id,
        )?;
        Ok(())
    }

    fn notes(&mut self, below: NoteId, limit: i64) -> Result<Vec<NoteEntry>> {
        let notes = load!(
            self, Sqlite => rows::NoteSql,
            concat!("SELECT id, ", micros!("at"), ", actor, action, topic, message_id, details, messages
             FROM taskmq_audit WHERE id < ? ORDER BY id DESC LIMIT ?"),
            BigInt = below,
            BigInt = limit,
        )?;
        Ok(notes.into_iter().map(rows::note).collect())
    }
}

/// A time in the form in which the tables have it.
pub(super) fn text(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.3f").to_string()
}
