//! Limits of topics. The write lock is held, so nobody else claims at once.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use diesel::sqlite::Sqlite;

use super::claim::claim_in;
use super::{rescue, write_lock};
use crate::Result;
use crate::broker::limits::{LimitRow, LimitedRow, Limiting, Standing, within};
use crate::broker::{Among, Claim, Share, Within};
use crate::statement::{execute, load};

type LimitSql = (Nullable<Integer>, Nullable<Integer>, Nullable<Integer>);

impl Limiting for SqliteConnection {
    fn lock_limit(&mut self, topic: &str) -> Result<Option<Standing>> {
        let rows: Vec<(LimitRow, i64, i64)> = load!(
            self, Sqlite => (LimitSql, BigInt, BigInt),
            concat!("SELECT running, rate, per_seconds, spent_until, ", micros!("'now'"), " FROM taskmq_limits WHERE topic = ?"),
            Text = topic,
        )?;
        Ok(rows.into_iter().map(Standing::of).next())
    }

    fn count_leased(&mut self, topic: &str) -> Result<i64> {
        let numbers: Vec<i64> = load!(
            self, Sqlite => BigInt,
            "SELECT (SELECT count(*) FROM taskmq_messages WHERE worker_id <> 0 AND worker_id > 0 AND topic = ?)
                  + (SELECT count(*) FROM taskmq_claims c, json_each(c.message_ids) member
                     JOIN taskmq_messages m ON m.id = CAST(member.value AS INTEGER) WHERE m.topic = ? AND +m.worker_id = 0)",
            Text = topic,
            Text = topic,
        )?;
        Ok(numbers.first().copied().unwrap_or_default())
    }

    fn note_begun(&mut self, topic: &str, spent_until: i64, begun: i64) -> Result<()> {
        execute!(
            self,
            Sqlite,
            "UPDATE taskmq_limits SET spent_until = ?, begun = begun + ? WHERE topic = ?",
            BigInt = spent_until,
            BigInt = begun,
            Text = topic,
        )?;
        Ok(())
    }

    fn put_limit(&mut self, topic: &str, (running, rate, per_seconds): LimitRow, actor: &str) -> Result<()> {
        execute!(
            self,
            Sqlite,
            concat!(
                "INSERT INTO taskmq_limits (topic, running, rate, per_seconds, actor) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT (topic) DO UPDATE SET running = excluded.running, rate = excluded.rate,
                    per_seconds = excluded.per_seconds, begun = 0, since = ",
                now!(),
                ", actor = excluded.actor"
            ),
            Text = topic,
            Nullable<Integer> = running,
            Nullable<Integer> = rate,
            Nullable<Integer> = per_seconds,
            Text = actor,
        )?;
        Ok(())
    }

    fn delete_limit(&mut self, topic: &str) -> Result<bool> {
        Ok(execute!(self, Sqlite, "DELETE FROM taskmq_limits WHERE topic = ?", Text = topic)? > 0)
    }

    fn limit_rows(&mut self) -> Result<Vec<LimitedRow>> {
        Ok(load!(
            self, Sqlite => (Text, LimitSql, BigInt, BigInt, Text),
            concat!("SELECT topic, running, rate, per_seconds, begun, ", micros!("since"), ", actor FROM taskmq_limits ORDER BY topic"),
        )?)
    }
}

pub(super) fn claim_limited(
    conn: &mut SqliteConnection,
    worker_id: i64,
    share: &Share<'_>,
    among: Among,
) -> Result<Within> {
    write_lock::transaction(conn, |conn| {
        let (taken, in_line) = within(conn, share.topic, share.limit, |conn, room| match among {
            Among::Ordinary => {
                let topics = [Share { limit: room, ..*share }];
                claim_in(
                    conn,
                    &Claim { worker_id, topics: &topics, limit: room, as_batch: false, after: &[] },
                )
            }
            Among::Suspects => Ok((rescue::claim_suspects_in(conn, worker_id, &[share.topic], room)?, 0)),
            Among::SetAside => {
                let alone = rescue::claim_alone_in(conn, worker_id, &[share.topic])?;
                Ok((alone.into_iter().collect(), 0))
            }
        })?;
        Ok(Within { in_line, ..taken })
    })
}
