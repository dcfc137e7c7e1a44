//! A connection to the queue, checked to be one that this program works with.

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
