//! The database of a run: a file, or a server of its own.

use std::path::Path;

use diesel::{Connection, SqliteConnection};
use taskmq_core::Backend;
use taskmq_tests::servers::{Mariadb, Postgres};

/// A server that is ended when this is dropped, or none.
#[derive(Debug)]
pub enum Database {
    /// A file.
    Sqlite,
    /// A server.
    Postgres(Postgres),
    /// A server.
    Mariadb(Mariadb),
}

impl Database {
    /// A new one without tables, and its URL. A file is in the folder; a server has more options on its command line.
    ///
    /// # Panics
    /// When there is no server to be had.
    pub fn start(backend: Backend, folder: &Path, options: &[&str]) -> (Self, String) {
        match backend {
            Backend::Sqlite => {
                let url = folder.join("app.db").to_str().expect("a path in UTF-8").to_owned();
                SqliteConnection::establish(&url).expect("a SQLite file");
                (Self::Sqlite, url)
            }
            Backend::Postgres => {
                let server = Postgres::start_set(options).expect("PostgreSQL starts");
                server.create_database("app").expect("a database");
                let url = server.url("app");
                (Self::Postgres(server), url)
            }
            Backend::Mysql => {
                let server = Mariadb::start_set(options).expect("MariaDB starts");
                server.create_database("app").expect("a database");
                let url = server.url("app");
                (Self::Mariadb(server), url)
            }
        }
    }

    /// Whether there is a server, and so a line to it.
    pub fn is_server(&self) -> bool {
        !matches!(self, Self::Sqlite)
    }

    /// Ends the server with SIGKILL.
    ///
    /// # Panics
    /// When the operating system refuses.
    pub fn kill(&mut self) {
        match self {
            Self::Postgres(server) => server.kill9(),
            Self::Mariadb(server) => server.kill9(),
            Self::Sqlite => Ok(()),
        }
        .expect("is killed");
    }

    /// Starts it again, and waits until it takes connections.
    ///
    /// # Panics
    /// When it does not.
    pub fn restart(&mut self) {
        match self {
            Self::Postgres(server) => server.restart(),
            Self::Mariadb(server) => server.restart(),
            Self::Sqlite => Ok(()),
        }
        .expect("starts again");
    }
}
