//! The rows of schedules.

use chrono::{DateTime, Utc};
use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, SmallInt, Text};

use super::json;
use crate::broker::schedules::{Schedule, ScheduleRecord, ScheduleSql, Schedules, schedule};
use crate::statement::{execute, load};
use crate::{MessageId, Result};

/// A `DATETIME` that is UTC as microseconds since 1970.
macro_rules! utc_micros {
    ($time:literal) => {
        concat!("TIMESTAMPDIFF(MICROSECOND, '1970-01-01', ", $time, ")")
    };
}

/// And back; for `?`, and `NULL` stays so.
macro_rules! utc {
    () => {
        "TIMESTAMPADD(MICROSECOND, ?, CAST('1970-01-01' AS DATETIME(6)))"
    };
}

/// In the order of `ScheduleSql`.
macro_rules! schedules {
    ($which:literal) => {
        concat!(
            "SELECT name, cron, time_zone, topic, payload, priority, max_attempts, unique_key, headers, CAST(paused AS SIGNED), ",
            utc_micros!("since"),
            ", ",
            utc_micros!("next_at"),
            ", ",
            utc_micros!("last_at"),
            ", last_message_id, declared_by,
             declared_by IS NOT NULL AND declared_by NOT IN (SELECT id FROM taskmq_workers), ",
            utc_micros!("UTC_TIMESTAMP(6)"),
            " FROM taskmq_schedules ",
            $which
        )
    };
}

macro_rules! among {
    () => {
        "(SELECT topic FROM JSON_TABLE(?, '$[*]' COLUMNS (topic VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin PATH '$')) t)"
    };
}

impl Schedules for MysqlConnection {
    fn schedules(&mut self, name: Option<&str>) -> Result<Vec<Schedule>> {
        if name.is_some_and(|name| !name.is_ascii()) {
            return Ok(Vec::new()); // there is no such name, and the server cannot compare it
        }
        let rows = load!(
            self, Mysql => ScheduleSql,
            schedules!("WHERE name = coalesce(?, name) ORDER BY name"),
            Nullable<Text> = name,
        )?;
        Ok(rows.into_iter().map(schedule).collect())
    }

    fn declared_schedules(&mut self, topics: &[&str]) -> Result<Vec<Schedule>> {
        let rows = load!(
            self, Mysql => ScheduleSql,
            concat!(schedules!("WHERE declared_by IS NOT NULL AND topic IN "), among!()),
            Text = json(topics)?,
        )?;
        Ok(rows.into_iter().map(schedule).collect())
    }

    fn next_schedules(&mut self, topics: &[&str], limit: i64) -> Result<Vec<Schedule>> {
        let rows = load!(
            self, Mysql => ScheduleSql,
            concat!(schedules!("WHERE paused = FALSE AND (declared_by IS NULL OR topic IN "), among!(), ") ORDER BY next_at LIMIT ?"),
            Text = json(topics)?,
            BigInt = limit,
        )?;
        Ok(rows.into_iter().map(schedule).collect())
    }

    fn store_schedule(&mut self, schedule: &ScheduleRecord, declared_by: Option<i64>) -> Result<()> {
        let message = &schedule.message;
        execute!(
            self, Mysql,
            // What is set first is set by what was there before.
            "INSERT INTO taskmq_schedules (name, cron, time_zone, declared_by, topic, priority, max_attempts,
                unique_key, headers, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON DUPLICATE KEY UPDATE
                since = IF(cron = VALUES(cron) AND time_zone = VALUES(time_zone), since, UTC_TIMESTAMP(6)),
                next_at = IF(cron = VALUES(cron) AND time_zone = VALUES(time_zone), next_at, NULL),
                cron = VALUES(cron), time_zone = VALUES(time_zone), declared_by = VALUES(declared_by),
                topic = VALUES(topic), priority = VALUES(priority), max_attempts = VALUES(max_attempts),
                unique_key = VALUES(unique_key), headers = VALUES(headers), payload = VALUES(payload)",
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

    fn hold_schedule(&mut self, schedule: &Schedule) -> Result<bool> {
        let held: Vec<i32> = load!(
            self, Mysql => Integer,
            concat!("SELECT 1 FROM taskmq_schedules WHERE name = ? AND cron = ? AND time_zone = ? AND paused = FALSE
             AND ", utc_micros!("next_at"), " <=> ? FOR UPDATE SKIP LOCKED"),
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
            Mysql,
            concat!(
                "UPDATE taskmq_schedules SET next_at = ",
                utc!(),
                ", last_at = coalesce(",
                utc!(),
                ", last_at), last_message_id = coalesce(?, last_message_id) WHERE name = ?"
            ),
            BigInt = next.timestamp_micros(),
            Nullable<BigInt> = last.map(|(tick, _)| tick.timestamp_micros()),
            Nullable<BigInt> = last.map(|(_, id)| id),
            Text = name,
        )?;
        Ok(())
    }

    fn pause_schedule(&mut self, name: &str, paused: bool) -> Result<bool> {
        let changed = execute!(
            self,
            Mysql,
            "UPDATE taskmq_schedules SET paused = ?, next_at = NULL, since = UTC_TIMESTAMP(6)
             WHERE name = ? AND paused <> ?",
            Bool = paused,
            Text = name,
            Bool = paused,
        )?;
        Ok(changed > 0)
    }

    fn remove_schedule(&mut self, name: &str) -> Result<bool> {
        Ok(execute!(self, Mysql, "DELETE FROM taskmq_schedules WHERE name = ?", Text = name)? > 0)
    }
}
