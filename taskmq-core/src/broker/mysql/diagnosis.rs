//! Figures of the server.

use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

use crate::Result;
use crate::broker::diagnosis::{Figures, MysqlFigures, ServerFigures, Transaction, stray_payloads};
use crate::statement::load;

type Settings = (String, i64, i64, Option<String>, i64, i64);

pub(super) fn diagnose(conn: &mut MysqlConnection) -> Result<Figures> {
    let indexes: Vec<String> = load!(
        conn, Mysql => Text,
        r"SELECT DISTINCT CAST(INDEX_NAME AS CHAR) FROM information_schema.STATISTICS
         WHERE TABLE_SCHEMA = database() AND TABLE_NAME LIKE 'taskmq\_%'",
    )?;
    let settings: Vec<Settings> = load!(
        conn, Mysql => (Text, BigInt, BigInt, Nullable<Text>, BigInt, BigInt),
        "SELECT version(), CAST(@@innodb_flush_log_at_trx_commit AS SIGNED), CAST(@@log_bin AS SIGNED),
            CAST(@@binlog_format AS CHAR), CAST(@@innodb_buffer_pool_size AS SIGNED), CAST(@@max_connections AS SIGNED)",
    )?;
    let (version, flush_log_at_trx_commit, log_bin, binlog_format, buffer_pool, max_connections) =
        settings.into_iter().next().unwrap_or_default();
    let connected: Vec<(String, String)> =
        load!(conn, Mysql => (Text, Text), "SHOW GLOBAL STATUS LIKE 'Threads_connected'")?;
    let bytes: Vec<i64> = load!(
        conn, Mysql => BigInt,
        "SELECT CAST(coalesce(sum(DATA_LENGTH + INDEX_LENGTH), 0) AS SIGNED) FROM information_schema.TABLES
         WHERE TABLE_SCHEMA = database() AND TABLE_NAME = 'taskmq_messages'",
    )?;
    // Both want the privilege PROCESS, which an application's user need not have.
    let oldest: Vec<(i64, String, i64)> = load!(
        conn, Mysql => (BigInt, Text, BigInt),
        "SELECT CAST(t.trx_mysql_thread_id AS SIGNED), CAST(coalesce(p.USER, '') AS CHAR), CAST(timestampdiff(SECOND, t.trx_started,
            CONVERT_TZ(now(), @@session.time_zone, @@global.time_zone)) AS SIGNED)
         FROM information_schema.INNODB_TRX t LEFT JOIN information_schema.PROCESSLIST p ON p.ID = t.trx_mysql_thread_id
         WHERE t.trx_mysql_thread_id NOT IN (0, connection_id()) ORDER BY t.trx_started LIMIT 1",
    )
    .unwrap_or_default();
    let history: Vec<i64> = load!(
        conn, Mysql => BigInt,
        "SELECT CAST(COUNT AS SIGNED) FROM information_schema.INNODB_METRICS WHERE NAME = 'trx_rseg_history_len'",
    )
    .unwrap_or_default();
    let server = MysqlFigures {
        version,
        flush_log_at_trx_commit,
        binlog_format: binlog_format.filter(|_| log_bin != 0),
        buffer_pool,
        messages_bytes: bytes.first().copied().unwrap_or_default(),
        connections: connected.first().and_then(|(_, value)| value.parse().ok()).unwrap_or_default(),
        max_connections,
        oldest_transaction: oldest.into_iter().next().map(|(session, user, seconds)| Transaction {
            session,
            user,
            program: String::new(),
            seconds,
        }),
        history: history.first().copied(),
    };
    let found = indexes.into_iter().map(|name| (name, true)).collect();
    let strays: Vec<i64> = load!(conn, Mysql => BigInt, stray_payloads!())?;
    Ok(Figures::new(&[], found, strays.into_iter().sum(), ServerFigures::Mysql(server)))
}
