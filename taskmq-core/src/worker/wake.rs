//! How an idle worker learns of new messages, as each database can tell it.

use std::time::{Duration, Instant};

use crate::{AnyConnection, Result};

/// The longest that a new message waits where no wake-up came through.
pub(super) const POLL: Duration = Duration::from_secs(1);

/// The longest time between two looks that cost no query.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
const FREE_LOOK: Duration = Duration::from_millis(10);

/// Watches for new messages on the connection that claims them.
#[derive(Debug, Default)]
pub(super) struct Wake {
    #[cfg(feature = "sqlite")]
    data_version: i64,
    last_message: Option<Instant>,
}

impl Wake {
    /// To be called on each new connection.
    #[allow(clippy::unnecessary_wraps, reason = "with some sets of features nothing here can fail")]
    pub(super) fn connect(&mut self, conn: &mut AnyConnection) -> Result<()> {
        match conn {
            #[cfg(feature = "sqlite")]
            AnyConnection::Sqlite(_) => {}
            #[cfg(feature = "postgres")]
            AnyConnection::Postgres(conn) => crate::broker::postgres::listen(conn)?,
            #[cfg(feature = "mysql")]
            AnyConnection::Mysql(_) => {}
        }
        Ok(())
    }

    /// A claim brought messages, so more may follow soon.
    pub(super) fn saw_messages(&mut self) {
        self.last_message = Some(Instant::now());
    }

    /// How long to wait before the next [`look`](Self::look): little while messages come, ever more when it is quiet.
    pub(super) fn interval(&self, conn: &AnyConnection) -> Duration {
        let quiet = self.last_message.map_or(POLL, |last| last.elapsed());
        match conn {
            // Reading a number from shared memory: a few microseconds.
            #[cfg(feature = "sqlite")]
            AnyConnection::Sqlite(_) => (quiet / 16).clamp(Duration::from_micros(250), FREE_LOOK),
            // Reading what has arrived on the socket: no query.
            #[cfg(feature = "postgres")]
            AnyConnection::Postgres(_) => (quiet / 16).clamp(Duration::from_micros(250), FREE_LOOK),
            // Each look is a query.
            #[cfg(feature = "mysql")]
            AnyConnection::Mysql(_) => (quiet / 8).clamp(Duration::from_millis(2), POLL),
        }
    }

    /// Whether there may be new messages.
    pub(super) fn look(&mut self, conn: &mut AnyConnection) -> Result<bool> {
        match conn {
            #[cfg(feature = "sqlite")]
            AnyConnection::Sqlite(conn) => {
                let version = crate::broker::sqlite::data_version(conn)?;
                let changed = version != self.data_version;
                self.data_version = version;
                Ok(changed)
            }
            #[cfg(feature = "postgres")]
            AnyConnection::Postgres(conn) => crate::broker::postgres::notified(conn),
            #[cfg(feature = "mysql")]
            AnyConnection::Mysql(_) => Ok(true),
        }
    }
}
