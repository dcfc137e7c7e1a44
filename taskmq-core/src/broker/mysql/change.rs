//! What people do with messages.

use chrono::{DateTime, Utc};
use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, SmallInt, Text};

use super::admin::{listed, listed_archive, listed_messages, text};
use super::claim::{claim_lock, leased};
use super::{json, logs, payloads, turns};
use crate::broker::change::Changing;
use crate::broker::{out_of_line, rows};
use crate::statement::{execute, load};
use crate::{MessageId, Result, State};

impl Changing for MysqlConnection {
    /// Against claims of single messages they are locked by their rows, against those of batches as a whole.
    fn lock_messages(&mut self, ids: &[MessageId]) -> Result<Vec<(MessageId, State)>> {
        claim_lock(self, false)?;
        let leased = leased(self)?;
        let ids = json(ids)?;
        let live: Vec<(MessageId, String)> = load!(
            self, Mysql => (BigInt, Text),
            concat!("SELECT m.id, ", state!("m.worker_id > 0"), " FROM ", listed_messages!(), " FOR UPDATE"),
            Text = &ids,
        )?;
        let finished: Vec<(MessageId, String)> = load!(
            self, Mysql => (BigInt, Text),
            concat!("SELECT a.id, a.state FROM ", listed_archive!(), " FOR UPDATE"),
            Text = &ids,
        )?;
        let live = live.into_iter().map(|(id, state)| match leased.contains(&id) {
            true => (id, State::Running),
            false => (id, rows::state(&state)),
        });
        Ok(live.chain(finished.into_iter().map(|(id, state)| (id, rows::state(&state)))).collect())
    }

    fn make_due(&mut self, ids: &[MessageId]) -> Result<()> {
        execute!(
            self,
            Mysql,
            concat!(
                "UPDATE ",
                listed_messages!(),
                " SET m.run_at = CURRENT_TIMESTAMP(6) WHERE m.run_at > CURRENT_TIMESTAMP(6)"
            ),
            Text = json(ids)?,
        )?;
        Ok(())
    }

    fn revive(&mut self, ids: &[MessageId]) -> Result<Vec<MessageId>> {
        let ids = json(ids)?;
        // Assigning a column to itself leaves out what has its key taken, and swallows no other error, as IGNORE would.
        execute!(
            self, Mysql,
            concat!("INSERT INTO taskmq_messages (id, topic, priority, run_at, created_at, max_attempts, unique_key, ordering_key, headers, payload)
             SELECT a.id, a.topic, a.priority,
                CASE a.state WHEN 'cancelled' THEN greatest(a.run_at, CURRENT_TIMESTAMP(6)) ELSE CURRENT_TIMESTAMP(6) END,
                a.created_at, a.max_attempts, a.unique_key, a.ordering_key, a.headers, a.payload
             FROM ", listed_archive!(), "
             ON DUPLICATE KEY UPDATE taskmq_messages.id = taskmq_messages.id"),
            Text = &ids,
        )?;
        Ok(load!(
            self, Mysql => BigInt,
            concat!("SELECT m.id FROM ", listed_messages!()),
            Text = &ids,
        )?)
    }

    fn archive_cancelled(&mut self, ids: &[MessageId]) -> Result<()> {
        execute!(
            self, Mysql,
            concat!("INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, claimed_at, worker_id, attempts, crashes,
                max_attempts, unique_key, ordering_key, headers, payload)
             SELECT m.id, m.topic, 'cancelled', m.priority, m.run_at, m.created_at, m.claimed_at, 0, m.attempts, m.crashes,
                m.max_attempts, m.unique_key, m.ordering_key, m.headers, m.payload
             FROM ", listed_messages!()),
            Text = json(ids)?,
        )?;
        Ok(())
    }

    fn forget(&mut self, ids: &[MessageId]) -> Result<()> {
        let ids = json(ids)?;
        execute!(
            self,
            Mysql,
            concat!(
                "DELETE f FROM ",
                listed!(),
                " STRAIGHT_JOIN taskmq_failures f FORCE INDEX (taskmq_failures_message) ON f.message_id = listed.id"
            ),
            Text = &ids,
        )?;
        logs::delete(self, &ids)?;
        payloads::delete(self, &ids)
    }

    fn delete_live(&mut self, ids: &[MessageId]) -> Result<()> {
        execute!(self, Mysql, concat!("DELETE m FROM ", listed_messages!()), Text = json(ids)?)?;
        Ok(())
    }

    fn delete_finished(&mut self, ids: &[MessageId]) -> Result<()> {
        execute!(self, Mysql, concat!("DELETE a FROM ", listed_archive!()), Text = json(ids)?)?;
        Ok(())
    }

    fn set_priority(&mut self, ids: &[MessageId], priority: i16) -> Result<()> {
        execute!(
            self,
            Mysql,
            concat!("UPDATE ", listed_messages!(), " SET m.priority = ?, ", out_of_line!()),
            Text = json(ids)?,
            SmallInt = priority,
        )?;
        Ok(())
    }

    fn set_run_at(&mut self, ids: &[MessageId], at: DateTime<Utc>) -> Result<()> {
        execute!(
            self,
            Mysql,
            concat!(
                "UPDATE ",
                listed_messages!(),
                " SET m.run_at = greatest(CAST(? AS DATETIME(6)), CURRENT_TIMESTAMP(6)), ",
                out_of_line!()
            ),
            Text = json(ids)?,
            Text = text(at),
        )?;
        Ok(())
    }

    fn ask_to_cancel(&mut self, ids: &[MessageId]) -> Result<()> {
        execute!(
            self,
            Mysql,
            concat!(
                "INSERT INTO taskmq_cancels (message_id) SELECT listed.id FROM ",
                listed!(),
                " ON DUPLICATE KEY UPDATE asked_at = asked_at"
            ),
            Text = json(ids)?,
        )?;
        Ok(())
    }

    fn asked_to_cancel(&mut self, ids: &[MessageId]) -> Result<Vec<MessageId>> {
        Ok(load!(
            self, Mysql => BigInt,
            concat!(
                "SELECT c.message_id FROM ",
                listed!(),
                " STRAIGHT_JOIN taskmq_cancels c FORCE INDEX (PRIMARY) ON c.message_id = listed.id"
            ),
            Text = json(ids)?,
        )?)
    }

    fn forget_cancels(&mut self, ids: &[MessageId]) -> Result<()> {
        execute!(
            self,
            Mysql,
            concat!(
                "DELETE c FROM ",
                listed!(),
                " STRAIGHT_JOIN taskmq_cancels c FORCE INDEX (PRIMARY) ON c.message_id = listed.id"
            ),
            Text = json(ids)?,
        )?;
        Ok(())
    }

    fn pass_turns(&mut self, ids: &[MessageId]) -> Result<()> {
        turns::pass_turns(self, ids)
    }
}
