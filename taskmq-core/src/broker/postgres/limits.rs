//! Limits of topics. Whoever claims within one holds the lock of its row, before any other lock.

use diesel::connection::{AnsiTransactionManager, TransactionManager};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};

use super::claim::{claim_alone_from_now, claim_each, claim_in_turn, exclude_batch_claims, unheld};
use super::rescue;
use crate::Result;
use crate::broker::limits::{LimitRow, LimitedRow, Limiting, Standing, within};
use crate::broker::{Among, Claim, Share, Within};
use crate::statement::{execute, load};

type LimitSql = (Nullable<Integer>, Nullable<Integer>, Nullable<Integer>);

impl Limiting for PgConnection {
    fn lock_limit(&mut self, topic: &str) -> Result<Option<Standing>> {
        let rows: Vec<(LimitRow, i64, i64)> = load!(
            self, Pg => (LimitSql, BigInt, BigInt),
            concat!("SELECT running, rate, per_seconds, spent_until, ", micros!("clock_timestamp()"), " FROM taskmq_limits WHERE topic = ? FOR UPDATE"),
            Text = topic,
        )?;
        Ok(rows.into_iter().map(Standing::of).next())
    }

    fn count_leased(&mut self, topic: &str) -> Result<i64> {
        let numbers: Vec<i64> = load!(
            self, Pg => BigInt,
            concat!("SELECT (SELECT count(*) FROM taskmq_messages m WHERE m.worker_id <> 0 AND m.worker_id > 0 AND m.topic = ?)
                  + (SELECT count(*) FROM taskmq_messages m
                     WHERE m.id = ANY(ARRAY(SELECT unnest(message_ids) FROM taskmq_claims)) AND m.topic = ? AND ", unheld!(), ")"),
            Text = topic,
            Text = topic,
        )?;
        Ok(numbers.first().copied().unwrap_or_default())
    }

    fn note_begun(&mut self, topic: &str, spent_until: i64, begun: i64) -> Result<()> {
        execute!(
            self,
            Pg,
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
            Pg,
            "INSERT INTO taskmq_limits (topic, running, rate, per_seconds, actor) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (topic) DO UPDATE SET running = excluded.running, rate = excluded.rate,
                per_seconds = excluded.per_seconds, begun = 0, since = clock_timestamp(), actor = excluded.actor",
            Text = topic,
            Nullable<Integer> = running,
            Nullable<Integer> = rate,
            Nullable<Integer> = per_seconds,
            Text = actor,
        )?;
        Ok(())
    }

    fn delete_limit(&mut self, topic: &str) -> Result<bool> {
        Ok(execute!(self, Pg, "DELETE FROM taskmq_limits WHERE topic = ?", Text = topic)? > 0)
    }

    fn limit_rows(&mut self) -> Result<Vec<LimitedRow>> {
        Ok(load!(
            self, Pg => (Text, LimitSql, BigInt, BigInt, Text),
            concat!("SELECT topic, running, rate, per_seconds, begun, ", micros!("since"), ", actor FROM taskmq_limits ORDER BY topic"),
        )?)
    }
}

pub(super) fn claim_limited(
    conn: &mut PgConnection,
    worker_id: i64,
    share: &Share<'_>,
    among: Among,
) -> Result<Within> {
    let topics = [share.topic];
    match among {
        Among::Ordinary => claim_ordinary(conn, worker_id, share),
        Among::Suspects => conn.transaction(|conn| {
            let take = |conn: &mut PgConnection, room| {
                Ok((rescue::claim_suspects(conn, worker_id, &topics, room)?, ()))
            };
            Ok(within(conn, share.topic, share.limit, take)?.0)
        }),
        Among::SetAside => conn.transaction(|conn| {
            let take = |conn: &mut PgConnection, _room| {
                Ok((rescue::claim_alone(conn, worker_id, &topics)?.into_iter().collect(), ()))
            };
            Ok(within(conn, share.topic, share.limit, take)?.0)
        }),
    }
}

/// Unlike other claims, these wait for the disk: after a crash of the server what they leased must still count.
fn claim_ordinary(conn: &mut PgConnection, worker_id: i64, share: &Share<'_>) -> Result<Within> {
    // In a transaction that is open for longer, two that share the claim lock would wait for each other to have it alone.
    let alone = AnsiTransactionManager::transaction_manager_status_mut(conn).transaction_depth()?.is_some();
    let (mut taken, ordered) = conn.transaction(|conn| {
        within(conn, share.topic, share.limit, |conn, room| {
            if alone {
                claim_alone_from_now(conn)?;
            } else {
                exclude_batch_claims(conn)?;
            }
            let topics = [Share { limit: room, ..*share }];
            let claim = Claim { worker_id, topics: &topics, limit: room, as_batch: false, after: &[] };
            claim_each(conn, &claim).map(|(found, ordered)| (found.claimed, ordered))
        })
    })?;
    let left = share.limit.saturating_sub(i64::try_from(taken.claimed.len()).unwrap_or(i64::MAX));
    if ordered && left > 0 {
        let (in_turn, in_line) = conn.transaction(|conn| {
            within(conn, share.topic, left, |conn, room| {
                claim_alone_from_now(conn)?;
                let topics = [Share { limit: room, ..*share }];
                let claim = Claim { worker_id, topics: &topics, limit: room, as_batch: false, after: &[] };
                claim_in_turn(conn, &claim)
            })
        })?;
        taken.claimed.extend(in_turn.claimed);
        taken = Within { in_line, reached: in_turn.reached, ..taken };
    }
    Ok(taken)
}
