//! Figures of the file.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::Sqlite;

use super::{file_of, library_version};
use crate::Result;
use crate::broker::diagnosis::{Figures, ServerFigures, SqliteFigures, stray_payloads};
use crate::statement::load;

const INDEXES: [&str; 13] = [
    "taskmq_messages_ready",
    "taskmq_messages_held",
    "taskmq_messages_in_line",
    "taskmq_messages_unique",
    "taskmq_archive_finished",
    "taskmq_failures_message",
    "taskmq_logs_message",
    "taskmq_turns_key",
    "taskmq_turns_message",
    "taskmq_schedules_next",
    "taskmq_workflows_finished",
    "taskmq_workflows_purge",
    "taskmq_steps_message",
];

pub(super) fn diagnose(conn: &mut SqliteConnection) -> Result<Figures> {
    let indexes: Vec<String> = load!(
        conn, Sqlite => Text,
        "SELECT name FROM sqlite_schema WHERE type = 'index' AND name GLOB 'taskmq_*'",
    )?;
    let journal: Vec<String> = load!(conn, Sqlite => Text, "PRAGMA journal_mode")?;
    let mut problems: Vec<String> = load!(conn, Sqlite => Text, "PRAGMA quick_check(20)")?;
    problems.retain(|problem| problem != "ok");
    let server = SqliteFigures {
        version: library_version(conn)?,
        journal_mode: journal.into_iter().next().unwrap_or_default(),
        file: file_of(conn)?,
        problems,
    };
    let found = indexes.into_iter().map(|name| (name, true)).collect();
    let strays: Vec<i64> = load!(conn, Sqlite => BigInt, stray_payloads!())?;
    Ok(Figures::new(&INDEXES, found, strays.into_iter().sum(), ServerFigures::Sqlite(server)))
}
