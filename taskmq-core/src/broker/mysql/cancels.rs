//! Running messages that people want ended.

use chrono::{DateTime, Utc};
use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::connection::without_patience;
use crate::broker::{change, rows};
use crate::statement::load;
use crate::{MessageId, Result};

/// Whether there is any such message.
pub(super) fn exist(conn: &mut MysqlConnection) -> Result<bool> {
    let any: Vec<i64> = load!(conn, Mysql => BigInt, "SELECT message_id FROM taskmq_cancels LIMIT 1")?;
    Ok(!any.is_empty())
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
