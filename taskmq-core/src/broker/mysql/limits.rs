//! Limits of topics. Whoever claims within one holds the lock of its row, before any other lock; and writes that row, for
//! where there are several nodes only what both write keeps two from claiming at once.

use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};

use super::claim::{claim_in, claim_in_turn, row_count};
use super::{rescue, transaction};
use crate::Result;
use crate::broker::limits::{LimitRow, LimitedRow, Limiting, Standing, within};
use crate::broker::{Among, Claim, Share, Within};
use crate::statement::{execute, load};

type LimitSql = (Nullable<Integer>, Nullable<Integer>, Nullable<Integer>);

impl Limiting for MysqlConnection {
    fn lock_limit(&mut self, topic: &str) -> Result<Option<Standing>> {
        let rows: Vec<(LimitRow, i64, i64)> = load!(
            self, Mysql => (LimitSql, BigInt, BigInt),
            concat!("SELECT running, rate, per_seconds, spent_until, ", micros!("CURRENT_TIMESTAMP(6)"), " FROM taskmq_limits WHERE topic = ? FOR UPDATE"),
            Text = topic,
        )?;
        Ok(rows.into_iter().map(Standing::of).next())
    }

    fn count_leased(&mut self, topic: &str) -> Result<i64> {
        let numbers: Vec<i64> = load!(
            self, Mysql => BigInt,
            "SELECT (SELECT count(*) FROM taskmq_messages FORCE INDEX (taskmq_messages_ready) WHERE worker_id > 0 AND topic = ?)
                  + (SELECT count(*) FROM taskmq_claims c
                     STRAIGHT_JOIN JSON_TABLE(c.message_ids, '$[*]' COLUMNS (id BIGINT PATH '$')) member
                     STRAIGHT_JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = member.id WHERE m.topic = ? AND m.worker_id = 0)",
            Text = topic,
            Text = topic,
        )?;
        Ok(numbers.first().copied().unwrap_or_default())
    }

    fn note_begun(&mut self, topic: &str, spent_until: i64, begun: i64) -> Result<()> {
        execute!(
            self,
            Mysql,
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
            Mysql,
            "INSERT INTO taskmq_limits (topic, running, rate, per_seconds, actor) VALUES (?, ?, ?, ?, ?)
             ON DUPLICATE KEY UPDATE running = VALUES(running), rate = VALUES(rate), per_seconds = VALUES(per_seconds),
                begun = 0, since = CURRENT_TIMESTAMP(6), actor = VALUES(actor)",
            Text = topic,
            Nullable<Integer> = running,
            Nullable<Integer> = rate,
            Nullable<Integer> = per_seconds,
            Text = actor,
        )?;
        Ok(())
    }

    fn delete_limit(&mut self, topic: &str) -> Result<bool> {
        // There is none of another topic, and the server cannot compare it.
        Ok(topic.is_ascii()
            && execute!(self, Mysql, "DELETE FROM taskmq_limits WHERE topic = ?", Text = topic)? > 0)
    }

    fn limit_rows(&mut self) -> Result<Vec<LimitedRow>> {
        Ok(load!(
            self, Mysql => (Text, LimitSql, BigInt, BigInt, Text),
            concat!("SELECT topic, running, rate, per_seconds, begun, ", micros!("since"), ", actor FROM taskmq_limits ORDER BY topic"),
        )?)
    }
}

pub(super) fn claim_limited(
    conn: &mut MysqlConnection,
    worker_id: i64,
    share: &Share<'_>,
    among: Among,
) -> Result<Within> {
    let topics = [share.topic];
    match among {
        Among::Ordinary => claim_ordinary(conn, worker_id, share),
        Among::Suspects => transaction(conn, |conn| {
            let take = |conn: &mut MysqlConnection, room| {
                Ok((rescue::claim_suspects_in(conn, worker_id, &topics, room)?, ()))
            };
            Ok(within(conn, share.topic, share.limit, take)?.0)
        }),
        Among::SetAside => transaction(conn, |conn| {
            let take = |conn: &mut MysqlConnection, _room| {
                Ok((rescue::claim_alone_in(conn, worker_id, &topics)?.into_iter().collect(), ()))
            };
            Ok(within(conn, share.topic, share.limit, take)?.0)
        }),
    }
}

fn claim_ordinary(conn: &mut MysqlConnection, worker_id: i64, share: &Share<'_>) -> Result<Within> {
    let (mut taken, ordered) = transaction(conn, |conn| {
        within(conn, share.topic, share.limit, |conn, room| {
            let topics = [Share { limit: room, ..*share }];
            let claim = Claim { worker_id, topics: &topics, limit: room, as_batch: false, after: &[] };
            let taken = claim_in(conn, &claim)?;
            Ok((taken.claimed, taken.ordered))
        })
    })?;
    let left = share.limit.saturating_sub(row_count(taken.claimed.len()));
    if ordered && left > 0 {
        let (in_turn, in_line) = transaction(conn, |conn| {
            within(conn, share.topic, left, |conn, room| {
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
