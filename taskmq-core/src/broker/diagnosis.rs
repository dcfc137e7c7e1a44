//! What can be known of a database that carries the queue, without a judgement.

/// Figures of a database, for whoever wants to know whether it is well.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The indexes of the taskmq tables that are not there.
    pub missing_indexes: Vec<&'static str>,
    /// The indexes of the taskmq tables that are there and not used, because their making failed.
    pub invalid_indexes: Vec<String>,
    /// So many of the 10,000 oldest large payloads belong to no message: a person deleted those by hand.
    pub stray_payloads: i64,
    /// What only this kind of database has.
    pub server: ServerFigures,
}

/// The indexes of the tables that are the same on all three databases.
const INDEXES: [&str; 11] = [
    "taskmq_messages_ready",
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

impl Figures {
    /// `found` are the indexes that are there, and whether they are valid; `further` ones should be, too.
    pub(super) fn new(
        further: &[&'static str],
        found: Vec<(String, bool)>,
        stray_payloads: i64,
        server: ServerFigures,
    ) -> Self {
        let missing = |name: &&&'static str| !found.iter().any(|(found, _)| found == **name);
        let missing_indexes = INDEXES.iter().chain(further).filter(missing).copied().collect();
        let invalid_indexes = found.into_iter().filter(|(_, valid)| !valid).map(|(name, _)| name).collect();
        Self { missing_indexes, invalid_indexes, stray_payloads, server }
    }
}

/// How many of the oldest large payloads belong to no message.
macro_rules! stray_payloads {
    () => {
        "SELECT count(*) FROM (SELECT id FROM taskmq_payloads ORDER BY id LIMIT 10000) p
         WHERE NOT EXISTS (SELECT 1 FROM taskmq_messages m WHERE m.id = p.id)
         AND NOT EXISTS (SELECT 1 FROM taskmq_archive a WHERE a.id = p.id)"
    };
}
pub(super) use stray_payloads;

/// What only one kind of database has.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ServerFigures {
    /// Of a SQLite file.
    Sqlite(SqliteFigures),
    /// Of a PostgreSQL server.
    Postgres(PostgresFigures),
    /// Of a MariaDB or MySQL server.
    Mysql(MysqlFigures),
}

/// Figures of a SQLite file.
#[derive(Clone, Debug)]
pub struct SqliteFigures {
    /// The version of the library in this program.
    pub version: String,
    /// `wal`, if it is well.
    pub journal_mode: String,
    /// The file; `None`: it is in memory.
    pub file: Option<String>,
    /// What `PRAGMA quick_check` found broken.
    pub problems: Vec<String>,
}

/// Figures of a PostgreSQL server.
#[derive(Clone, Debug)]
pub struct PostgresFigures {
    /// Its version.
    pub version: String,
    /// `fsync`.
    pub fsync: bool,
    /// `full_page_writes`.
    pub full_page_writes: bool,
    /// `synchronous_commit`.
    pub synchronous_commit: String,
    /// `autovacuum`.
    pub autovacuum: bool,
    /// Connections to the server.
    pub connections: i64,
    /// `max_connections`.
    pub max_connections: i64,
    /// The transaction of this database for which dead rows are kept longest.
    pub oldest_transaction: Option<Transaction>,
    /// The taskmq tables.
    pub tables: Vec<TableFigures>,
    /// The replication slots of the server.
    pub slots: Vec<ReplicationSlot>,
    /// Whether the trigger that wakes idle workers is there and on.
    pub wakes: bool,
}

/// A transaction that is open.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The server's number of the session.
    pub session: i64,
    /// Whose it is.
    pub user: String,
    /// What the program calls itself, if it says so.
    pub program: String,
    /// For how many seconds it has been open.
    pub seconds: i64,
}

/// A table of PostgreSQL.
#[derive(Clone, Debug)]
pub struct TableFigures {
    /// Its name.
    pub name: String,
    /// Its rows, as the statistics have it.
    pub live: i64,
    /// Rows that are deleted and not cleared away.
    pub dead: i64,
    /// Whether it is cleared away by itself.
    pub autovacuum: bool,
}

/// A replication slot of PostgreSQL.
#[derive(Clone, Debug)]
pub struct ReplicationSlot {
    /// Its name.
    pub name: String,
    /// Whether anybody reads it.
    pub active: bool,
    /// So many bytes of the log are kept for it.
    pub kept_bytes: i64,
}

/// Figures of a MariaDB or MySQL server.
#[derive(Clone, Debug)]
pub struct MysqlFigures {
    /// Its version.
    pub version: String,
    /// `innodb_flush_log_at_trx_commit`.
    pub flush_log_at_trx_commit: i64,
    /// `binlog_format`, if there is a binary log.
    pub binlog_format: Option<String>,
    /// `innodb_buffer_pool_size`, in bytes.
    pub buffer_pool: i64,
    /// What live messages take up, in bytes.
    pub messages_bytes: i64,
    /// Connections to the server.
    pub connections: i64,
    /// `max_connections`.
    pub max_connections: i64,
    /// The oldest open transaction; `None`: there is none, or this user may not see it.
    pub oldest_transaction: Option<Transaction>,
    /// Row versions that are kept for open transactions; `None`: this user may not see it.
    pub history: Option<i64>,
}
