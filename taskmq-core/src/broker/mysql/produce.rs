//! Storing messages, one or many.

use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, SmallInt, Text};

use super::{json, last_id};
use crate::broker::alike;
use crate::produce::MessageRecord;
use crate::statement::{execute, load};
use crate::{MessageId, Produced, Result};

/// So much of messages goes into one statement. Written as JSON it may be twice that, and the least that servers
/// take as shipped is 16 MiB.
const PIECE_BYTES: usize = 6 * 1024 * 1024;
/// What a message without payload and headers takes at most.
const MESSAGE_BYTES: usize = 600;

/// So many messages whose ids are to be known go into one statement,
const ROWS: usize = 200;
/// each with this row.
const ROW: &str = "(?, ?, IF(? = 0, CURRENT_TIMESTAMP(6), FROM_UNIXTIME(UNIX_TIMESTAMP(CURRENT_TIMESTAMP(6)) + ? / 1000000)), ?, ?, ?, ?)";

/// The rest of the statement that stores many messages, given as a JSON array. Without a character set its texts would
/// go through that of the database, which may be latin1.
macro_rules! many {
    () => {
        "taskmq_messages (topic, priority, run_at, max_attempts, unique_key, ordering_key, headers, payload)
         SELECT topic, priority,
                IF(delay_micros = 0, CURRENT_TIMESTAMP(6), FROM_UNIXTIME(UNIX_TIMESTAMP(CURRENT_TIMESTAMP(6)) + delay_micros / 1000000)),
                max_attempts, unique_key, ordering_key, headers, payload
         FROM JSON_TABLE(?, '$[*]' COLUMNS (
            topic VARCHAR(100) PATH '$.topic', priority SMALLINT PATH '$.priority', delay_micros BIGINT PATH '$.delay_micros',
            max_attempts SMALLINT PATH '$.max_attempts', unique_key VARCHAR(255) CHARACTER SET utf8mb4 PATH '$.unique_key',
            ordering_key VARCHAR(255) CHARACTER SET utf8mb4 PATH '$.ordering_key',
            headers LONGTEXT CHARACTER SET utf8mb4 PATH '$.headers', payload LONGTEXT CHARACTER SET utf8mb4 PATH '$.payload')) m"
    };
}

pub(super) fn produce_one(conn: &mut MysqlConnection, message: &MessageRecord) -> Result<Produced> {
    // The other message can end between the two statements; then this one is stored after all.
    loop {
        // Adding to the Unix time and not to the session's local time: a summer-time change would shift the delay.
        let stored = execute!(
            conn, Mysql,
            "INSERT INTO taskmq_messages (topic, priority, run_at, max_attempts, unique_key, ordering_key, headers, payload)
             VALUES (?, ?, IF(? = 0, CURRENT_TIMESTAMP(6), FROM_UNIXTIME(UNIX_TIMESTAMP(CURRENT_TIMESTAMP(6)) + ? / 1000000)), ?, ?, ?, ?, ?)",
            Text = &message.topic,
            SmallInt = message.priority,
            BigInt = message.delay_micros,
            BigInt = message.delay_micros,
            Nullable<SmallInt> = message.max_attempts,
            Nullable<Text> = message.unique_key.as_deref(),
            Nullable<Text> = message.ordering_key.as_deref(),
            Nullable<Text> = message.headers.as_deref(),
            Text = &message.payload,
        );
        match stored {
            Ok(_) => return Ok(Produced::New(last_id(conn)?)),
            Err(diesel::result::Error::DatabaseError(
                diesel::result::DatabaseErrorKind::UniqueViolation,
                _,
            )) if message.unique_key.is_some() => {}
            Err(error) => return Err(error.into()),
        }
        let existing: Vec<i64> = load!(
            conn, Mysql => BigInt,
            // A locking read sees what is committed, however old the snapshot of the host's transaction is.
            "SELECT id FROM taskmq_messages WHERE topic = ? AND unique_key = ? LOCK IN SHARE MODE",
            Text = &message.topic,
            Nullable<Text> = message.unique_key.as_deref(),
        )?;
        if let Some(id) = existing.first() {
            return Ok(Produced::Existing(*id));
        }
    }
}

/// All or none, in as many statements as it takes: a server drops a connection that sends it more than its
/// `max_allowed_packet`.
pub(super) fn produce_all(conn: &mut MysqlConnection, messages: &[MessageRecord]) -> Result<usize> {
    match pieces(messages)[..] {
        [all] => produce_piece(conn, all),
        ref pieces => conn.transaction(|conn| pieces.iter().map(|piece| produce_piece(conn, piece)).sum()),
    }
}

/// As [`produce_all`], of messages without unique keys, and gives their ids in the same order. "Simple inserts" get ids that
/// follow each other unless `innodb_autoinc_lock_mode` is 2, as on Galera and as MySQL 8 ships (MySQL Reference Manual,
/// "AUTO_INCREMENT Handling in InnoDB").
pub(super) fn produce_each(conn: &mut MysqlConnection, messages: &[MessageRecord]) -> Result<Vec<MessageId>> {
    let one_by_one = messages.len() == 1 || {
        let mode: Vec<i64> =
            load!(conn, Mysql => BigInt, "SELECT CAST(@@innodb_autoinc_lock_mode AS SIGNED)")?;
        mode.first().is_none_or(|mode| *mode > 1)
    };
    if one_by_one {
        return messages.iter().map(|message| Ok(produce_one(conn, message)?.id())).collect();
    }
    let mut ids = Vec::with_capacity(messages.len());
    for piece in pieces(messages).into_iter().flat_map(|piece| piece.chunks(ROWS)) {
        let rows = vec![ROW; piece.len()].join(", ");
        let mut insert = diesel::sql_query(format!(
            "INSERT INTO taskmq_messages (topic, priority, run_at, max_attempts, ordering_key, headers, payload) VALUES {rows}"
        ))
        .into_boxed::<Mysql>();
        for message in piece {
            insert = insert
                .bind::<Text, _>(&message.topic)
                .bind::<SmallInt, _>(message.priority)
                .bind::<BigInt, _>(message.delay_micros)
                .bind::<BigInt, _>(message.delay_micros)
                .bind::<Nullable<SmallInt>, _>(message.max_attempts)
                .bind::<Nullable<Text>, _>(message.ordering_key.as_deref())
                .bind::<Nullable<Text>, _>(message.headers.as_deref())
                .bind::<Text, _>(&message.payload);
        }
        insert.execute(conn)?;
        let first = last_id(conn)?;
        let step: Vec<i64> =
            load!(conn, Mysql => BigInt, "SELECT CAST(@@auto_increment_increment AS SIGNED)")?;
        let step = step.first().copied().unwrap_or(1);
        ids.extend(piece.iter().scan(first, |next, _| Some(std::mem::replace(next, *next + step))));
    }
    Ok(ids)
}

/// Of so many bytes at most, or of one message.
fn pieces(messages: &[MessageRecord]) -> Vec<&[MessageRecord]> {
    let mut pieces = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for (at, message) in messages.iter().enumerate() {
        let own = MESSAGE_BYTES + message.payload.len() + message.headers.as_ref().map_or(0, String::len);
        if at > begin && bytes + own > PIECE_BYTES {
            pieces.push(&messages[begin..at]);
            (begin, bytes) = (at, 0);
        }
        bytes += own;
    }
    pieces.push(&messages[begin..]);
    pieces
}

fn produce_piece(conn: &mut MysqlConnection, messages: &[MessageRecord]) -> Result<usize> {
    // A large one is not written as JSON within JSON, which could double it.
    if let [one] = messages {
        return Ok(usize::from(matches!(produce_one(conn, one)?, Produced::New(_))));
    }
    if let Some((first, payloads)) = alike(messages) {
        return Ok(execute!(
            conn, Mysql,
            "INSERT INTO taskmq_messages (topic, priority, run_at, max_attempts, payload)
             SELECT ?, ?, IF(? = 0, CURRENT_TIMESTAMP(6), FROM_UNIXTIME(UNIX_TIMESTAMP(CURRENT_TIMESTAMP(6)) + ? / 1000000)), ?, payload
             FROM JSON_TABLE(?, '$[*]' COLUMNS (payload LONGTEXT CHARACTER SET utf8mb4 PATH '$')) m",
            Text = &first.topic,
            SmallInt = first.priority,
            BigInt = first.delay_micros,
            BigInt = first.delay_micros,
            Nullable<SmallInt> = first.max_attempts,
            Text = json(&payloads)?,
        )?);
    }
    let records = json(messages)?;
    // IGNORE swallows more errors than that of a taken key, so it is only there where there are keys; all else
    // that it could swallow was checked before.
    Ok(if messages.iter().any(|m| m.unique_key.is_some()) {
        execute!(conn, Mysql, concat!("INSERT IGNORE INTO ", many!()), Text = records)?
    } else {
        execute!(conn, Mysql, concat!("INSERT INTO ", many!()), Text = records)?
    })
}
