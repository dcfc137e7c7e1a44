//! Connections as taskmq sets them up, and transactions that are run again when two stood in each other's way.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::Text;

use crate::broker::again::again;
use crate::statement::load;
use crate::{Result, database_url};

pub(crate) fn connect(url: &str) -> Result<MysqlConnection> {
    let failed = |reason: String| database_url::cannot_connect(url, &reason);
    let mut conn = MysqlConnection::establish(url).map_err(|e| failed(e.to_string()))?;
    // READ COMMITTED: gap locks of the default would make claims and producers deadlock.
    conn.batch_execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        .and_then(|()| conn.batch_execute("SET SESSION time_zone = '+00:00'"))
        .map_err(|e| failed(e.to_string()))?;
    if is_galera(&mut conn).map_err(|e| failed(e.to_string()))? {
        // Each read sees all that was committed before it on any node: who connects anew may be on another one.
        conn.batch_execute("SET SESSION wsrep_sync_wait = 1").map_err(|e| failed(e.to_string()))?;
    }
    Ok(conn)
}

/// Whether the server is one of several nodes that each take writes. Locks are a node's own there, those on rows too;
/// what two transactions both write is refused to one of them, as a deadlock, when it commits.
pub(crate) fn is_galera(conn: &mut MysqlConnection) -> Result<bool> {
    let found: Vec<(String, String)> =
        load!(conn, Mysql => (Text, Text), "SHOW SESSION VARIABLES LIKE 'wsrep_on'")?;
    Ok(found.iter().any(|(_, value)| value == "ON"))
}

/// Lets the server drop this session when it says nothing for the length of a lease, whatever became of its client.
pub(crate) fn drop_when_silent(conn: &mut MysqlConnection, lease: Duration) -> Result<()> {
    conn.batch_execute(&format!("SET SESSION wait_timeout = {}", lease.as_secs().max(1)))?;
    Ok(())
}

/// A worker that is stopped in the middle of a transaction must not keep its locks: all others wait for them.
#[cfg(feature = "worker")]
pub(crate) fn end_stalled_transactions(conn: &mut MysqlConnection, after: Duration) {
    // MySQL has no such setting.
    if let Err(error) =
        conn.batch_execute(&format!("SET SESSION idle_transaction_timeout = {}", after.as_secs().max(1)))
    {
        tracing::debug!("the server will not end stalled transactions: {error}");
    }
}

/// Waits in `run` for no row for longer than a second, and tries nothing again.
pub(super) fn without_patience<T>(
    conn: &mut MysqlConnection,
    run: impl FnOnce(&mut MysqlConnection) -> Result<T>,
) -> Result<T> {
    conn.batch_execute("SET SESSION innodb_lock_wait_timeout = 1")?;
    let ran = run(conn);
    let restored = conn.batch_execute("SET SESSION innodb_lock_wait_timeout = DEFAULT");
    let ran = ran?; // what went wrong first is what is told
    restored?;
    Ok(ran)
}

/// A transaction that is run again when InnoDB chose it as the victim of a deadlock.
pub(super) fn transaction<T>(
    conn: &mut MysqlConnection,
    mut run: impl FnMut(&mut MysqlConnection) -> Result<T>,
) -> Result<T> {
    again(conn, |conn| conn.transaction(&mut run))
}
