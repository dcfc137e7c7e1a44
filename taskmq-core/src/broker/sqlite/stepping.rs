//! Workflows.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, SmallInt, Text};
use diesel::sqlite::Sqlite;

use crate::broker::stepping::stepping;
use crate::statement::{execute, load};
use crate::{MessageId, Result};

stepping!(
    SqliteConnection, Sqlite,
    now: "strftime('%Y-%m-%d %H:%M:%f', 'now')",
    purge_now: "strftime('%Y-%m-%d %H:%M:%f', 'now')",
    kept_until: "strftime('%Y-%m-%d %H:%M:%f', 'now', keep_seconds || ' seconds')",
    micros: micros,
    lock: "",
    insert_workflow: insert_workflow,
);

fn insert_workflow(conn: &mut SqliteConnection, name: &str, keep: Option<i64>, steps: i32) -> Result<i64> {
    let id = load!(
        conn, Sqlite => BigInt,
        "INSERT INTO taskmq_workflows (name, keep_seconds, steps, open_steps) VALUES (?, ?, ?, ?) RETURNING id",
        Text = name,
        Nullable<BigInt> = keep,
        Integer = steps,
        Integer = steps,
    )?;
    id.first().copied().ok_or_else(|| diesel::result::Error::NotFound.into())
}
