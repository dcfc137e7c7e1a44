//! The tables, as SQL for each database. A host owns its migrations: `taskmq-cli init` copies these into the
//! host's own folder, and nothing in this crate ever changes a host's tables by itself.

use crate::Backend;

/// The version of the tables that this crate works with.
pub const SCHEMA_VERSION: i32 = 1;

/// The SQL that makes the tables.
pub fn up(backend: Backend) -> &'static str {
    match backend {
        Backend::Sqlite => include_str!("../migrations/sqlite/up.sql"),
        Backend::Postgres => include_str!("../migrations/postgres/up.sql"),
        Backend::Mysql => include_str!("../migrations/mysql/up.sql"),
    }
}

/// The SQL that removes the tables and everything in them.
pub fn down(backend: Backend) -> &'static str {
    match backend {
        Backend::Sqlite => include_str!("../migrations/sqlite/down.sql"),
        Backend::Postgres => include_str!("../migrations/postgres/down.sql"),
        Backend::Mysql => include_str!("../migrations/mysql/down.sql"),
    }
}
