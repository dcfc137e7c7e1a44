//! Figures of the server.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text};

use crate::Result;
use crate::broker::diagnosis::{
    Figures, PostgresFigures, ReplicationSlot, ServerFigures, TableFigures, Transaction, stray_payloads,
};
use crate::statement::load;

/// Those that MariaDB needs not have: its index of what is ready has the others in it as well.
const PARTIAL: [&str; 2] = ["taskmq_messages_held", "taskmq_messages_in_line"];

pub(super) fn diagnose(conn: &mut PgConnection) -> Result<Figures> {
    let indexes: Vec<(String, bool)> = load!(
        conn, Pg => (Text, Bool),
        r"SELECT i.relname::text, x.indisvalid AND x.indisready FROM pg_index x
         JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
         WHERE t.relname LIKE 'taskmq\_%' AND pg_table_is_visible(t.oid)",
    )?;
    let settings: Vec<(String, String)> = load!(
        conn, Pg => (Text, Text),
        "SELECT name, setting FROM pg_settings WHERE name IN
         ('server_version', 'fsync', 'full_page_writes', 'synchronous_commit', 'autovacuum', 'max_connections')",
    )?;
    let setting = |wanted: &str| {
        let found = settings.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    // A transaction that has written keeps rows as well as one that only looks at an old state.
    let oldest: Vec<(i64, String, String, i64)> = load!(
        conn, Pg => (BigInt, Text, Text, BigInt),
        "SELECT pid::bigint, coalesce(usename::text, ''), coalesce(application_name, ''),
            extract(epoch FROM clock_timestamp() - xact_start)::bigint
         FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
         AND coalesce(backend_xmin, backend_xid) IS NOT NULL
         ORDER BY greatest(age(backend_xmin), age(backend_xid)) DESC, xact_start LIMIT 1",
    )?;
    let connections: Vec<i64> = load!(conn, Pg => BigInt, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")?;
    let tables: Vec<(String, i64, i64, bool)> = load!(
        conn, Pg => (Text, BigInt, BigInt, Bool),
        r"SELECT s.relname::text, s.n_live_tup, s.n_dead_tup, NOT EXISTS (
            SELECT 1 FROM unnest(c.reloptions) AS o (text)
            WHERE o.text LIKE 'autovacuum\_enabled=%' AND NOT split_part(o.text, '=', 2)::boolean)
         FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
         WHERE s.relname LIKE 'taskmq\_%' AND pg_table_is_visible(s.relid) ORDER BY s.relname",
    )?;
    let slots: Vec<(String, bool, i64)> = load!(
        conn, Pg => (Text, Bool, BigInt),
        "SELECT slot_name::text, active, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint
         FROM pg_replication_slots WHERE NOT pg_is_in_recovery() ORDER BY slot_name",
    )?;
    let trigger: Vec<bool> = load!(
        conn, Pg => Bool,
        "SELECT tgenabled <> 'D' FROM pg_trigger WHERE tgrelid = to_regclass('taskmq_messages') AND tgname = 'taskmq_wake'",
    )?;
    let server =
        PostgresFigures {
            version: setting("server_version"),
            fsync: setting("fsync") == "on",
            full_page_writes: setting("full_page_writes") == "on",
            synchronous_commit: setting("synchronous_commit"),
            autovacuum: setting("autovacuum") == "on",
            connections: connections.first().copied().unwrap_or_default(),
            max_connections: setting("max_connections").parse().unwrap_or(i64::MAX),
            oldest_transaction: oldest
                .into_iter()
                .next()
                .map(|(session, user, program, seconds)| Transaction { session, user, program, seconds }),
            tables: tables
                .into_iter()
                .map(|(name, live, dead, autovacuum)| TableFigures { name, live, dead, autovacuum })
                .collect(),
            slots: slots
                .into_iter()
                .map(|(name, active, kept_bytes)| ReplicationSlot { name, active, kept_bytes })
                .collect(),
            wakes: trigger.first() == Some(&true),
        };
    let strays: Vec<i64> = load!(conn, Pg => BigInt, stray_payloads!())?;
    Ok(Figures::new(&PARTIAL, indexes, strays.into_iter().sum(), ServerFigures::Postgres(server)))
}
