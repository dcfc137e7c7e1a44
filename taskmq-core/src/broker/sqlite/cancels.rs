//! Running messages that people want ended.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel::sqlite::Sqlite;

use super::write_lock;
use crate::broker::{change, rows};
use crate::statement::load;
use crate::{MessageId, Result};

pub(super) fn asked_at(conn: &mut SqliteConnection, id: MessageId) -> Result<Option<DateTime<Utc>>> {
    let asked: Vec<i64> = load!(
        conn, Sqlite => BigInt,
        concat!("SELECT ", micros!("asked_at"), " FROM taskmq_cancels WHERE message_id = ?"),
        BigInt = id,
    )?;
    Ok(asked.first().copied().map(rows::time))
}

pub(super) fn take_back(conn: &mut SqliteConnection, ids: &[MessageId]) -> Result<usize> {
    write_lock::transaction(conn, |conn| change::take_back(conn, ids))
}
