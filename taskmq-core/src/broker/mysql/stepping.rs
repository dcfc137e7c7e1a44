//! Workflows.

use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, SmallInt, Text};

use super::last_id;
use crate::broker::stepping::stepping;
use crate::statement::{execute, load};
use crate::{MessageId, Result};

stepping!(
    MysqlConnection, Mysql,
    now: "CURRENT_TIMESTAMP(6)",
    purge_now: "UTC_TIMESTAMP(6)",
    kept_until: "UTC_TIMESTAMP(6) + INTERVAL keep_seconds SECOND",
    micros: micros,
    lock: " FOR UPDATE",
    insert_workflow: insert_workflow,
);

fn insert_workflow(conn: &mut MysqlConnection, name: &str, keep: Option<i64>, steps: i32) -> Result<i64> {
    execute!(
        conn,
        Mysql,
        "INSERT INTO taskmq_workflows (name, keep_seconds, steps, open_steps) VALUES (?, ?, ?, ?)",
        Text = name,
        Nullable<BigInt> = keep,
        Integer = steps,
        Integer = steps,
    )?;
    last_id(conn)
}
