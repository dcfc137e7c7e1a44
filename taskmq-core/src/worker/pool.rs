use std::sync::Arc;
use std::time::Duration;

use diesel::r2d2::{self, ManageConnection};

use super::patience::{PATIENCE, Patient};
use super::sessions::Sessions;
use crate::database_url::DatabaseUrl;
use crate::{BrokerConnection, Error, Result};

/// Connections for transactional consumers, opened when they are needed. What taskmq itself asks on them has its time,
/// for one on which nothing is answered any more would hold its handler for ever.
pub(super) type Pool = r2d2::Pool<Manager>;

/// A handler that was given up and does not end keeps its connection. Beyond so many of them the others wait for one.
const STRAYS: u32 = 100;

/// Opens connections to whatever database the URL names.
#[derive(Debug)]
pub(super) struct Manager {
    url: DatabaseUrl,
    sessions: Arc<Sessions>,
}

/// For so many handlers at once, and for those that go on though they were given up.
pub(super) fn pool(url: &DatabaseUrl, handlers: usize, sessions: &Arc<Sessions>) -> Result<Pool> {
    r2d2::Pool::builder()
        .max_size(u32::try_from(handlers).unwrap_or(u32::MAX).saturating_add(STRAYS))
        .min_idle(Some(0))
        .connection_timeout(Duration::from_secs(10))
        .build(Manager { url: url.clone(), sessions: Arc::clone(sessions) })
        .map_err(|e| crate::database_url::cannot_connect(url, &e.to_string()))
}

impl ManageConnection for Manager {
    type Connection = Patient;
    type Error = Error;

    fn connect(&self) -> Result<Patient> {
        let mut conn = Patient::establish_for_handlers(&self.url, PATIENCE)?.belong_to(&self.sessions)?;
        // It may take the place of one that was lost, whose session still has the locks that this one will wait for.
        self.sessions.end_abandoned(&mut conn)?;
        // A server that takes connections and no statements (a node of Galera that lost the others) would be asked without
        // a pause: between connections that fail the pool makes one, between those that turn out to be of no use it does not.
        self.is_valid(&mut conn)?;
        Ok(conn)
    }

    fn is_valid(&self, conn: &mut Patient) -> Result<()> {
        conn.call(|conn| conn.broker().schema_version().map(|_| ()))
    }

    /// One on which a handler left a transaction open, or of which nobody knows any more whether it did, is of no use: the next
    /// handler's would be within that, and its commit none.
    fn has_broken(&self, conn: &mut Patient) -> bool {
        let open = conn.local().and_then(|conn| conn.open_transactions());
        !matches!(open, Ok(0)) || std::thread::panicking()
    }
}
