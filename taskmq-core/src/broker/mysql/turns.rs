//! Messages that share an ordering key run one at a time. The row of the turn is the lock: who puts messages in its
//! line holds it until that is committed, and so does who passes the turn on.

use std::collections::{BTreeMap, HashMap};

use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, SmallInt, Text};

use super::claim::lease;
use super::json;
use crate::broker::Claimed;
use crate::statement::{execute, load};
use crate::{MessageId, Result};

/// Leases those of these due messages, which come in order, whose turn it is; the others join the lines of their keys,
/// and are counted. The claim lock is held: nobody else meets messages of these keys at once.
pub(super) fn take_turns(
    conn: &mut MysqlConnection,
    worker_id: i64,
    met: Vec<Claimed>,
) -> Result<(Vec<Claimed>, usize)> {
    if met.is_empty() {
        return Ok((met, 0));
    }
    // Sorted: who locks in one order does not wait in a circle.
    let mut first: BTreeMap<(&str, &str), MessageId> = BTreeMap::new();
    for message in &met {
        let key = message.ordering_key.as_deref().unwrap_or_default();
        first.entry((&message.topic, key)).or_insert(message.id);
    }
    let mut turns: HashMap<(&str, &str), (i64, MessageId)> = HashMap::new();
    for ((topic, key), id) in first {
        // It locks the row, be it there or not, and so what is read then stays.
        execute!(
            conn,
            Mysql,
            "INSERT INTO taskmq_turns (topic, ordering_key, message_id) VALUES (?, ?, ?)
             ON DUPLICATE KEY UPDATE message_id = message_id",
            Text = topic,
            Text = key,
            BigInt = id,
        )?;
        let found: Vec<(i64, MessageId)> = load!(
            conn, Mysql => (BigInt, BigInt),
            "SELECT id, message_id FROM taskmq_turns WHERE topic = ? AND ordering_key = ? FOR UPDATE",
            Text = topic,
            Text = key,
        )?;
        turns.extend(found.first().map(|turn| ((topic, key), *turn)));
    }
    let turn_of = |message: &Claimed| {
        turns.get(&(&*message.topic, message.ordering_key.as_deref().unwrap_or_default())).copied()
    };
    let in_turn = |message: &Claimed| turn_of(message).is_some_and(|(_, whose)| whose == message.id);
    let lines: Vec<(MessageId, i64)> = met
        .iter()
        .filter(|message| !in_turn(message))
        .filter_map(|message| Some((message.id, turn_of(message)?.0)))
        .collect();
    let in_line = lines.len();
    if in_line > 0 {
        execute!(
            conn, Mysql,
            "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$[0]', turn BIGINT PATH '$[1]')) line
             STRAIGHT_JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = line.id SET m.worker_id = -2 - line.turn WHERE m.worker_id = 0",
            Text = json(&lines)?,
        )?;
    }
    // Who is not ready any more was cancelled or deleted since it was met.
    let ids: Vec<MessageId> = met.iter().filter(|m| in_turn(m)).map(|m| m.id).collect();
    let ready: Vec<MessageId> = load!(
        conn, Mysql => BigInt,
        "SELECT m.id FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) turn
         STRAIGHT_JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = turn.id WHERE m.worker_id = 0 FOR UPDATE",
        Text = json(&ids)?,
    )?;
    if ready.len() < ids.len() {
        let gone: Vec<MessageId> = ids.into_iter().filter(|id| !ready.contains(id)).collect();
        pass_turns(conn, &gone)?;
    }
    let leased = met.into_iter().filter(|message| ready.contains(&message.id)).collect();
    Ok((lease(conn, worker_id, leased)?, in_line))
}

/// These messages live no more. If it was their turn, it is that of the next in line now.
pub(super) fn pass_turns(conn: &mut MysqlConnection, ended: &[MessageId]) -> Result<()> {
    if ended.is_empty() {
        return Ok(());
    }
    let mut turns: Vec<(String, String, i64)> = load!(
        conn, Mysql => (Text, Text, BigInt),
        "SELECT t.topic, t.ordering_key, t.id FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) ended
         STRAIGHT_JOIN taskmq_turns t FORCE INDEX (taskmq_turns_message) ON t.message_id = ended.id",
        Text = json(ended)?,
    )?;
    turns.sort_unstable();
    for (topic, _, turn) in turns {
        let whose: Vec<MessageId> = load!(
            conn, Mysql => BigInt,
            "SELECT message_id FROM taskmq_turns WHERE id = ? FOR UPDATE",
            BigInt = turn,
        )?;
        if !whose.iter().any(|id| ended.contains(id)) {
            continue; // somebody else has passed it on
        }
        match next_in_line(conn, turn, &topic)? {
            Some(next) => {
                execute!(
                    conn,
                    Mysql,
                    "UPDATE taskmq_messages SET worker_id = 0 WHERE id = ?",
                    BigInt = next
                )?;
                execute!(
                    conn,
                    Mysql,
                    "UPDATE taskmq_turns SET message_id = ? WHERE id = ?",
                    BigInt = next,
                    BigInt = turn,
                )?;
            }
            None => {
                execute!(conn, Mysql, "DELETE FROM taskmq_turns WHERE id = ?", BigInt = turn)?;
            }
        }
    }
    Ok(())
}

/// By two steps along the index. SKIP LOCKED: whom a person is about to change does not keep a worker waiting.
fn next_in_line(conn: &mut MysqlConnection, turn: i64, topic: &str) -> Result<Option<MessageId>> {
    let highest: Vec<i16> = load!(
        conn, Mysql => SmallInt,
        "SELECT priority FROM taskmq_messages FORCE INDEX (taskmq_messages_ready)
         WHERE worker_id = -2 - ? AND topic = ? ORDER BY priority DESC LIMIT 1",
        BigInt = turn,
        Text = topic,
    )?;
    let Some(highest) = highest.first() else { return Ok(None) };
    let next: Vec<MessageId> = load!(
        conn, Mysql => BigInt,
        "SELECT id FROM taskmq_messages FORCE INDEX (taskmq_messages_ready)
         WHERE worker_id = -2 - ? AND topic = ? AND priority = ? ORDER BY run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED",
        BigInt = turn,
        Text = topic,
        SmallInt = *highest,
    )?;
    Ok(next.first().copied())
}

/// A person with SQL can leave a turn to a message that is gone, and one who holds a message for long a line to no turn.
pub(super) fn mend_lines(conn: &mut MysqlConnection) -> Result<usize> {
    let gone: Vec<MessageId> = load!(
        conn, Mysql => BigInt,
        "SELECT t.message_id FROM taskmq_turns t LEFT JOIN taskmq_messages m ON m.id = t.message_id WHERE m.id IS NULL"
    )?;
    pass_turns(conn, &gone)?;
    // Found without locks: who calls up the next in line goes past those that are locked.
    let strays: Vec<MessageId> = load!(
        conn, Mysql => BigInt,
        "SELECT m.id FROM taskmq_messages m FORCE INDEX (taskmq_messages_ready) LEFT JOIN taskmq_turns t ON t.id = -2 - m.worker_id
         WHERE m.worker_id < -2 AND t.id IS NULL"
    )?;
    if strays.is_empty() {
        return Ok(gone.len());
    }
    let mended = execute!(
        conn, Mysql,
        "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) stray STRAIGHT_JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = stray.id
         LEFT JOIN taskmq_turns t ON t.id = -2 - m.worker_id SET m.worker_id = 0 WHERE m.worker_id < -2 AND t.id IS NULL",
        Text = json(&strays)?,
    )?;
    Ok(gone.len() + mended)
}
