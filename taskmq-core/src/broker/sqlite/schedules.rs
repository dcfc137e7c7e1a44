//! The rows of schedules.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, SmallInt, Text};
use diesel::sqlite::Sqlite;

use super::admin::text;
use super::json_list;
use crate::broker::schedules::{Schedule, ScheduleRecord, ScheduleSql, Schedules, schedule};
use crate::statement::{execute, load};
use crate::{MessageId, Result};

/// In the order of `ScheduleSql`.
macro_rules! schedules {
    ($which:literal) => {
        concat!(
            "SELECT name, cron, time_zone, topic, payload, priority, max_attempts, unique_key, headers, paused, ",
            micros!("since"),
            ", ",
            micros!("next_at"),
            ", ",
            micros!("last_at"),
            ", last_message_id, declared_by,
             declared_by IS NOT NULL AND declared_by NOT IN (SELECT id FROM taskmq_workers), ",
            micros!("'now'"),
            " FROM taskmq_schedules ",
            $which
        )
    };
}

impl Schedules for SqliteConnection {
    fn schedules(&mut self, name: Option<&str>) -> Result<Vec<Schedule>> {
        let rows = load!(
            self, Sqlite => ScheduleSql,
            schedules!("WHERE name = coalesce(?, name) ORDER BY name"),
            Nullable<Text> = name,
        )?;
        Ok(rows.into_iter().map(schedule).collect())
    }

    fn declared_schedules(&mut self, topics: &[&str]) -> Result<Vec<Schedule>> {
        let rows = load!(
            self, Sqlite => ScheduleSql,
            schedules!("WHERE declared_by IS NOT NULL AND topic IN (SELECT value FROM json_each(?))"),
            Text = json_list(topics)?,
        )?;
        Ok(rows.into_iter().map(schedule).collect())
    }

    fn next_schedules(&mut self, topics: &[&str], limit: i64) -> Result<Vec<Schedule>> {
        let rows = load!(
            self, Sqlite => ScheduleSql,
            schedules!("WHERE NOT paused AND (declared_by IS NULL OR topic IN (SELECT value FROM json_each(?)))
                ORDER BY next_at LIMIT ?"),
            Text = json_list(topics)?,
            BigInt = limit,
        )?;
        Ok(rows.into_iter().map(schedule).collect())
    }

    fn store_schedule(&mut self, schedule: &ScheduleRecord, declared_by: Option<i64>) -> Result<()> {
        let message = &schedule.message;
        execute!(
            self, Sqlite,
            concat!("INSERT INTO taskmq_schedules (name, cron, time_zone, declared_by, topic, priority, max_attempts,
                unique_key, headers, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (name) DO UPDATE SET
                since = CASE WHEN cron = excluded.cron AND time_zone = excluded.time_zone THEN since ELSE ", now!(), " END,
                next_at = CASE WHEN cron = excluded.cron AND time_zone = excluded.time_zone THEN next_at END,
                cron = excluded.cron, time_zone = excluded.time_zone, declared_by = excluded.declared_by,
                topic = excluded.topic, priority = excluded.priority, max_attempts = excluded.max_attempts,
                unique_key = excluded.unique_key, headers = excluded.headers, payload = excluded.payload"),
            Text = &schedule.name,
            Text = &schedule.cron,
            Text = &schedule.time_zone,
            Nullable<BigInt> = declared_by,
            Text = &message.topic,
            SmallInt = message.priority,
            Nullable<SmallInt> = message.max_attempts,
            Nullable<Text> = message.unique_key.as_deref(),
            Nullable<Text> = message.headers.as_deref(),
            Text = &message.payload,
        )?;
        Ok(())
    }

    /// The open transaction has the write lock, so nobody can change it.
    fn hold_schedule(&mut self, schedule: &Schedule) -> Result<bool> {
        let held: Vec<i32> = load!(
            self, Sqlite => Integer,
            concat!("SELECT 1 FROM taskmq_schedules WHERE name = ? AND cron = ? AND time_zone = ? AND NOT paused
             AND ", micros!("next_at"), " IS ?"),
            Text = &schedule.name,
            Text = &schedule.cron,
            Text = &schedule.time_zone,
            Nullable<BigInt> = schedule.next_at.map(|at| at.timestamp_micros()),
        )?;
        Ok(!held.is_empty())
    }

    fn advance_schedule(
        &mut self,
        name: &str,
        next: DateTime<Utc>,
        last: Option<(DateTime<Utc>, MessageId)>,
    ) -> Result<()> {
        execute!(
            self,
            Sqlite,
            "UPDATE taskmq_schedules SET next_at = ?, last_at = coalesce(?, last_at),
                last_message_id = coalesce(?, last_message_id) WHERE name = ?",
            Text = text(next),
            Nullable<Text> = last.map(|(tick, _)| text(tick)),
            Nullable<BigInt> = last.map(|(_, id)| id),
            Text = name,
        )?;
        Ok(())
    }

    fn pause_schedule(&mut self, name: &str, paused: bool) -> Result<bool> {
        let changed = execute!(
            self,
            Sqlite,
            concat!(
                "UPDATE taskmq_schedules SET paused = ?, next_at = NULL, since = ",
                now!(),
                " WHERE name = ? AND paused <> ?"
            ),
            Bool = paused,
            Text = name,
            Bool = paused,
        )?;
        Ok(changed > 0)
    }

    fn remove_schedule(&mut self, name: &str) -> Result<bool> {
        Ok(execute!(self, Sqlite, "DELETE FROM taskmq_schedules WHERE name = ?", Text = name)? > 0)
    }
}
