//! PostgreSQL and MariaDB servers of a test's own: on a temporary folder and a free port of 127.0.0.1, in nobody's
//! way, and gone when the value is dropped or its process ends, however it ends.
//!
//! ```no_run
//! use taskmq_test_servers::Postgres;
//!
//! let mut server = Postgres::start()?;
//! server.create_database("app")?;
//! let url = server.url("app"); // postgres://postgres@127.0.0.1:23517/app
//! server.kill9()?; // as an out-of-memory kill does it
//! server.restart()?; // same data, same port
//! # Ok::<(), taskmq_test_servers::Error>(())
//! ```

mod account;
mod error;
mod folder;
mod galera;
mod kind;
mod mariadb;
mod pgbouncer;
mod postgres;
mod program;
mod server;
mod small_disk;
mod standby;

pub use error::{Error, Result};
pub use galera::Galera;
pub use kind::{Durability, Kind, Site};
pub use mariadb::MariadbKind;
pub use pgbouncer::Pgbouncer;
pub use postgres::PostgresKind;
pub use server::Server;
pub use small_disk::SmallDisk;

/// A PostgreSQL server.
pub type Postgres = Server<PostgresKind>;

/// A MariaDB server.
pub type Mariadb = Server<MariadbKind>;
