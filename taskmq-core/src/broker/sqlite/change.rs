//! What people do with messages.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, SmallInt, Text};
use diesel::sqlite::Sqlite;

use super::admin::text;
use super::{json_list, logs, payloads, turns};
use crate::broker::change::Changing;
use crate::broker::{out_of_line, rows};
use crate::statement::{execute, load};
use crate::{MessageId, Result, State};

impl Changing for SqliteConnection {
    /// The write lock is held, so that they stay as they are.
    fn lock_messages(&mut self, ids: &[MessageId]) -> Result<Vec<(MessageId, State)>> {
        let ids = json_list(ids)?;
        let found: Vec<(MessageId, String)> = load!(
            self, Sqlite => (BigInt, Text),
            concat!("SELECT m.id, ", state!(), " FROM json_each(?) wanted
                 CROSS JOIN taskmq_messages m NOT INDEXED ON m.id = wanted.value LEFT JOIN ", leased!(), " ON leased.id = m.id
             UNION ALL
             SELECT id, state FROM taskmq_archive WHERE id IN (SELECT value FROM json_each(?))"),
            Text = &ids,
            Text = &ids,
        )?;
        Ok(found.into_iter().map(|(id, state)| (id, rows::state(&state))).collect())
    }

    fn make_due(&mut self, ids: &[MessageId]) -> Result<()> {
        execute!(
            self,
            Sqlite,
            concat!(
                "UPDATE taskmq_messages SET run_at = ",
                now!(),
                " WHERE id IN (SELECT value FROM json_each(?)) AND run_at > ",
                now!()
            ),
            Text = json_list(ids)?,
        )?;
        Ok(())
    }

    fn revive(&mut self, ids: &[MessageId]) -> Result<Vec<MessageId>> {
        Ok(load!(
            self, Sqlite => BigInt,
            concat!("INSERT INTO taskmq_messages (id, topic, priority, run_at, created_at, max_attempts, unique_key, ordering_key, headers, payload)
             SELECT id, topic, priority, CASE state WHEN 'cancelled' THEN max(run_at, ", now!(), ") ELSE ", now!(), " END,
                created_at, max_attempts, unique_key, ordering_key, headers, payload
             FROM taskmq_archive WHERE id IN (SELECT value FROM json_each(?))
             ON CONFLICT (topic, unique_key) WHERE unique_key IS NOT NULL DO NOTHING
             RETURNING id"),
            Text = json_list(ids)?,
        )?)
    }

    fn archive_cancelled(&mut self, ids: &[MessageId]) -> Result<()> {
        execute!(
            self, Sqlite,
            "INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, claimed_at, worker_id, attempts, crashes,
                max_attempts, unique_key, ordering_key, headers, payload)
             SELECT id, topic, 'cancelled', priority, run_at, created_at, claimed_at, 0, attempts, crashes,
                max_attempts, unique_key, ordering_key, headers, payload
             FROM taskmq_messages WHERE id IN (SELECT value FROM json_each(?))",
            Text = json_list(ids)?,
        )?;
        Ok(())
    }

    fn forget(&mut self, ids: &[MessageId]) -> Result<()> {
        let ids = json_list(ids)?;
        execute!(
            self,
            Sqlite,
            "DELETE FROM taskmq_failures WHERE message_id IN (SELECT value FROM json_each(?))",
            Text = &ids,
        )?;
        logs::delete(self, &ids)?;
        payloads::delete(self, &ids)
    }

    fn delete_live(&mut self, ids: &[MessageId]) -> Result<()> {
        execute!(
            self,
            Sqlite,
            "DELETE FROM taskmq_messages WHERE id IN (SELECT value FROM json_each(?))",
            Text = json_list(ids)?,
        )?;
        Ok(())
    }

    fn delete_finished(&mut self, ids: &[MessageId]) -> Result<()> {
        execute!(
            self,
            Sqlite,
            "DELETE FROM taskmq_archive WHERE id IN (SELECT value FROM json_each(?))",
            Text = json_list(ids)?,
        )?;
        Ok(())
    }

    fn set_priority(&mut self, ids: &[MessageId], priority: i16) -> Result<()> {
        execute!(
            self,
            Sqlite,
            concat!(
                "UPDATE taskmq_messages SET priority = ?, ",
                out_of_line!(),
                " WHERE id IN (SELECT value FROM json_each(?))"
            ),
            SmallInt = priority,
            Text = json_list(ids)?,
        )?;
        Ok(())
    }

    fn set_run_at(&mut self, ids: &[MessageId], at: DateTime<Utc>) -> Result<()> {
        execute!(
            self,
            Sqlite,
            concat!(
                "UPDATE taskmq_messages SET run_at = max(?, ",
                now!(),
                "), ",
                out_of_line!(),
                " WHERE id IN (SELECT value FROM json_each(?))"
            ),
            Text = text(at),
            Text = json_list(ids)?,
        )?;
        Ok(())
    }

    fn ask_to_cancel(&mut self, ids: &[MessageId]) -> Result<()> {
        execute!(
            self,
            Sqlite,
            "INSERT OR IGNORE INTO taskmq_cancels (message_id) SELECT value FROM json_each(?)",
            Text = json_list(ids)?,
        )?;
        Ok(())
    }

    fn asked_to_cancel(&mut self, ids: &[MessageId]) -> Result<Vec<MessageId>> {
        Ok(load!(
            self, Sqlite => BigInt,
            "SELECT message_id FROM taskmq_cancels WHERE message_id IN (SELECT value FROM json_each(?))",
            Text = json_list(ids)?,
        )?)
    }

    fn forget_cancels(&mut self, ids: &[MessageId]) -> Result<()> {
        execute!(
            self,
            Sqlite,
            "DELETE FROM taskmq_cancels WHERE message_id IN (SELECT value FROM json_each(?))",
            Text = json_list(ids)?,
        )?;
        Ok(())
    }

    fn pass_turns(&mut self, ids: &[MessageId]) -> Result<()> {
        turns::pass_turns(self, ids)
    }
}
