use std::time::Duration;

use diesel::r2d2::{self, ManageConnection};

use crate::database_url::DatabaseUrl;
use crate::{AnyConnection, BrokerConnection, Error, Result};

/// Connections for transactional consumers, opened when they are needed.
pub(super) type Pool = r2d2::Pool<Manager>;

/// Opens connections to whatever database the URL names.
#[derive(Debug)]
pub(super) struct Manager {
    url: DatabaseUrl,
}

pub(super) fn pool(url: &DatabaseUrl, size: usize) -> Result<Pool> {
    r2d2::Pool::builder()
        .max_size(u32::try_from(size).unwrap_or(u32::MAX).max(1))
        .min_idle(Some(0))
        .connection_timeout(Duration::from_secs(10))
        .build(Manager { url: url.clone() })
        .map_err(|e| crate::database_url::cannot_connect(url, &e.to_string()))
}

impl ManageConnection for Manager {
    type Connection = AnyConnection;
    type Error = Error;

    fn connect(&self) -> Result<AnyConnection> {
        AnyConnection::establish(&self.url)
    }

    fn is_valid(&self, conn: &mut AnyConnection) -> Result<()> {
        conn.broker().schema_version().map(|_| ())
    }

    fn has_broken(&self, _conn: &mut AnyConnection) -> bool {
        std::thread::panicking()
    }
}
