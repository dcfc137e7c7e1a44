//! Messages that share an ordering key run one at a time. The row of the turn is the lock: who puts messages in its
//! line holds it until that is committed, and so does who passes the turn on.

use std::collections::{BTreeMap, HashMap, HashSet};

use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, SmallInt, Text};
use serde::Serialize;

use super::json;
use crate::broker::Claimed;
use crate::statement::{execute, load};
use crate::{MessageId, Result};

/// By topic and key, a turn and the message whose it is.
type Turns<'a> = HashMap<(&'a str, &'a str), (i64, MessageId)>;

/// A list of keys `k` as JSON: the topic, the key and, where it is needed, a message.
macro_rules! keys {
    () => {
        "JSON_TABLE(?, '$[*]' COLUMNS (place FOR ORDINALITY,
            topic VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin PATH '$[0]',
            ordering_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$[1]', id BIGINT PATH '$[2]')) k"
    };
}

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
        first.entry(key_of(message)).or_insert(message.id);
    }
    let turns = turns_of(conn, &first)?;
    let turn_of = |message: &Claimed| turns.get(&key_of(message)).copied();
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
    let mut in_turn: Vec<Claimed> = met.iter().filter(|message| in_turn(message)).cloned().collect();
    let ids: Vec<MessageId> = in_turn.iter().map(|message| message.id).collect();
    let gone = lease_ready(conn, worker_id, &ids)?;
    pass_turns(conn, &gone)?;
    in_turn.retain(|message| !gone.contains(&message.id));
    Ok((in_turn, in_line))
}

fn key_of(message: &Claimed) -> (&str, &str) {
    (&message.topic, message.ordering_key.as_deref().unwrap_or_default())
}

/// The turn of each of these keys and the message whose it is: this one, where there was none. They stay locked.
fn turns_of<'a>(
    conn: &mut MysqlConnection,
    first: &BTreeMap<(&'a str, &'a str), MessageId>,
) -> Result<Turns<'a>> {
    let mut missing: Vec<(&'a str, &'a str, MessageId)> =
        first.iter().map(|((topic, key), id)| (*topic, *key, *id)).collect();
    let mut turns = Turns::new();
    for make in [false, true] {
        if missing.is_empty() {
            break;
        }
        if make {
            // On another node of a cluster somebody can have made one meanwhile.
            execute!(
                conn,
                Mysql,
                concat!(
                    "INSERT INTO taskmq_turns (topic, ordering_key, message_id) SELECT k.topic, k.ordering_key, k.id FROM ",
                    keys!(),
                    " ON DUPLICATE KEY UPDATE taskmq_turns.message_id = taskmq_turns.message_id"
                ),
                Text = json(&missing)?,
            )?;
        }
        for (place, turn, whose) in lock_turns(conn, &missing)? {
            turns.extend(missing.get(place).map(|(topic, key, _)| ((*topic, *key), (turn, whose))));
        }
        missing.retain(|(topic, key, _)| !turns.contains_key(&(*topic, *key)));
    }
    Ok(turns)
}

/// The turns of these keys, locked: the place in the list, the turn and whose it is. By the key and then the row, as one is
/// inserted.
fn lock_turns<K: Serialize>(conn: &mut MysqlConnection, keys: &[K]) -> Result<Vec<(usize, i64, MessageId)>> {
    let rows: Vec<(i64, i64, MessageId)> = load!(
        conn, Mysql => (BigInt, BigInt, BigInt),
        concat!(
            "SELECT CAST(k.place AS SIGNED) - 1, t.id, t.message_id FROM ",
            keys!(),
            " STRAIGHT_JOIN taskmq_turns t FORCE INDEX (taskmq_turns_key)
              ON t.topic = k.topic AND t.ordering_key = k.ordering_key FOR UPDATE"
        ),
        Text = json(keys)?,
    )?;
    Ok(rows
        .into_iter()
        .filter_map(|(place, turn, whose)| Some((usize::try_from(place).ok()?, turn, whose)))
        .collect())
}

/// Leases these messages and gives those that are not ready any more: they were cancelled or deleted since they were met.
fn lease_ready(conn: &mut MysqlConnection, worker_id: i64, ids: &[MessageId]) -> Result<Vec<MessageId>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let list = json(ids)?;
    let leased = execute!(
        conn, Mysql,
        "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) turn STRAIGHT_JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = turn.id
         SET m.worker_id = ?, m.attempts = m.attempts + 1, m.claimed_at = CURRENT_TIMESTAMP(6) WHERE m.worker_id = 0",
        Text = &list,
        BigInt = worker_id,
    )?;
    if leased == ids.len() {
        return Ok(Vec::new());
    }
    let leased: HashSet<MessageId> = load!(
        conn, Mysql => BigInt,
        "SELECT m.id FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) turn
         STRAIGHT_JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = turn.id WHERE m.worker_id = ?",
        Text = &list,
        BigInt = worker_id,
    )?
    .into_iter()
    .collect();
    Ok(ids.iter().copied().filter(|id| !leased.contains(id)).collect())
}

/// These messages live no more. If it was their turn, it is that of the next in line now.
pub(super) fn pass_turns(conn: &mut MysqlConnection, ended: &[MessageId]) -> Result<()> {
    if ended.is_empty() {
        return Ok(());
    }
    let mut keys: Vec<(String, String)> = load!(
        conn, Mysql => (Text, Text),
        "SELECT t.topic, t.ordering_key FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) ended
         STRAIGHT_JOIN taskmq_turns t FORCE INDEX (taskmq_turns_message) ON t.message_id = ended.id",
        Text = json(ended)?,
    )?;
    if keys.is_empty() {
        return Ok(());
    }
    keys.sort_unstable();
    let ended: HashSet<MessageId> = ended.iter().copied().collect();
    let turns: Vec<(i64, &str)> = lock_turns(conn, &keys)?
        .into_iter()
        .filter(|(_, _, whose)| ended.contains(whose)) // else somebody else has passed it on
        .filter_map(|(place, turn, _)| Some((turn, &*keys.get(place)?.0)))
        .collect();
    let called = next_in_lines(conn, &turns)?;
    if !called.is_empty() {
        execute!(
            conn,
            Mysql,
            "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (turn BIGINT PATH '$[0]', id BIGINT PATH '$[1]')) next
             STRAIGHT_JOIN taskmq_turns t FORCE INDEX (PRIMARY) ON t.id = next.turn
             STRAIGHT_JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = next.id
             SET t.message_id = next.id, m.worker_id = 0",
            Text = json(&called.iter().collect::<Vec<_>>())?,
        )?;
    }
    let over: Vec<i64> =
        turns.iter().map(|(turn, _)| *turn).filter(|turn| !called.contains_key(turn)).collect();
    if !over.is_empty() {
        execute!(
            conn,
            Mysql,
            "DELETE t FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) over_with
             STRAIGHT_JOIN taskmq_turns t FORCE INDEX (PRIMARY) ON t.id = over_with.id",
            Text = json(&over)?,
        )?;
    }
    Ok(())
}

/// For each of these turns and its topic who comes next, locked, if anybody does. Found without locks, which is all the
/// same while the turn is held. Whom a person is about to change does not keep a worker waiting.
fn next_in_lines(conn: &mut MysqlConnection, turns: &[(i64, &str)]) -> Result<BTreeMap<i64, MessageId>> {
    if turns.is_empty() {
        return Ok(BTreeMap::new());
    }
    let first: Vec<(i64, Option<MessageId>)> = load!(
        conn, Mysql => (BigInt, Nullable<BigInt>),
        "SELECT turn.id, (
            SELECT m.id FROM taskmq_messages m FORCE INDEX (taskmq_messages_ready)
            WHERE m.worker_id = -2 - turn.id AND m.topic = turn.topic AND m.priority = (
                SELECT h.priority FROM taskmq_messages h FORCE INDEX (taskmq_messages_ready)
                WHERE h.worker_id = -2 - turn.id AND h.topic = turn.topic ORDER BY h.priority DESC LIMIT 1)
            ORDER BY m.run_at, m.id LIMIT 1)
         FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$[0]',
            topic VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin PATH '$[1]')) turn",
        Text = json(turns)?,
    )?;
    let first: Vec<(i64, MessageId)> =
        first.into_iter().filter_map(|(turn, first)| Some((turn, first?))).collect();
    if first.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut next: BTreeMap<i64, MessageId> = load!(
        conn, Mysql => (BigInt, BigInt),
        "SELECT next.turn, m.id FROM JSON_TABLE(?, '$[*]' COLUMNS (turn BIGINT PATH '$[0]', id BIGINT PATH '$[1]')) next
         STRAIGHT_JOIN taskmq_messages m FORCE INDEX (PRIMARY) ON m.id = next.id
         WHERE m.worker_id = -2 - next.turn FOR UPDATE SKIP LOCKED",
        Text = json(&first)?,
    )?
    .into_iter()
    .collect();
    let topics: HashMap<i64, &str> = turns.iter().copied().collect();
    for (turn, _) in first {
        if !next.contains_key(&turn)
            && let Some(topic) = topics.get(&turn)
            && let Some(second) = next_in_line(conn, turn, topic)?
        {
            next.insert(turn, second);
        }
    }
    Ok(next)
}

/// Past those that somebody has locked, by two steps along the index.
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

/// Whether there is anything to mend, with one statement and without locks.
pub(super) fn are_lines_broken(conn: &mut MysqlConnection) -> Result<bool> {
    let broken: Vec<i64> = load!(
        conn, Mysql => BigInt,
        "(SELECT t.id FROM taskmq_turns t LEFT JOIN taskmq_messages m ON m.id = t.message_id WHERE m.id IS NULL LIMIT 1)
         UNION ALL
         (SELECT m.id FROM taskmq_messages m FORCE INDEX (taskmq_messages_ready) LEFT JOIN taskmq_turns t ON t.id = -2 - m.worker_id
          WHERE m.worker_id < -2 AND t.id IS NULL LIMIT 1)"
    )?;
    Ok(!broken.is_empty())
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
