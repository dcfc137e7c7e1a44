//! Figures of the file.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::Sqlite;

use super::{file_of, library_version};
use crate::Result;
use crate::broker::diagnosis::{Figures, ServerFigures, SqliteFigures, stray_payloads};
use crate::statement::load;

/// Those that MariaDB needs not have: its index of what is ready has the others in it as well.
const PARTIAL: [&str; 2] = ["taskmq_messages_held", "taskmq_messages_in_line"];

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
    Ok(Figures::new(&PARTIAL, found, strays.into_iter().sum(), ServerFigures::Sqlite(server)))
}
