//! Large payloads.

use std::collections::HashMap;

use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::json;
use crate::statement::{execute, load};
use crate::{MessageId, Result};

/// Payloads of more bytes go one by one: to write large texts as JSON within JSON takes longer.
const ALONE: usize = 16 * 1024;
/// So many others go into one statement, which JSON makes twice as long at most: a server takes 16 MiB as shipped.
const TOGETHER: usize = 6 * 1024 * 1024 / ALONE;

pub(super) fn insert(conn: &mut MysqlConnection, payloads: &[(MessageId, &str)]) -> Result<()> {
    let (alone, together): (Vec<_>, Vec<_>) =
        payloads.iter().partition(|(_, payload)| payloads.len() == 1 || payload.len() > ALONE);
    for piece in together.chunks(TOGETHER) {
        execute!(
            conn,
            Mysql,
            "INSERT INTO taskmq_payloads (id, payload)
             SELECT id, payload FROM JSON_TABLE(?, '$[*]' COLUMNS (
                id BIGINT PATH '$[0]', payload LONGTEXT CHARACTER SET utf8mb4 PATH '$[1]')) p",
            Text = json(piece)?,
        )?;
    }
    for (id, payload) in alone {
        execute!(
            conn,
            Mysql,
            "INSERT INTO taskmq_payloads (id, payload) VALUES (?, ?)",
            BigInt = id,
            Text = payload,
        )?;
    }
    Ok(())
}

pub(super) fn of(conn: &mut MysqlConnection, ids: &[MessageId]) -> Result<HashMap<MessageId, String>> {
    let found: Vec<(MessageId, String)> = load!(
        conn, Mysql => (BigInt, Text),
        "SELECT p.id, p.payload FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) wanted
         STRAIGHT_JOIN taskmq_payloads p FORCE INDEX (PRIMARY) ON p.id = wanted.id",
        Text = json(ids)?,
    )?;
    Ok(found.into_iter().collect())
}

/// Of the messages in this list.
pub(super) fn delete(conn: &mut MysqlConnection, ids: &str) -> Result<()> {
    execute!(
        conn,
        Mysql,
        "DELETE p FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) gone
         STRAIGHT_JOIN taskmq_payloads p FORCE INDEX (PRIMARY) ON p.id = gone.id",
        Text = ids,
    )?;
    Ok(())
}
