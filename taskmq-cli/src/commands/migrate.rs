use std::path::PathBuf;
use std::time::{Duration, Instant};

#[cfg(feature = "sqlite")]
use diesel::connection::SimpleConnection;
use diesel::{Connection, RunQueryDsl};
use diesel_migrations::{FileBasedMigrations, HarnessWithOutput, MigrationHarness};
#[cfg(feature = "postgres")]
use taskmq_core::AnyConnection;
use taskmq_core::Backend;

use crate::error::{Error, Result};
use crate::init::project;

/// Two that run at once would do the same migration twice, for Diesel takes no lock.
const LOCK_LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn run(url: Option<&str>) -> Result<()> {
    let url = url.ok_or(taskmq_core::Error::NoDatabaseUrl)?;
    let backend = Backend::of_url(url)?;
    let current = std::env::current_dir().map_err(Error::file("."))?;
    let folder: PathBuf = project::migrations_folder(&current)?;
    if !folder.is_dir() {
        return Err(Error::Refused(format!(
            "{} does not exist: run `taskmq-cli init` first",
            folder.display()
        )));
    }
    let migrations = FileBasedMigrations::from_path(&folder)
        .map_err(|e| Error::Failed(format!("the migrations in {} cannot be read: {e}", folder.display())))?;
    let has_taskmq = std::fs::read_dir(&folder)
        .map_err(Error::file(&folder))?
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().ends_with("_taskmq"));
    let count = match backend {
        #[cfg(feature = "sqlite")]
        Backend::Sqlite => {
            let mut conn = establish::<diesel::SqliteConnection>(url)?;
            // Workers and producers may write meanwhile.
            conn.batch_execute("PRAGMA busy_timeout = 30000").map_err(taskmq_core::Error::from)?;
            let _lock = sqlite_lock(url, &mut conn)?;
            pending(&mut conn, migrations)?
        }
        #[cfg(feature = "postgres")]
        Backend::Postgres => {
            if !AnyConnection::establish(url)?.has_own_session()? {
                return Err(Error::Refused(
                    "migrations need a session of their own, which a pooler such as pgbouncer does not give: use a \
                     DATABASE_URL that leads to PostgreSQL itself"
                        .to_owned(),
                ));
            }
            let mut conn = establish::<diesel::PgConnection>(url)?;
            until_locked(|| {
                diesel::select(diesel::dsl::sql::<diesel::sql_types::Bool>(
                    "pg_try_advisory_lock(1952541037)",
                ))
                .get_result(&mut conn)
            })?;
            pending(&mut conn, migrations)?
        }
        #[cfg(feature = "mysql")]
        Backend::Mysql => {
            let mut conn = establish::<diesel::MysqlConnection>(url)?;
            until_locked(|| {
                let got: i32 = diesel::select(diesel::dsl::sql::<diesel::sql_types::Integer>(
                    "GET_LOCK('taskmq:migrate', 1)",
                ))
                .get_result(&mut conn)?;
                Ok(got == 1)
            })?;
            pending(&mut conn, migrations)?
        }
        #[allow(unreachable_patterns, reason = "reached when a feature is off")]
        backend => return Err(Error::BackendMissing { backend }),
    };
    if count == 0 {
        say!("nothing to do: every migration in {} has been run", folder.display());
    }
    if !has_taskmq {
        say!("none of them is taskmq's: run `taskmq-cli init`");
    }
    Ok(())
}

fn establish<C: Connection>(url: &str) -> Result<C> {
    C::establish(url).map_err(|e| taskmq_core::Error::cannot_connect(url, &e).into())
}

fn pending<C, DB>(conn: &mut C, migrations: FileBasedMigrations) -> Result<usize>
where
    DB: diesel::backend::Backend,
    C: MigrationHarness<DB> + Connection<Backend = DB> + 'static,
{
    let mut harness = HarnessWithOutput::write_to_stdout(conn);
    harness
        .run_pending_migrations(migrations)
        .map(|versions| versions.len())
        .map_err(|e| Error::Failed(format!("a migration failed: {e}")))
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
fn until_locked(mut lock: impl FnMut() -> diesel::QueryResult<bool>) -> Result<()> {
    let began = Instant::now();
    while !lock().map_err(|e| Error::Failed(format!("cannot lock the migrations: {e}")))? {
        wait(began)?;
    }
    Ok(())
}

fn wait(began: Instant) -> Result<()> {
    if began.elapsed() > LOCK_LIMIT {
        return Err(Error::Failed(
            "another program has been running migrations for a minute; try again when it is done".to_owned(),
        ));
    }
    std::thread::sleep(Duration::from_millis(100));
    Ok(())
}

/// On a file beside the database's own. It stays: whoever removed it could remove one that others wait for, beside a new one of yet
/// others.
#[cfg(feature = "sqlite")]
fn sqlite_lock(url: &str, conn: &mut diesel::SqliteConnection) -> Result<Option<std::fs::File>> {
    let path: String = diesel::select(diesel::dsl::sql::<diesel::sql_types::Text>(
        "(SELECT file FROM pragma_database_list WHERE name = 'main')",
    ))
    .get_result(conn)
    .map_err(taskmq_core::Error::from)?;
    if path.is_empty() {
        return Ok(None); // in memory, where nobody else is
    }
    let path = format!("{path}-taskmq-migrate.lock");
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(
        |error| {
            let reason = format!("its folder cannot be written to: {error}");
            taskmq_core::Error::cannot_connect(url, &diesel::ConnectionError::BadConnection(reason))
        },
    )?;
    let began = Instant::now();
    while file.try_lock().is_err() {
        wait(began)?;
    }
    Ok(Some(file))
}
