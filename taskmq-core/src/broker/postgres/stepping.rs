//! Workflows.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, SmallInt, Text};

use crate::broker::stepping::stepping;
use crate::statement::{execute, load};
use crate::{MessageId, Result};

stepping!(
    PgConnection, Pg,
    now: "statement_timestamp()",
    purge_now: "statement_timestamp()",
    kept_until: "statement_timestamp() + keep_seconds * interval '1 second'",
    micros: micros,
    lock: " FOR UPDATE",
    insert_workflow: insert_workflow,
);

fn insert_workflow(conn: &mut PgConnection, name: &str, keep: Option<i64>, steps: i32) -> Result<i64> {
    let id = load!(
        conn, Pg => BigInt,
        "INSERT INTO taskmq_workflows (name, keep_seconds, steps, open_steps) VALUES (?, ?, ?, ?) RETURNING id",
        Text = name,
        Nullable<BigInt> = keep,
        Integer = steps,
        Integer = steps,
    )?;
    id.first().copied().ok_or_else(|| diesel::result::Error::NotFound.into())
}
