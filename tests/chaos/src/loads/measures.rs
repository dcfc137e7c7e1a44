//! What the operating system and the database say of themselves.

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel::{QueryableByName, sql_query};
use taskmq_core::AnyConnection;

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// Of processes, together, in KiB.
pub fn memory(pids: &[u32]) -> u64 {
    let of = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default()
    };
    pids.iter().map(of).sum()
}

/// Of the tables and their indexes, in bytes.
///
/// # Panics
/// When the database does not say.
pub fn size(conn: &mut AnyConnection) -> u64 {
    let sql = match conn {
        AnyConnection::Sqlite(_) => {
            "SELECT (SELECT page_count FROM pragma_page_count) * (SELECT page_size FROM pragma_page_size) AS number"
        }
        AnyConnection::Postgres(_) => {
            "SELECT CAST(sum(pg_total_relation_size(c.oid)) AS BIGINT) AS number
             FROM pg_class c WHERE relkind = 'r' AND relname LIKE 'taskmq%'"
        }
        _ => {
            "SELECT CAST(sum(file_size) AS SIGNED) AS number
             FROM information_schema.innodb_sys_tablespaces WHERE name LIKE 'app/taskmq%'"
        }
    };
    ask(conn, sql)
}

/// Rows that PostgreSQL has yet to sweep; others have none.
///
/// # Panics
/// When the database does not say.
pub fn dead_rows(conn: &mut AnyConnection) -> u64 {
    if !matches!(conn, AnyConnection::Postgres(_)) {
        return 0;
    }
    ask(
        conn,
        "SELECT CAST(sum(n_dead_tup) AS BIGINT) AS number FROM pg_stat_user_tables WHERE relname LIKE 'taskmq%'",
    )
}

/// How many sessions the server has, without this one; a file has none.
///
/// # Panics
/// When the server does not say.
pub fn sessions(conn: &mut AnyConnection) -> u64 {
    match conn {
        AnyConnection::Sqlite(_) => 0,
        AnyConnection::Postgres(_) => ask(
            conn,
            "SELECT count(*) AS number FROM pg_stat_activity WHERE datname = 'app' AND pid <> pg_backend_pid()",
        ),
        _ => ask(
            conn,
            "SELECT count(*) AS number FROM information_schema.processlist WHERE db = 'app' AND id <> connection_id()",
        ),
    }
}

fn ask(conn: &mut AnyConnection, sql: &str) -> u64 {
    let row: QueryResult<Number> = match conn {
        AnyConnection::Sqlite(conn) => sql_query(sql).get_result(conn),
        AnyConnection::Postgres(conn) => sql_query(sql).get_result(conn),
        AnyConnection::Mysql(conn) => sql_query(sql).get_result(conn),
        _ => unreachable!("taskmq knows three databases"),
    };
    let number = row.unwrap_or_else(|error| panic!("{error} in {sql}")).number;
    u64::try_from(number).expect("a size is not negative")
}
