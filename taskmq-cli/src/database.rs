//! A connection to the queue, checked to be one that this program works with.

use taskmq_core::{AnyConnection, BrokerConnection, Error, migration};

use crate::error::Result;

/// Far more workers than a database has connections for.
pub(crate) const WORKERS: i64 = 100_000;

pub(crate) fn connect(url: Option<&str>) -> Result<AnyConnection> {
    let url = url.ok_or(Error::NoDatabaseUrl)?;
    let mut conn = AnyConnection::establish(url)?;
    let found = conn.broker().schema_version()?;
    if found != migration::SCHEMA_VERSION {
        return Err(Error::SchemaVersion { found, needed: migration::SCHEMA_VERSION }.into());
    }
    Ok(conn)
}

/// What each worker that lives consumes.
pub(crate) fn topics_of_workers(conn: &mut AnyConnection) -> Result<Vec<Vec<String>>> {
    let workers = conn.broker().workers(WORKERS)?;
    let alive = workers.iter().filter(|worker| worker.alive);
    Ok(alive.map(|worker| worker.topics.split(',').map(str::to_owned).collect()).collect())
}
