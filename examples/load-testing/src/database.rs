//! The platform's database; which kind is a feature of this crate.

use std::time::Duration;

use diesel::r2d2::{ConnectionManager, Pool};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

#[cfg(feature = "mysql")]
pub type Db = diesel::MysqlConnection;
#[cfg(all(feature = "postgres", not(feature = "mysql")))]
pub type Db = diesel::PgConnection;
#[cfg(not(any(feature = "postgres", feature = "mysql")))]
pub type Db = diesel::SqliteConnection;

#[cfg(feature = "mysql")]
const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/mysql");
#[cfg(all(feature = "postgres", not(feature = "mysql")))]
const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");
#[cfg(not(any(feature = "postgres", feature = "mysql")))]
const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

pub type DbPool = Pool<ConnectionManager<Db>>;
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Where the database is: `DATABASE_URL`, else a SQLite file in this folder.
pub fn url() -> String {
    std::env::var("DATABASE_URL").unwrap_or_else(|_| "load-testing.db".to_owned())
}

pub fn pool() -> Result<DbPool, Error> {
    let customizer = Box::new(SetUp);
    let manager = ConnectionManager::new(url());
    Ok(Pool::builder().max_size(10).min_idle(Some(0)).connection_customizer(customizer).build(manager)?)
}

pub fn migrate(pool: &DbPool) -> Result<(), Error> {
    pool.get()?.run_pending_migrations(MIGRATIONS)?;
    Ok(())
}

/// SQLite has one writer at a time: the others wait for it.
#[derive(Debug)]
struct SetUp;

impl diesel::r2d2::CustomizeConnection<Db, diesel::r2d2::Error> for SetUp {
    fn on_acquire(&self, conn: &mut Db) -> Result<(), diesel::r2d2::Error> {
        if cfg!(not(any(feature = "postgres", feature = "mysql"))) {
            use diesel::connection::SimpleConnection;
            let busy = Duration::from_secs(5).as_millis();
            conn.batch_execute(&format!("PRAGMA busy_timeout = {busy}; PRAGMA journal_mode = WAL;"))
                .map_err(diesel::r2d2::Error::QueryError)?;
        }
        Ok(())
    }
}

/// A transaction that will write: on SQLite it takes the write lock at its beginning.
pub fn transaction<T>(conn: &mut Db, run: impl FnOnce(&mut Db) -> Result<T, Error>) -> Result<T, Error> {
    let mut outcome = None;
    let body = |conn: &mut Db| match run(conn) {
        Ok(value) => {
            outcome = Some(Ok(value));
            Ok(())
        }
        Err(error) => {
            outcome = Some(Err(error));
            Err(diesel::result::Error::RollbackTransaction)
        }
    };
    #[cfg(not(any(feature = "postgres", feature = "mysql")))]
    let ended = conn.immediate_transaction(body);
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    let ended = diesel::Connection::transaction(conn, body);
    match (ended, outcome) {
        (_, Some(Err(error))) => Err(error),
        (Ok(()), Some(Ok(value))) => Ok(value),
        (Err(error), _) => Err(error.into()),
        (Ok(()), None) => Err("the transaction did not run".into()),
    }
}
