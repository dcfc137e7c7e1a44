//! What people look at.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use diesel::connection::SimpleConnection;
use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, SmallInt, Text};

use super::claim::{leased, next_lane};
use super::{cancels, diagnosis, json, lanes, last_id, paused, transaction};
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
use crate::statement::{execute, load};
use crate::{MessageId, Result, State};

/// A JSON array of ids as a table.
macro_rules! listed {
    () => {
        "JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) listed"
    };
}

/// The live messages, and the finished ones, that have these ids.
macro_rules! listed_messages {
    () => {
        concat!(listed!(), " STRAIGHT_JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = listed.id")
    };
}
macro_rules! listed_archive {
    () => {
        concat!(listed!(), " STRAIGHT_JOIN taskmq_archive a FORCE INDEX (PRIMARY) ON a.id = listed.id")
    };
}
pub(super) use {listed, listed_archive, listed_messages};

impl Administration for MysqlConnection {
    fn restrict(&mut self, time: Duration, read_only: bool) -> Result<()> {
        // MariaDB bounds every statement, MySQL only those that read, and each has its own name for it.
        self.batch_execute(&format!("SET SESSION max_statement_time = {:.3}", time.as_secs_f64())).or_else(
            |_| self.batch_execute(&format!("SET SESSION max_execution_time = {}", time.as_millis())),
        )?;
        self.batch_execute(&format!("SET SESSION innodb_lock_wait_timeout = {}", time.as_secs().max(1)))?;
        if read_only {
            self.batch_execute("SET SESSION TRANSACTION READ ONLY")?;
        }
        Ok(())
    }

    fn now(&mut self) -> Result<DateTime<Utc>> {
        let now: Vec<i64> =
            load!(self, Mysql => BigInt, concat!("SELECT ", micros!("CURRENT_TIMESTAMP(6)")))?;
        Ok(rows::time(now.first().copied().unwrap_or_default()))
    }

    fn lanes(&mut self, limit: usize) -> Result<Vec<Lane>> {
        lanes::all(self, limit)
    }

    fn lanes_of(&mut self, topic: &str) -> Result<Vec<Lane>> {
        if !topic.is_ascii() {
            // No topic is, and the column cannot be compared with such a text.
            return Ok(Vec::new());
        }
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
            self, Mysql => (BigInt, Nullable<BigInt>),
            concat!("SELECT count(*), ", micros!("min(run_at)"), " FROM (
                SELECT run_at FROM taskmq_messages FORCE INDEX (taskmq_messages_ready)
                WHERE worker_id = 0 AND topic = ? AND priority = ? AND run_at <= CURRENT_TIMESTAMP(6) ORDER BY run_at LIMIT ?) due"),
            Text = &lane.topic,
            SmallInt = lane.priority,
            BigInt = at_most,
        )?;
        let later: Vec<(i64, i64)> = load!(
            self, Mysql => (BigInt, BigInt),
            "SELECT count(*), CAST(coalesce(sum(attempts > 0), 0) AS SIGNED) FROM (
                SELECT attempts FROM taskmq_messages FORCE INDEX (taskmq_messages_ready)
                WHERE worker_id = 0 AND topic = ? AND priority = ? AND run_at > CURRENT_TIMESTAMP(6) ORDER BY run_at LIMIT ?) later",
            Text = &lane.topic,
            SmallInt = lane.priority,
            BigInt = at_most,
        )?;
        Ok(rows::lane_count(due.first(), later.first()))
    }

    fn count_lanes(&mut self, lanes: &[Lane], at_most: i64) -> Result<Vec<LaneCount>> {
        lanes::count(self, lanes, at_most)
    }

    fn waiting(&mut self, lane: &Lane, span: &Span) -> Result<Vec<Place>> {
        let (from, to) = (text(span.from.at), text(span.to.at));
        let places: Vec<(i64, i64)> = load!(
            self, Mysql => rows::PlaceSql,
            concat!("SELECT ", micros!("run_at"), ", id FROM taskmq_messages FORCE INDEX (taskmq_messages_ready)
             WHERE worker_id = 0 AND topic = ? AND priority = ?
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
            self, Mysql => rows::HeldSql,
            concat!("SELECT id, topic, worker_id, 0, ", micros!("run_at"), ", ", micros!("claimed_at"), "
             FROM taskmq_messages FORCE INDEX (taskmq_messages_ready) WHERE worker_id IN (-1, -2) OR worker_id > 0
             UNION ALL
             SELECT m.id, m.topic, leased.worker_id, 1, ", micros!("m.run_at"), ", ", micros!("leased.claimed_at"), "
             FROM (SELECT ids.id, claim.worker_id, claim.claimed_at
                FROM taskmq_claims claim, JSON_TABLE(claim.message_ids, '$[*]' COLUMNS (id BIGINT PATH '$')) ids) leased
             STRAIGHT_JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = leased.id AND m.worker_id = 0
             LIMIT ?"),
            BigInt = limit,
        )?;
        Ok(held.into_iter().map(rows::held).collect())
    }

    lines!(
        Mysql, micros: micros, time: Text = text,
        from: "taskmq_messages FORCE INDEX (taskmq_messages_ready)", next_lanes: "priority > ?",
        order: "worker_id, topic, priority, run_at, id",
    );

    fn newest(&mut self, below: MessageId, limit: i64) -> Result<Vec<ProducedMessage>> {
        let newest = load!(
            self, Mysql => rows::ProducedSql,
            concat!("SELECT id, topic, ", micros!("created_at"), " FROM (
                (SELECT id, topic, created_at FROM taskmq_messages FORCE INDEX (PRIMARY) WHERE id < ? ORDER BY id DESC LIMIT ?)
                UNION ALL
                (SELECT id, topic, created_at FROM taskmq_archive FORCE INDEX (PRIMARY) WHERE id < ? ORDER BY id DESC LIMIT ?)) newest
             ORDER BY id DESC LIMIT ?"),
            BigInt = below,
            BigInt = limit,
            BigInt = below,
            BigInt = limit,
            BigInt = limit,
        )?;
        Ok(newest.into_iter().map(rows::produced).collect())
    }

    fn retentions(&mut self) -> Result<Vec<i64>> {
        super::retentions(self)
    }

    fn finished_of(
        &mut self,
        state: State,
        retention: Option<i64>,
        span: &Span,
    ) -> Result<Vec<FinishedMessage>> {
        let (from, to) = (text(span.from.at), text(span.to.at));
        let finished = load!(
            self, Mysql => rows::FinishedSql,
            concat!("SELECT id, topic, ", micros!("run_at"), ", ", micros!("claimed_at"), ", ", micros!("finished_at"), ", left(error, ?)
             FROM taskmq_archive FORCE INDEX (taskmq_archive_finished) WHERE state = ? AND keep_seconds <=> ?
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
            self, Mysql => rows::FailedSql,
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
            self, Mysql => (Text, BigInt),
            "SELECT topic, count(*) FROM (
                SELECT topic FROM taskmq_archive FORCE INDEX (taskmq_archive_finished)
                WHERE state = ? AND keep_seconds IS NULL ORDER BY finished_at DESC LIMIT ?) finished
             GROUP BY topic",
            Text = state.as_str(),
            BigInt = at_most,
        )?)
    }

    fn summaries(&mut self, ids: &[MessageId], text: Option<&str>) -> Result<Vec<Summary>> {
        let ids = json(ids)?;
        let mut found: Vec<rows::SummaryRow> = load!(
            self, Mysql => rows::SummarySql,
            concat!("SELECT m.id, m.topic, ", state!("m.worker_id > 0"), ", m.priority, m.attempts, ", micros!("m.created_at"), ", ", micros!("m.run_at"), ",
                CAST(NULL AS SIGNED), m.unique_key, m.ordering_key, left(", payload!("m"), ", ?), CASE WHEN m.attempts > 0 THEN (SELECT left(f.error, ?) FROM taskmq_failures f
                WHERE f.message_id = m.id ORDER BY f.id DESC LIMIT 1) END
             FROM ", listed_messages!(), "
             WHERE ? IS NULL OR LOCATE(?, ", payload!("m"), ") > 0 OR LOCATE(?, m.headers) > 0 OR LOCATE(?, m.unique_key) > 0 OR LOCATE(?, m.ordering_key) > 0
                OR EXISTS (SELECT 1 FROM taskmq_failures f WHERE f.message_id = m.id AND LOCATE(?, f.error) > 0)"),
            Integer = Summary::PAYLOAD_CHARS,
            Integer = FinishedMessage::ERROR_CHARS,
            Text = &ids,
            Nullable<Text> = text,
            Nullable<Text> = text,
            Nullable<Text> = text,
            Nullable<Text> = text,
            Nullable<Text> = text,
            Nullable<Text> = text,
        )?;
        let leased = leased(self)?;
        for row in found.iter_mut().filter(|row| leased.contains(&row.0)) {
            State::Running.as_str().clone_into(&mut row.2);
            row.4 = row.4.saturating_add(1);
        }
        let finished: Vec<rows::SummaryRow> = load!(
            self, Mysql => rows::SummarySql,
            concat!("SELECT a.id, a.topic, a.state, a.priority, a.attempts, ", micros!("a.created_at"), ", ", micros!("a.run_at"), ",
                ", micros!("a.finished_at"), ", a.unique_key, a.ordering_key, left(", payload!("a"), ", ?), left(a.error, ?)
             FROM ", listed_archive!(), "
             WHERE ? IS NULL OR LOCATE(?, ", payload!("a"), ") > 0 OR LOCATE(?, a.headers) > 0 OR LOCATE(?, a.unique_key) > 0 OR LOCATE(?, a.ordering_key) > 0 OR LOCATE(?, a.error) > 0"),
            Integer = Summary::PAYLOAD_CHARS,
            Integer = FinishedMessage::ERROR_CHARS,
            Text = &ids,
            Nullable<Text> = text,
            Nullable<Text> = text,
            Nullable<Text> = text,
            Nullable<Text> = text,
            Nullable<Text> = text,
            Nullable<Text> = text,
        )?;
        found.extend(finished);
        Ok(found.into_iter().map(rows::summary).collect())
    }

    fn payloads(&mut self, ids: &[MessageId], longest: i64) -> Result<Vec<(MessageId, String)>> {
        let ids = json(ids)?;
        Ok(load!(
            self, Mysql => (BigInt, Text),
            concat!(
                "SELECT id, payload FROM (
                    SELECT m.id, ", payload!("m"), " AS payload FROM ", listed_messages!(), "
                    UNION ALL
                    SELECT a.id, ", payload!("a"), " FROM ", listed_archive!(), "
                 ) found WHERE length(payload) <= ?"
            ),
            Text = &ids,
            Text = &ids,
            BigInt = longest,
        )?)
    }

    fn keyed(&mut self, unique_key: &str, topic: Option<&str>) -> Result<Vec<MessageId>> {
        if let Some(topic) = topic {
            if !topic.is_ascii() {
                // No topic is, and the column cannot be compared with such a text.
                return Ok(Vec::new());
            }
            return Ok(load!(
                self, Mysql => BigInt,
                "SELECT id FROM taskmq_messages WHERE topic = ? AND unique_key = ?",
                Text = topic,
                Text = unique_key,
            )?);
        }
        // From topic to topic; a statement that does so for all of them reads them all where the server thinks there are few.
        let mut ids = Vec::new();
        let mut last = String::new();
        loop {
            let next: Vec<(String, Option<MessageId>)> = load!(
                self, Mysql => (Text, Nullable<BigInt>),
                "SELECT next.topic, m.id FROM (
                    SELECT topic FROM taskmq_messages FORCE INDEX (taskmq_messages_unique)
                    WHERE topic > ? ORDER BY topic LIMIT 1) next
                 LEFT JOIN taskmq_messages m FORCE INDEX (taskmq_messages_unique)
                    ON m.topic = next.topic AND m.unique_key = ?",
                Text = &last,
                Text = unique_key,
            )?;
            let Some((topic, id)) = next.into_iter().next() else { return Ok(ids) };
            ids.extend(id);
            last = topic;
        }
    }

    fn workers(&mut self, limit: i64) -> Result<Vec<WorkerEntry>> {
        let workers = load!(
            self, Mysql => rows::WorkerSql,
            concat!("SELECT id, host, pid, version, topics, concurrency, ", micros!("started_at"), ", ", micros!("beat_at"), ",
                alone_with, memory_bytes, draining,
                IF(locked, beat_at > CURRENT_TIMESTAMP(6) - INTERVAL 90 SECOND AND NOT IS_FREE_LOCK(CONCAT('taskmq:', id)),
                   beat_at > CURRENT_TIMESTAMP(6) - INTERVAL 10 SECOND)
             FROM taskmq_workers ORDER BY started_at, id LIMIT ?"),
            BigInt = limit,
        )?;
        Ok(workers.into_iter().map(rows::worker).collect())
    }

    fn drain(&mut self, worker_id: i64, actor: &str) -> Result<bool> {
        transaction(self, |conn| {
            let told = execute!(
                conn,
                Mysql,
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
        transaction(self, |conn| change::change(conn, action, ids, noted))
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
        transaction(self, |conn| limits::set(conn, topic, limit, actor))
    }

    fn lift_limit(&mut self, topic: &str, actor: &str) -> Result<bool> {
        transaction(self, |conn| limits::lift(conn, topic, actor))
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
        execute!(
            self,
            Mysql,
            "INSERT INTO taskmq_audit (actor, action, topic, message_id, details, messages) VALUES (left(?, 255), ?, ?, ?, ?, ?)",
            Text = note.actor,
            Text = note.action,
            Nullable<Text> = note.topic,
            Nullable<BigInt> = note.message_id,
            Text = note.details,
            BigInt = note.messages,
        )?;
        last_id(self)
    }

    fn add_to_note(&mut self, id: NoteId, messages: i64) -> Result<()> {
        execute!(
            self,
            Mysql,
            "UPDATE taskmq_audit SET messages = messages + ? WHERE id = ?",
            BigInt = messages,
            BigInt = id,
        )?;
        Ok(())
    }

    fn notes(&mut self, below: NoteId, limit: i64) -> Result<Vec<NoteEntry>> {
        let notes = load!(
            self, Mysql => rows::NoteSql,
            concat!("SELECT id, ", micros!("at"), ", actor, action, topic, message_id, details, messages
             FROM taskmq_audit WHERE id < ? ORDER BY id DESC LIMIT ?"),
            BigInt = below,
            BigInt = limit,
        )?;
        Ok(notes.into_iter().map(rows::note).collect())
    }
}

/// A time of the session, which is in UTC; no later than what a TIMESTAMP can hold.
pub(super) fn text(at: DateTime<Utc>) -> String {
    let last = NaiveDate::from_ymd_opt(2038, 1, 19).and_then(|day| day.and_hms_opt(3, 14, 7));
    let at = last.map_or(at, |last| at.min(last.and_utc()));
    at.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
}
