//! What people look at.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::connection::SimpleConnection;
use diesel::data_types::PgTimestamp;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Integer, Nullable, SmallInt, Text, Timestamptz};

use super::payloads::payload;
use super::{cancels, diagnosis, paused};
use crate::broker::again::again;
use crate::broker::audit::write_down_drain;
use crate::broker::line::lines;
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
use crate::{Error, MessageId, Result, State};

/// Finished messages of a state and a retention, which an index has in this order. The planner sees that it has only if what
/// `IS NULL` is named as well: it does not take that for a constant.
macro_rules! finished_of {
    ($retention:literal) => {
        concat!("SELECT id, topic, ", micros!("run_at"), ", ", micros!("claimed_at"), ", ", micros!("finished_at"), ", left(error, ?)
         FROM taskmq_archive WHERE state = ? AND keep_seconds ", $retention, "
         AND finished_at >= ? AND (finished_at, id) > (?, ?) AND finished_at <= ? AND (finished_at, id) < (?, ?)
         ORDER BY keep_seconds DESC, finished_at DESC, id DESC LIMIT ?")
    };
}

impl Administration for PgConnection {
    fn restrict(&mut self, time: Duration, read_only: bool) -> Result<()> {
        if !super::has_own_session(self)? {
            return Err(Error::Unsupported(
                "what limits this connection would go on to the other clients of the pooler that it goes through: use a \
                 DATABASE_URL that leads to PostgreSQL itself"
                    .to_owned(),
            ));
        }
        // The planner does not know how few rows are asked for, no more than for a worker's statements.
        self.batch_execute(by_index!("SET"))?;
        self.batch_execute(&format!(
            "SET statement_timeout = {millis}; SET idle_in_transaction_session_timeout = {millis};
             SET default_transaction_read_only = {read_only}",
            millis = time.as_millis(),
        ))?;
        Ok(())
    }

    fn now(&mut self) -> Result<DateTime<Utc>> {
        let now: Vec<i64> = load!(self, Pg => BigInt, concat!("SELECT ", micros!("clock_timestamp()")))?;
        Ok(rows::time(now.first().copied().unwrap_or_default()))
    }

    fn lanes(&mut self, limit: usize) -> Result<Vec<Lane>> {
        let rows: Vec<(String, i16)> = load!(
            self, Pg => (Text, SmallInt),
            "WITH RECURSIVE lane AS (
                (SELECT topic, priority FROM taskmq_messages WHERE worker_id = 0 ORDER BY topic, priority LIMIT 1)
                UNION ALL
                SELECT next.topic, next.priority FROM lane CROSS JOIN LATERAL (
                    SELECT m.topic, m.priority FROM taskmq_messages m
                    WHERE m.worker_id = 0 AND (m.topic, m.priority) > (lane.topic, lane.priority)
                    ORDER BY m.topic, m.priority LIMIT 1) next
             )
             SELECT topic, priority FROM lane LIMIT ?",
            BigInt = i64::try_from(limit).unwrap_or(i64::MAX),
        )?;
        let mut lanes: Vec<Lane> =
            rows.into_iter().map(|(topic, priority)| Lane { topic, priority }).collect();
        lanes.sort_by(|a, b| (&a.topic, b.priority).cmp(&(&b.topic, a.priority)));
        Ok(lanes)
    }

    fn lanes_of(&mut self, topic: &str) -> Result<Vec<Lane>> {
        let rows: Vec<i16> = load!(
            self, Pg => SmallInt,
            "WITH RECURSIVE sought AS (SELECT ? AS topic), lane AS (
                SELECT first.priority FROM sought CROSS JOIN LATERAL (
                    SELECT m.priority FROM taskmq_messages m WHERE m.worker_id = 0 AND m.topic = sought.topic
                    ORDER BY m.topic, m.priority LIMIT 1) first
                UNION ALL
                SELECT next.priority FROM lane CROSS JOIN sought CROSS JOIN LATERAL (
                    SELECT m.priority FROM taskmq_messages m
                    WHERE m.worker_id = 0 AND m.topic = sought.topic AND m.priority > lane.priority
                    ORDER BY m.topic, m.priority LIMIT 1) next
             )
             SELECT priority FROM lane",
            Text = topic,
        )?;
        Ok(rows.into_iter().rev().map(|priority| Lane { topic: topic.to_owned(), priority }).collect())
    }

    fn count_lane(&mut self, lane: &Lane, at_most: i64) -> Result<LaneCount> {
        let due: Vec<(i64, Option<i64>)> = load!(
            self, Pg => (BigInt, Nullable<BigInt>),
            concat!("SELECT count(*), ", micros!("min(run_at)"), " FROM (
                SELECT run_at FROM taskmq_messages WHERE worker_id = 0 AND topic = ? AND priority = ? AND run_at <= statement_timestamp()
                ORDER BY run_at LIMIT ?) due"),
            Text = &lane.topic,
            SmallInt = lane.priority,
            BigInt = at_most,
        )?;
        let later: Vec<(i64, i64)> = load!(
            self, Pg => (BigInt, BigInt),
            "SELECT count(*), count(*) FILTER (WHERE attempts > 0) FROM (
                SELECT attempts FROM taskmq_messages WHERE worker_id = 0 AND topic = ? AND priority = ? AND run_at > statement_timestamp()
                ORDER BY run_at LIMIT ?) later",
            Text = &lane.topic,
            SmallInt = lane.priority,
            BigInt = at_most,
        )?;
        Ok(rows::lane_count(due.first(), later.first()))
    }

    fn count_lanes(&mut self, lanes: &[Lane], at_most: i64) -> Result<Vec<LaneCount>> {
        let (topics, priorities): (Vec<&str>, Vec<i16>) =
            lanes.iter().map(|lane| (&*lane.topic, lane.priority)).unzip();
        let counts: Vec<(i64, Option<i64>, i64, i64)> = load!(
            self, Pg => (BigInt, Nullable<BigInt>, BigInt, BigInt),
            concat!("SELECT due.number, ", micros!("due.oldest"), ", later.number, later.retrying
             FROM unnest(?, ?) WITH ORDINALITY lane (topic, priority, place)
             CROSS JOIN (SELECT ? AS number) at_most
             CROSS JOIN LATERAL (SELECT count(*) AS number, min(run_at) AS oldest FROM (
                SELECT m.run_at FROM taskmq_messages m
                WHERE m.worker_id = 0 AND m.topic = lane.topic AND m.priority = lane.priority AND m.run_at <= statement_timestamp()
                ORDER BY m.run_at LIMIT at_most.number) due) due
             CROSS JOIN LATERAL (SELECT count(*) AS number, count(*) FILTER (WHERE attempts > 0) AS retrying FROM (
                SELECT m.attempts FROM taskmq_messages m
                WHERE m.worker_id = 0 AND m.topic = lane.topic AND m.priority = lane.priority AND m.run_at > statement_timestamp()
                ORDER BY m.run_at LIMIT at_most.number) later) later
             ORDER BY lane.place"),
            Array<Text> = topics,
            Array<SmallInt> = priorities,
            BigInt = at_most,
        )?;
        let count =
            |(due, oldest, later, retrying)| rows::lane_count(Some(&(due, oldest)), Some(&(later, retrying)));
        Ok(counts.into_iter().map(count).collect())
    }

    fn waiting(&mut self, lane: &Lane, span: &Span) -> Result<Vec<Place>> {
        let (from, to) = (timestamp(span.from.at), timestamp(span.to.at));
        let places: Vec<(i64, i64)> = load!(
            self, Pg => rows::PlaceSql,
            concat!("SELECT ", micros!("run_at"), ", id FROM taskmq_messages WHERE worker_id = 0 AND topic = ? AND priority = ?
             AND (run_at, id) > (?, ?) AND (run_at, id) < (?, ?) ORDER BY run_at, id LIMIT ?"),
            Text = &lane.topic,
            SmallInt = lane.priority,
            Timestamptz = from,
            BigInt = span.from.id,
            Timestamptz = to,
            BigInt = span.to.id,
            BigInt = span.limit,
        )?;
        Ok(places.into_iter().map(rows::place).collect())
    }

    fn held(&mut self, limit: i64) -> Result<Vec<HeldMessage>> {
        let held = load!(
            self, Pg => rows::HeldSql,
            concat!("SELECT id, topic, worker_id, 0, ", micros!("run_at"), ", ", micros!("claimed_at"), "
             FROM taskmq_messages WHERE worker_id <> 0 AND worker_id >= -2
             UNION ALL
             SELECT m.id, m.topic, leased.worker_id, 1, ", micros!("m.run_at"), ", ", micros!("leased.claimed_at"), "
             FROM (SELECT unnest(message_ids) AS id, worker_id, claimed_at FROM taskmq_claims) leased
             JOIN taskmq_messages m ON m.id = leased.id AND m.worker_id + 0 = 0
             LIMIT ?"),
            BigInt = limit,
        )?;
        Ok(held.into_iter().map(rows::held).collect())
    }

    lines!(
        Pg, micros: micros, time: Timestamptz = timestamp,
        from: "taskmq_messages", next_lanes: "priority < ?", order: "worker_id, priority DESC, run_at, id",
    );

    fn newest(&mut self, below: MessageId, limit: i64) -> Result<Vec<ProducedMessage>> {
        let newest = load!(
            self, Pg => rows::ProducedSql,
            concat!("SELECT id, topic, ", micros!("created_at"), " FROM (
                (SELECT id, topic, created_at FROM taskmq_messages WHERE id < ? ORDER BY id DESC LIMIT ?)
                UNION ALL
                (SELECT id, topic, created_at FROM taskmq_archive WHERE id < ? ORDER BY id DESC LIMIT ?)) newest
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
        Ok(load!(
            self, Pg => BigInt,
            concat!("WITH ", retentions!(), " SELECT seconds FROM retention WHERE seconds IS NOT NULL")
        )?)
    }

    fn finished_of(
        &mut self,
        state: State,
        retention: Option<i64>,
        span: &Span,
    ) -> Result<Vec<FinishedMessage>> {
        let (from, to) = (timestamp(span.from.at), timestamp(span.to.at));
        // No one condition serves an index for NULL and for values.
        let finished = match retention {
            None => load!(
                self, Pg => rows::FinishedSql,
                finished_of!("IS NULL"),
                Integer = FinishedMessage::ERROR_CHARS,
                Text = state.as_str(),
                Timestamptz = from,
                Timestamptz = from,
                BigInt = span.from.id,
                Timestamptz = to,
                Timestamptz = to,
                BigInt = span.to.id,
                BigInt = span.limit,
            ),
            Some(seconds) => load!(
                self, Pg => rows::FinishedSql,
                finished_of!("= ?"),
                Integer = FinishedMessage::ERROR_CHARS,
                Text = state.as_str(),
                BigInt = seconds,
                Timestamptz = from,
                Timestamptz = from,
                BigInt = span.from.id,
                Timestamptz = to,
                Timestamptz = to,
                BigInt = span.to.id,
                BigInt = span.limit,
            ),
        }?;
        Ok(finished.into_iter().map(rows::finished).collect())
    }

    fn failed(&mut self, limit: i64) -> Result<Vec<FailedLately>> {
        let failed = load!(
            self, Pg => rows::FailedSql,
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
            self, Pg => (Text, BigInt),
            "SELECT topic, count(*) FROM (
                SELECT topic FROM taskmq_archive WHERE state = ? AND keep_seconds IS NULL ORDER BY keep_seconds DESC, finished_at DESC LIMIT ?) finished
             GROUP BY topic",
            Text = state.as_str(),
            BigInt = at_most,
        )?)
    }

    fn summaries(&mut self, ids: &[MessageId], text: Option<&str>) -> Result<Vec<Summary>> {
        let found = load!(
            self, Pg => rows::SummarySql,
            concat!("WITH sought AS MATERIALIZED (SELECT ?::text AS text)
             SELECT m.id, m.topic, ", state!(), ", m.priority, m.attempts + (leased.id IS NOT NULL)::int, ", micros!("m.created_at"), ",
                ", micros!("m.run_at"), ", CAST(NULL AS BIGINT), m.unique_key, m.ordering_key, left(", payload!("m"), ", ?), CASE WHEN m.attempts > 0 THEN (SELECT left(f.error, ?) FROM taskmq_failures f
                WHERE f.message_id = m.id ORDER BY f.id DESC LIMIT 1) END
             FROM sought CROSS JOIN ", live_messages!(), " WHERE m.id = ANY(?) AND (sought.text IS NULL
                OR strpos(", payload!("m"), ", sought.text) > 0 OR strpos(m.headers::text, sought.text) > 0
                OR strpos(m.unique_key, sought.text) > 0 OR strpos(m.ordering_key, sought.text) > 0
                OR EXISTS (SELECT 1 FROM taskmq_failures f WHERE f.message_id = m.id AND strpos(f.error, sought.text) > 0))
             UNION ALL
             SELECT a.id, a.topic, a.state, a.priority, a.attempts, ", micros!("a.created_at"), ", ", micros!("a.run_at"), ",
                ", micros!("a.finished_at"), ", a.unique_key, a.ordering_key, left(", payload!("a"), ", ?), left(a.error, ?)
             FROM sought CROSS JOIN taskmq_archive a WHERE a.id = ANY(?) AND (sought.text IS NULL
                OR strpos(", payload!("a"), ", sought.text) > 0 OR strpos(a.headers::text, sought.text) > 0
                OR strpos(a.unique_key, sought.text) > 0 OR strpos(a.ordering_key, sought.text) > 0
                OR strpos(a.error, sought.text) > 0)"),
            Nullable<Text> = text,
            Integer = Summary::PAYLOAD_CHARS,
            Integer = FinishedMessage::ERROR_CHARS,
            Array<BigInt> = ids,
            Integer = Summary::PAYLOAD_CHARS,
            Integer = FinishedMessage::ERROR_CHARS,
            Array<BigInt> = ids,
        )?;
        Ok(found.into_iter().map(rows::summary).collect())
    }

    fn payloads(&mut self, ids: &[MessageId], longest: i64) -> Result<Vec<(MessageId, String)>> {
        Ok(load!(
            self, Pg => (BigInt, Text),
            concat!("SELECT id, payload FROM (
                SELECT m.id, ", payload!("m"), " AS payload FROM taskmq_messages m WHERE m.id = ANY(?)
                UNION ALL
                SELECT a.id, ", payload!("a"), " FROM taskmq_archive a WHERE a.id = ANY(?)
             ) found WHERE octet_length(payload) <= ?"),
            Array<BigInt> = ids,
            Array<BigInt> = ids,
            BigInt = longest,
        )?)
    }

    fn keyed(&mut self, unique_key: &str, topic: Option<&str>) -> Result<Vec<MessageId>> {
        if let Some(topic) = topic {
            return Ok(load!(
                self, Pg => BigInt,
                "SELECT id FROM taskmq_messages WHERE topic = ? AND unique_key = ?",
                Text = topic,
                Text = unique_key,
            )?);
        }
        Ok(load!(
            self, Pg => BigInt,
            "WITH RECURSIVE topics AS (
                (SELECT topic FROM taskmq_messages WHERE unique_key IS NOT NULL ORDER BY topic LIMIT 1)
                UNION ALL
                SELECT next.topic FROM topics CROSS JOIN LATERAL (
                    SELECT m.topic FROM taskmq_messages m WHERE m.unique_key IS NOT NULL AND m.topic > topics.topic
                    ORDER BY m.topic LIMIT 1) next
             )
             SELECT m.id FROM topics JOIN taskmq_messages m ON m.topic = topics.topic AND m.unique_key = ?",
            Text = unique_key,
        )?)
    }

    fn workers(&mut self, limit: i64) -> Result<Vec<WorkerEntry>> {
        let workers = load!(
            self, Pg => rows::WorkerSql,
            concat!("SELECT id, host, pid, version, topics, concurrency, ", micros!("started_at"), ", ", micros!("beat_at"), ",
                alone_with, memory_bytes, draining,
                CASE WHEN NOT locked THEN beat_at > clock_timestamp() - interval '10 seconds'
                     ELSE beat_at > clock_timestamp() - interval '90 seconds' AND id IN (
                        SELECT (l.classid::bigint << 32) | l.objid::bigint FROM pg_locks l
                        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())) END
             FROM taskmq_workers ORDER BY started_at, id LIMIT ?"),
            BigInt = limit,
        )?;
        Ok(workers.into_iter().map(rows::worker).collect())
    }

    fn drain(&mut self, worker_id: i64, actor: &str) -> Result<bool> {
        self.transaction(|conn| {
            let told = execute!(
                conn,
                Pg,
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
        again(self, |conn| conn.transaction(|conn| change::change(conn, action, ids, noted)))
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
        self.transaction(|conn| limits::set(conn, topic, limit, actor))
    }

    fn lift_limit(&mut self, topic: &str, actor: &str) -> Result<bool> {
        self.transaction(|conn| limits::lift(conn, topic, actor))
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
            self, Pg => BigInt,
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
            Pg,
            "UPDATE taskmq_audit SET messages = messages + ? WHERE id = ?",
            BigInt = messages,
            BigInt = id,
        )?;
        Ok(())
    }

    fn notes(&mut self, below: NoteId, limit: i64) -> Result<Vec<NoteEntry>> {
        let notes = load!(
            self, Pg => rows::NoteSql,
            concat!("SELECT id, ", micros!("at"), ", actor, action, topic, message_id, details, messages
             FROM taskmq_audit WHERE id < ? ORDER BY id DESC LIMIT ?"),
            BigInt = below,
            BigInt = limit,
        )?;
        Ok(notes.into_iter().map(rows::note).collect())
    }
}

/// PostgreSQL counts from the year 2000.
pub(super) fn timestamp(at: DateTime<Utc>) -> PgTimestamp {
    const UNTIL_2000: i64 = 946_684_800_000_000;
    PgTimestamp(at.timestamp_micros().saturating_sub(UNTIL_2000))
}
