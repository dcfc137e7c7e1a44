//! Waiting for the one write lock that SQLite has. There is no line for it. SQLite's own way to wait asks ever more rarely, in
//! the end ten times a second, and so whoever has waited for long finds it taken again and again by workers that have
//! just let go of it. Who asks often finds it free (Rails came to the same: <https://github.com/rails/rails/pull/51958>).

use std::thread;
use std::time::{Duration, Instant};

use diesel::SqliteConnection;
use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::sql_types::Integer;

use crate::statement::load;
use crate::{Error, Result};

/// So long it waits at first until it asks again, and longer each time,
const SHORT: Duration = Duration::from_millis(1);
/// but no longer than this.
const LONG: Duration = Duration::from_millis(5);

/// Writes, in a transaction of its own if none is open, as soon as the lock can be had.
///
/// # Errors
/// [`Error::Locked`] when it could not be had for as long as the connection's `busy_timeout`.
pub(super) fn with<T>(
    conn: &mut SqliteConnection,
    mut write: impl FnMut(&mut SqliteConnection) -> Result<T>,
) -> Result<T> {
    let timeout = busy_timeout(conn)?;
    if timeout == 0 || is_open(conn)? {
        return write(conn);
    }
    conn.batch_execute("PRAGMA busy_timeout = 0")?;
    let began = Instant::now();
    let limit = Duration::from_millis(timeout.unsigned_abs().into());
    let mut pause = SHORT;
    let written = loop {
        match write(conn) {
            Err(Error::Locked(_)) if began.elapsed() < limit => thread::sleep(pause),
            written => break written,
        }
        pause = (pause + SHORT).min(LONG);
    };
    // What is written is written, even if this could fail.
    let _ = conn.batch_execute(&format!("PRAGMA busy_timeout = {timeout}"));
    written
}

/// As [`with`], for what is more than one statement.
///
/// # Errors
/// As [`with`]; and when a transaction is open.
pub(super) fn transaction<T>(
    conn: &mut SqliteConnection,
    mut write: impl FnMut(&mut SqliteConnection) -> Result<T>,
) -> Result<T> {
    with(conn, |conn| conn.immediate_transaction(|conn| write(conn)))
}

fn is_open(conn: &mut SqliteConnection) -> Result<bool> {
    Ok(AnsiTransactionManager::transaction_manager_status_mut(conn).transaction_depth()?.is_some())
}

/// In milliseconds; 0 does not wait.
fn busy_timeout(conn: &mut SqliteConnection) -> Result<i32> {
    let timeouts: Vec<i32> = load!(conn, diesel::sqlite::Sqlite => Integer, "PRAGMA busy_timeout")?;
    Ok(timeouts.first().copied().unwrap_or_default())
}
