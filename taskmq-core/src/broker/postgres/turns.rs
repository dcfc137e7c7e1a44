//! Messages that share an ordering key run one at a time. The row of the turn is the lock: who puts messages in its
//! line holds it until that is committed, and so does who passes the turn on.

use std::collections::HashMap;

use diesel::connection::SimpleConnection;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text};

use super::claim::unheld;
use crate::broker::Claimed;
use crate::statement::{execute, load};
use crate::{MessageId, Result};

/// Leases those of these due messages, which come in order, whose turn it is; the others join the lines of their keys,
/// and are counted. The claim lock is held: nobody else meets messages of these keys at once.
pub(super) fn take_turns(
    conn: &mut PgConnection,
    worker_id: i64,
    met: Vec<Claimed>,
) -> Result<(Vec<Claimed>, usize)> {
    if met.is_empty() {
        return Ok((met, 0));
    }
    // A claim may be taken back by a crash of the server, and then goes on running. Of such keys, others must not run.
    conn.batch_execute("SET LOCAL synchronous_commit TO DEFAULT")?;
    let mut first: HashMap<(&str, &str), MessageId> = HashMap::new();
    for message in &met {
        let key = message.ordering_key.as_deref().unwrap_or_default();
        first.entry((&message.topic, key)).or_insert(message.id);
    }
    // In one order, so that nobody waits in a circle.
    let mut first: Vec<_> = first.into_iter().collect();
    first.sort_unstable();
    let rows: Vec<(i64, String, String, MessageId)> = load!(
        conn, Pg => (BigInt, Text, Text, BigInt),
        "INSERT INTO taskmq_turns (topic, ordering_key, message_id) SELECT * FROM unnest(?, ?, ?)
         ON CONFLICT (topic, ordering_key) DO UPDATE SET message_id = taskmq_turns.message_id
         RETURNING id, topic, ordering_key, message_id",
        Array<Text> = first.iter().map(|((topic, _), _)| *topic).collect::<Vec<&str>>(),
        Array<Text> = first.iter().map(|((_, key), _)| *key).collect::<Vec<&str>>(),
        Array<BigInt> = first.iter().map(|(_, id)| *id).collect::<Vec<MessageId>>(),
    )?;
    let turns: HashMap<(&str, &str), (i64, MessageId)> =
        rows.iter().map(|(turn, topic, key, whose)| ((&**topic, &**key), (*turn, *whose))).collect();
    let turn_of = |message: &Claimed| {
        turns.get(&(&*message.topic, message.ordering_key.as_deref().unwrap_or_default())).copied()
    };
    let mut lines: (Vec<MessageId>, Vec<i64>) = Default::default();
    for message in &met {
        if let Some((turn, whose)) = turn_of(message)
            && whose != message.id
        {
            lines.0.push(message.id);
            lines.1.push(turn);
        }
    }
    let in_line = lines.0.len();
    if in_line > 0 {
        execute!(
            conn, Pg,
            concat!("UPDATE taskmq_messages m SET worker_id = -2 - line.turn FROM unnest(?, ?) line (id, turn)
             WHERE m.id = line.id AND ", unheld!()),
            Array<BigInt> = lines.0,
            Array<BigInt> = lines.1,
        )?;
    }
    let in_turn = |message: &Claimed| turn_of(message).is_some_and(|(_, whose)| whose == message.id);
    let ids: Vec<MessageId> = met.iter().filter(|m| in_turn(m)).map(|m| m.id).collect();
    let leased: Vec<MessageId> = load!(
        conn, Pg => BigInt,
        concat!("UPDATE taskmq_messages m SET worker_id = ?, attempts = attempts + 1, claimed_at = statement_timestamp()
         WHERE m.id = ANY(?) AND ", unheld!(), " RETURNING m.id"),
        BigInt = worker_id,
        Array<BigInt> = &ids,
    )?;
    if leased.len() < ids.len() {
        // A person was faster, and has cancelled or deleted them.
        let gone: Vec<MessageId> = ids.into_iter().filter(|id| !leased.contains(id)).collect();
        pass_turns(conn, &gone)?;
    }
    Ok((met.into_iter().filter(|message| leased.contains(&message.id)).collect(), in_line))
}

/// These messages live no more. If it was their turn, it is that of the next in line now.
pub(super) fn pass_turns(conn: &mut PgConnection, ended: &[MessageId]) -> Result<()> {
    if ended.is_empty() {
        return Ok(());
    }
    let turns: Vec<i64> = load!(
        conn, Pg => BigInt,
        "SELECT id FROM taskmq_turns WHERE message_id = ANY(?)
         ORDER BY topic COLLATE \"C\", ordering_key COLLATE \"C\" FOR UPDATE",
        Array<BigInt> = ended,
    )?;
    if turns.is_empty() {
        return Ok(());
    }
    // A statement of its own, which sees what has joined the line until now. SKIP LOCKED: whom a person is about to
    // change does not keep a worker waiting.
    execute!(
        conn, Pg,
        "WITH next AS MATERIALIZED (
            SELECT turn.id AS turn, first.id FROM unnest(?) turn (id) LEFT JOIN LATERAL (
                SELECT m.id FROM taskmq_messages m WHERE m.worker_id = -2 - turn.id AND m.worker_id < -2
                ORDER BY m.worker_id, m.priority DESC, m.run_at, m.id LIMIT 1 FOR UPDATE SKIP LOCKED) first ON TRUE
         ), called AS (
            UPDATE taskmq_messages m SET worker_id = 0 WHERE m.id = ANY(ARRAY(SELECT id FROM next WHERE id IS NOT NULL))
         ), passed AS (
            UPDATE taskmq_turns t SET message_id = next.id FROM next WHERE t.id = next.turn AND next.id IS NOT NULL
         )
         DELETE FROM taskmq_turns WHERE id = ANY(ARRAY(SELECT turn FROM next WHERE id IS NULL))",
        Array<BigInt> = turns,
    )?;
    Ok(())
}

/// A person with SQL can leave a turn to a message that is gone, and one who holds a message for long a line to no turn.
pub(super) fn mend_lines(conn: &mut PgConnection) -> Result<usize> {
    let gone: Vec<MessageId> = load!(
        conn, Pg => BigInt,
        "SELECT message_id FROM taskmq_turns t WHERE NOT EXISTS (SELECT 1 FROM taskmq_messages m WHERE m.id = t.message_id)"
    )?;
    pass_turns(conn, &gone)?;
    let strays = execute!(
        conn,
        Pg,
        "UPDATE taskmq_messages m SET worker_id = 0
         WHERE m.worker_id < -2 AND NOT EXISTS (SELECT 1 FROM taskmq_turns t WHERE t.id = -2 - m.worker_id)"
    )?;
    Ok(gone.len() + strays)
}
