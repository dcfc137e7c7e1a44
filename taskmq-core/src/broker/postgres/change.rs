//! What people do with messages.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, SmallInt, Text, Timestamptz};

use super::admin::timestamp;
use super::claim::exclude_batch_claims;
use super::{logs, payloads, turns};
use crate::broker::change::Changing;
use crate::broker::{out_of_line, rows};
use crate::statement::{execute, load};
use crate::{MessageId, Result, State};

impl Changing for PgConnection {
    /// Against claims of single messages they are locked by their rows, against those of batches as a whole. Not those that
    /// run: who settles them has their rows, and may wait for the claims that are shut out here.
    fn lock_messages(&mut self, ids: &[MessageId]) -> Result<Vec<(MessageId, State)>> {
        exclude_batch_claims(self)?;
        let mut locked: HashSet<MessageId> = HashSet::new();
        let mut found: Vec<(MessageId, String)> = loop {
            let waiting: Vec<MessageId> = load!(
                self, Pg => BigInt,
                concat!("SELECT m.id FROM ", live_messages!(), " WHERE m.id = ANY(?) AND m.worker_id <= 0 AND leased.id IS NULL
                 ORDER BY m.id FOR UPDATE OF m"),
                Array<BigInt> = ids,
            )?;
            locked.extend(waiting);
            let found: Vec<(MessageId, String)> = load!(
                self, Pg => (BigInt, Text),
                concat!("SELECT m.id, ", state!(), " FROM ", live_messages!(), " WHERE m.id = ANY(?)"),
                Array<BigInt> = ids,
            )?;
            // One may have been given back in between.
            if found.iter().all(|(id, state)| locked.contains(id) || rows::state(state) == State::Running) {
                break found;
            }
        };
        let finished: Vec<(MessageId, String)> = load!(
            self, Pg => (BigInt, Text),
            "SELECT id, state FROM taskmq_archive WHERE id = ANY(?) ORDER BY id FOR UPDATE",
            Array<BigInt> = ids,
        )?;
        found.extend(finished);
        Ok(found.into_iter().map(|(id, state)| (id, rows::state(&state))).collect())
    }

    fn make_due(&mut self, ids: &[MessageId]) -> Result<()> {
        execute!(
            self,
            Pg,
            "UPDATE taskmq_messages SET run_at = statement_timestamp() WHERE id = ANY(?) AND run_at > statement_timestamp()",
            Array<BigInt> = ids,
        )?;
        Ok(())
    }

    fn revive(&mut self, ids: &[MessageId]) -> Result<Vec<MessageId>> {
        Ok(load!(
            self, Pg => BigInt,
            "INSERT INTO taskmq_messages (id, topic, priority, run_at, created_at, max_attempts, unique_key, ordering_key, headers, payload)
             SELECT id, topic, priority, CASE state WHEN 'cancelled' THEN greatest(run_at, statement_timestamp()) ELSE statement_timestamp() END,
                created_at, max_attempts, unique_key, ordering_key, headers, payload
             FROM taskmq_archive WHERE id = ANY(?)
             ON CONFLICT (topic, unique_key) WHERE unique_key IS NOT NULL DO NOTHING
             RETURNING id",
            Array<BigInt> = ids,
        )?)
    }

    fn archive_cancelled(&mut self, ids: &[MessageId]) -> Result<()> {
        execute!(
            self, Pg,
            "INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, claimed_at, worker_id, attempts, crashes,
                max_attempts, unique_key, ordering_key, headers, payload)
             SELECT id, topic, 'cancelled', priority, run_at, created_at, claimed_at, 0, attempts, crashes,
                max_attempts, unique_key, ordering_key, headers, payload
             FROM taskmq_messages WHERE id = ANY(?)",
            Array<BigInt> = ids,
        )?;
        Ok(())
    }

    fn forget(&mut self, ids: &[MessageId]) -> Result<()> {
        execute!(self, Pg, "DELETE FROM taskmq_failures WHERE message_id = ANY(?)", Array<BigInt> = ids)?;
        logs::delete(self, ids)?;
        payloads::delete(self, ids)
    }

    fn delete_live(&mut self, ids: &[MessageId]) -> Result<()> {
        execute!(self, Pg, "DELETE FROM taskmq_messages WHERE id = ANY(?)", Array<BigInt> = ids)?;
        Ok(())
    }

    fn delete_finished(&mut self, ids: &[MessageId]) -> Result<()> {
        execute!(self, Pg, "DELETE FROM taskmq_archive WHERE id = ANY(?)", Array<BigInt> = ids)?;
        Ok(())
    }

    fn set_priority(&mut self, ids: &[MessageId], priority: i16) -> Result<()> {
        execute!(
            self,
            Pg,
            concat!("UPDATE taskmq_messages SET priority = ?, ", out_of_line!(), " WHERE id = ANY(?)"),
            SmallInt = priority,
            Array<BigInt> = ids,
        )?;
        Ok(())
    }

    fn set_run_at(&mut self, ids: &[MessageId], at: DateTime<Utc>) -> Result<()> {
        execute!(
            self,
            Pg,
            concat!("UPDATE taskmq_messages SET run_at = greatest(?, statement_timestamp()), ", out_of_line!(), " WHERE id = ANY(?)"),
            Timestamptz = timestamp(at),
            Array<BigInt> = ids,
        )?;
        Ok(())
    }

    fn ask_to_cancel(&mut self, ids: &[MessageId]) -> Result<()> {
        execute!(
            self,
            Pg,
            "INSERT INTO taskmq_cancels (message_id) SELECT unnest(?) ON CONFLICT DO NOTHING",
            Array<BigInt> = ids,
        )?;
        Ok(())
    }

    fn asked_to_cancel(&mut self, ids: &[MessageId]) -> Result<Vec<MessageId>> {
        Ok(load!(
            self, Pg => BigInt,
            "SELECT message_id FROM taskmq_cancels WHERE message_id = ANY(?)",
            Array<BigInt> = ids,
        )?)
    }

    fn forget_cancels(&mut self, ids: &[MessageId]) -> Result<()> {
        execute!(self, Pg, "DELETE FROM taskmq_cancels WHERE message_id = ANY(?)", Array<BigInt> = ids)?;
        Ok(())
    }

    fn pass_turns(&mut self, ids: &[MessageId]) -> Result<()> {
        turns::pass_turns(self, ids)
    }
}
