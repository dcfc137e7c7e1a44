//! Running messages that people want ended.

use chrono::{DateTime, Utc};
use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::admin::listed;
use super::connection::without_patience;
use super::json;
use crate::broker::{change, rows};
use crate::statement::{execute, load};
use crate::{MessageId, Result};

pub(super) fn ask(conn: &mut MysqlConnection, ids: &[MessageId]) -> Result<()> {
    execute!(
        conn,
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

/// Whether there is any such message.
pub(super) fn exist(conn: &mut MysqlConnection) -> Result<bool> {
    let any: Vec<i64> = load!(conn, Mysql => BigInt, "SELECT message_id FROM taskmq_cancels LIMIT 1")?;
    Ok(!any.is_empty())
}

pub(super) fn asked(conn: &mut MysqlConnection, ids: &[MessageId]) -> Result<Vec<MessageId>> {
    Ok(load!(
        conn, Mysql => BigInt,
        concat!(
            "SELECT c.message_id FROM ",
            listed!(),
            " STRAIGHT_JOIN taskmq_cancels c FORCE INDEX (PRIMARY) ON c.message_id = listed.id"
        ),
        Text = json(ids)?,
    )?)
}

pub(super) fn forget(conn: &mut MysqlConnection, ids: &[MessageId]) -> Result<()> {
    execute!(
        conn,
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

pub(super) fn asked_at(conn: &mut MysqlConnection, id: MessageId) -> Result<Option<DateTime<Utc>>> {
    let asked: Vec<i64> = load!(
        conn, Mysql => BigInt,
        concat!("SELECT ", micros!("asked_at"), " FROM taskmq_cancels WHERE message_id = ?"),
        BigInt = id,
    )?;
    Ok(asked.first().copied().map(rows::time))
}

/// Waits for no lock for longer than a moment.
pub(super) fn take_back(conn: &mut MysqlConnection, ids: &[MessageId]) -> Result<usize> {
    without_patience(conn, |conn| conn.transaction(|conn| change::take_back(conn, ids)))
}
