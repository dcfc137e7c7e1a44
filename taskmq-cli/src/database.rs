//! A connection to the queue, checked to be one that this program works with.

use diesel::{QueryDsl, RunQueryDsl};
use taskmq_core::{AnyConnection, BrokerConnection, Error, migration};

use crate::error::Result;

pub(crate) fn connect(url: Option<&str>) -> Result<AnyConnection> {
    let url = url.ok_or(Error::NoDatabaseUrl)?;
    let mut conn = AnyConnection::establish(url)?;
    let found = conn.broker().schema_version()?;
    if found != migration::SCHEMA_VERSION {
        return Err(Error::SchemaVersion { found, needed: migration::SCHEMA_VERSION }.into());
    }
    Ok(conn)
}

diesel::table! {
    taskmq_workers (id) {
        id -> BigInt,
        topics -> Text,
    }
}

/// What each running worker consumes.
pub(crate) fn topics_of_workers(conn: &mut AnyConnection) -> Result<Vec<Vec<String>>> {
    let query = taskmq_workers::table.select(taskmq_workers::topics);
    let workers: Vec<String> = match conn {
        #[cfg(feature = "sqlite")]
        AnyConnection::Sqlite(conn) => query.load(conn)?,
        #[cfg(feature = "postgres")]
        AnyConnection::Postgres(conn) => query.load(conn)?,
        #[cfg(feature = "mysql")]
        AnyConnection::Mysql(conn) => query.load(conn)?,
        _ => Vec::new(),
    };
    Ok(workers.iter().map(|topics| topics.split(',').map(str::to_owned).collect()).collect())
}
