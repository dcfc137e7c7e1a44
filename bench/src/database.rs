//! The three databases: a server of the benchmark's own, and a fresh database in it for each measurement.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use clap::ValueEnum;
use diesel::connection::SimpleConnection;
use diesel::sql_types::{BigInt, Text};
use diesel::{
    Connection, MysqlConnection, PgConnection, QueryableByName, RunQueryDsl, SqliteConnection, sql_query,
};
use serde::{Deserialize, Serialize};
use taskmq_test_servers::{Mariadb, Postgres};
use tempfile::TempDir;

use crate::Result;

/// One of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
    Mariadb,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Sqlite => "SQLite",
            Kind::Postgres => "PostgreSQL",
            Kind::Mariadb => "MariaDB",
        })
    }
}

/// A running server with the settings it ships with, so that every commit waits for the disk.
#[derive(Debug)]
pub(crate) enum Server {
    Sqlite,
    Postgres(Postgres),
    Mariadb(Mariadb),
}

impl Server {
    pub(crate) fn start(kind: Kind) -> Result<Self> {
        Ok(match kind {
            Kind::Sqlite => Self::Sqlite,
            Kind::Postgres => Self::Postgres(Postgres::start()?),
            Kind::Mariadb => Self::Mariadb(Mariadb::start()?),
        })
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Sqlite => Kind::Sqlite,
            Self::Postgres(_) => Kind::Postgres,
            Self::Mariadb(_) => Kind::Mariadb,
        }
    }

    /// A URL whose database no measurement uses.
    fn maintenance(&self) -> String {
        match self {
            Self::Sqlite => ":memory:".to_owned(),
            Self::Postgres(server) => server.url("postgres"),
            Self::Mariadb(server) => server.url("mysql"),
        }
    }

    /// An empty database. Two measurements never share one, so that none meets the remains of another.
    pub(crate) fn fresh(&self) -> Result<Database> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("bench_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::Builder::new().prefix("taskmq-bench-").tempdir()?;
        let url = match self {
            Self::Sqlite => folder.path().join("bench.db").to_string_lossy().into_owned(),
            Self::Postgres(server) => server.url(&name),
            Self::Mariadb(server) => server.url(&name),
        };
        let maintenance = self.maintenance();
        if self.kind() != Kind::Sqlite {
            Client::connect(self.kind(), &maintenance)?.execute(&format!("CREATE DATABASE {name}"))?;
        }
        Ok(Database { kind: self.kind(), url, name, maintenance, folder })
    }

    /// What the server says of itself.
    pub(crate) fn version(&self) -> Result<String> {
        let sql = match self.kind() {
            Kind::Sqlite => "SELECT sqlite_version() AS value",
            Kind::Postgres => "SELECT current_setting('server_version') AS value",
            Kind::Mariadb => "SELECT version() AS value",
        };
        Ok(Client::connect(self.kind(), &self.maintenance())?.texts(sql)?.join(" "))
    }
}

/// A database for one measurement. It is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) kind: Kind,
    pub(crate) url: String,
    name: String,
    maintenance: String,
    /// SQLite's file, and the logs of the measurement's processes.
    pub(crate) folder: TempDir,
}

impl Database {
    pub(crate) fn client(&self) -> Result<Client> {
        Client::connect(self.kind, &self.url)
    }

    /// Brings statistics up to date and writes out what is pending, so that each drain starts from the same state.
    pub(crate) fn settle(&self) -> Result {
        let mut client = self.client()?;
        match self.kind {
            Kind::Sqlite => client.execute("PRAGMA wal_checkpoint(TRUNCATE)"),
            Kind::Postgres => client.execute("VACUUM ANALYZE").and_then(|()| client.execute("CHECKPOINT")),
            Kind::Mariadb => client
                .texts(
                    "SELECT table_name AS value FROM information_schema.tables
                     WHERE table_schema = database() AND table_type = 'BASE TABLE'",
                )?
                .iter()
                .try_for_each(|table| client.execute(&format!("ANALYZE TABLE `{table}`"))),
        }
    }

    /// How many statements the server has executed in this database (PostgreSQL: transactions, and every
    /// statement of its own is one), or commits of others that SQLite has seen through `client`.
    pub(crate) fn activity(&self, client: &mut Client) -> Result<i64> {
        match self.kind {
            Kind::Sqlite => client.number("SELECT data_version AS value FROM pragma_data_version"),
            Kind::Postgres => client.number(&format!(
                "SELECT xact_commit + xact_rollback AS value FROM pg_stat_database WHERE datname = '{}'",
                self.name
            )),
            Kind::Mariadb => client.number(
                "SELECT CAST(variable_value AS SIGNED) AS value FROM information_schema.global_status
                 WHERE variable_name = 'Questions'",
            ),
        }
    }

    /// How many rows and entries of indexes the server has read so far: in this database (PostgreSQL), or at all
    /// (MariaDB). SQLite does not count them.
    pub(crate) fn rows_read(&self, client: &mut Client) -> Result<i64> {
        match self.kind {
            Kind::Sqlite => Err("SQLite does not count what it reads".into()),
            Kind::Postgres => client.number(
                "SELECT CAST((SELECT sum(seq_tup_read) FROM pg_stat_user_tables)
                    + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes) AS BIGINT) AS value",
            ),
            Kind::Mariadb => client.number(
                "SELECT CAST(sum(variable_value) AS SIGNED) AS value FROM information_schema.global_status
                 WHERE variable_name LIKE 'Handler\\_read\\_%'",
            ),
        }
    }

    /// A client whose own statements [`activity`](Self::activity) does not count, or (MariaDB) counts as one.
    pub(crate) fn observer(&self) -> Result<Client> {
        match self.kind {
            Kind::Sqlite => self.client(),
            Kind::Postgres | Kind::Mariadb => Client::connect(self.kind, &self.maintenance),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = match self.kind {
            Kind::Sqlite => return,
            Kind::Postgres => format!("DROP DATABASE {} WITH (FORCE)", self.name),
            Kind::Mariadb => format!("DROP DATABASE {}", self.name),
        };
        // The server itself is thrown away soon.
        if let Ok(mut client) = Client::connect(self.kind, &self.maintenance) {
            client.execute(&drop).ok();
        }
    }
}

/// A connection of the benchmark's own.
pub(crate) enum Client {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    Mariadb(MysqlConnection),
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

#[derive(QueryableByName)]
struct Words {
    #[diesel(sql_type = Text)]
    value: String,
}

impl Client {
    fn connect(kind: Kind, url: &str) -> Result<Self> {
        Ok(match kind {
            Kind::Sqlite => {
                let mut conn = SqliteConnection::establish(url)?;
                conn.batch_execute("PRAGMA busy_timeout = 5000")?;
                Self::Sqlite(conn)
            }
            Kind::Postgres => Self::Postgres(PgConnection::establish(url)?),
            Kind::Mariadb => Self::Mariadb(MysqlConnection::establish(url)?),
        })
    }

    pub(crate) fn execute(&mut self, sql: &str) -> Result {
        match self {
            Self::Sqlite(conn) => conn.batch_execute(sql)?,
            Self::Postgres(conn) => conn.batch_execute(sql)?,
            Self::Mariadb(conn) => conn.batch_execute(sql)?,
        }
        Ok(())
    }

    /// The one number of a query that names it `value`.
    pub(crate) fn number(&mut self, sql: &str) -> Result<i64> {
        let query = sql_query(sql);
        let row: Number = match self {
            Self::Sqlite(conn) => query.get_result(conn)?,
            Self::Postgres(conn) => query.get_result(conn)?,
            Self::Mariadb(conn) => query.get_result(conn)?,
        };
        Ok(row.value)
    }

    /// The one text column of a query that names it `value`.
    fn texts(&mut self, sql: &str) -> Result<Vec<String>> {
        let query = sql_query(sql);
        let rows: Vec<Words> = match self {
            Self::Sqlite(conn) => query.load(conn)?,
            Self::Postgres(conn) => query.load(conn)?,
            Self::Mariadb(conn) => query.load(conn)?,
        };
        Ok(rows.into_iter().map(|row| row.value).collect())
    }
}
