//! Large payloads.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::Sqlite;

use super::json_list;
use crate::statement::{execute, load};
use crate::{MessageId, Result};

/// One by one: to write large texts as JSON within JSON takes longer.
pub(super) fn insert(conn: &mut SqliteConnection, payloads: &[(MessageId, &str)]) -> Result<()> {
    for (id, payload) in payloads {
        execute!(
            conn,
            Sqlite,
            "INSERT INTO taskmq_payloads (id, payload) VALUES (?, ?)",
            BigInt = id,
            Text = payload,
        )?;
    }
    Ok(())
}

pub(super) fn of(conn: &mut SqliteConnection, ids: &[MessageId]) -> Result<HashMap<MessageId, String>> {
    let found: Vec<(MessageId, String)> = load!(
        conn, Sqlite => (BigInt, Text),
        "SELECT p.id, p.payload FROM json_each(?) wanted CROSS JOIN taskmq_payloads p ON p.id = wanted.value",
        Text = json_list(ids)?,
    )?;
    Ok(found.into_iter().collect())
}

/// Of these messages, a list in JSON.
pub(super) fn delete(conn: &mut SqliteConnection, ids: &str) -> Result<()> {
    execute!(
        conn,
        Sqlite,
        "DELETE FROM taskmq_payloads WHERE id IN (SELECT value FROM json_each(?))",
        Text = ids
    )?;
    Ok(())
}
