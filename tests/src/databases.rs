//! An empty database for each test.

use diesel::Connection;
use diesel::connection::SimpleConnection;
use taskmq_core::{AnyConnection, Backend, migration};
use tempfile::TempDir;

/// Where `cargo xtask test` names the PostgreSQL server, without a database.
pub const POSTGRES: &str = "TASKMQ_TEST_POSTGRES";

/// Where `cargo xtask test` names the MariaDB server, without a database.
pub const MYSQL: &str = "TASKMQ_TEST_MYSQL";

/// A database with the taskmq tables and nothing in them, for one test. It is gone when this is dropped.
#[derive(Debug)]
pub struct TestDatabase {
    backend: Backend,
    url: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    File(#[expect(dead_code, reason = "removes the file when it is dropped")] TempDir),
    Server { url: String, name: String },
}

/// A database with the taskmq migration applied.
///
/// # Panics
/// When there is no server to make it on: such a test fails, it is never skipped.
pub fn fresh(backend: Backend) -> TestDatabase {
    let database = empty(backend);
    execute(&mut database.connect(), migration::up(backend));
    database
}

/// A database without any tables, for tests of the migrations themselves.
///
/// # Panics
/// As [`fresh`].
pub fn empty(backend: Backend) -> TestDatabase {
    match backend {
        Backend::Sqlite => in_a_file(),
        Backend::Postgres => on_a_server(backend, POSTGRES),
        Backend::Mysql => on_a_server(backend, MYSQL),
    }
}

impl TestDatabase {
    /// Which kind it is.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Its `DATABASE_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A further connection to it.
    ///
    /// # Panics
    /// When it cannot be reached.
    pub fn connect(&self) -> AnyConnection {
        connect(&self.url)
    }

    /// A further connection to it, as a worker claims on.
    ///
    /// # Panics
    /// When it cannot be reached.
    pub fn connect_worker(&self) -> AnyConnection {
        AnyConnection::establish_for_worker(&self.url).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs SQL on a connection of its own.
    ///
    /// # Panics
    /// When the database refuses it.
    pub fn execute(&self, sql: &str) {
        execute(&mut self.connect(), sql);
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Place::Server { url, name } = &self.place else { return };
        let drop = match self.backend {
            // Sessions that a failed test left open do not keep it.
            Backend::Postgres => format!("DROP DATABASE {name} WITH (FORCE)"),
            Backend::Mysql | Backend::Sqlite => format!("DROP DATABASE {name}"),
        };
        // A failure here must not hide why the test failed; the server itself is thrown away after the tests.
        if let Ok(mut conn) = AnyConnection::establish(url) {
            _ = try_execute(&mut conn, &drop);
        }
    }
}

fn in_a_file() -> TestDatabase {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url =
        folder.path().join("taskmq.db").to_str().expect("a temporary folder whose path is UTF-8").to_owned();
    // As `diesel migration run` does; taskmq itself never makes a file.
    diesel::SqliteConnection::establish(&url).expect("a SQLite file");
    TestDatabase { backend: Backend::Sqlite, url, place: Place::File(folder) }
}

fn on_a_server(backend: Backend, variable: &str) -> TestDatabase {
    let Ok(server) = std::env::var(variable) else {
        panic!("{variable} is not set, so there is no {backend} to test with: run `cargo xtask test`");
    };
    let server = server.trim_end_matches('/');
    let maintenance = match backend {
        Backend::Postgres => format!("{server}/postgres"),
        Backend::Mysql | Backend::Sqlite => format!("{server}/mysql"),
    };
    let name = format!("taskmq_{:016x}", fastrand::u64(..));
    execute(&mut connect(&maintenance), &format!("CREATE DATABASE {name}"));
    TestDatabase { backend, url: format!("{server}/{name}"), place: Place::Server { url: maintenance, name } }
}

fn connect(url: &str) -> AnyConnection {
    AnyConnection::establish(url).unwrap_or_else(|error| panic!("{error}"))
}

fn execute(conn: &mut AnyConnection, sql: &str) {
    try_execute(conn, sql).unwrap_or_else(|error| panic!("{error} in:\n{sql}"));
}

/// Runs SQL that the database may refuse.
///
/// # Errors
/// What the database reports.
pub fn try_execute(conn: &mut AnyConnection, sql: &str) -> diesel::QueryResult<()> {
    match conn {
        AnyConnection::Sqlite(conn) => conn.batch_execute(sql),
        AnyConnection::Postgres(conn) => conn.batch_execute(sql),
        AnyConnection::Mysql(conn) => conn.batch_execute(sql),
        _ => unreachable!("taskmq knows three databases"),
    }
}
