#[cfg(feature = "worker")]
use std::num::NonZeroU32;

#[cfg(feature = "worker")]
use diesel::connection::TransactionManager;

use crate::Backend;
use crate::broker::Broker;

/// A connection of the host on which messages can be produced: Diesel's three, pooled ones, and any type of the
/// host's own that can lend one of these.
///
/// ```
/// # #[cfg(feature = "sqlite")] mod m {
/// use taskmq_core::{BrokerConnection, broker::Broker};
///
/// struct Db { main: diesel::SqliteConnection, requests: u64 }
///
/// impl BrokerConnection for Db {
///     fn broker(&mut self) -> &mut dyn Broker { &mut self.main }
/// }
/// # }
/// ```
pub trait BrokerConnection {
    /// The operations of the queue on this connection, inside its transaction if it has one open.
    fn broker(&mut self) -> &mut dyn Broker;
}

#[cfg(feature = "sqlite")]
impl BrokerConnection for diesel::SqliteConnection {
    fn broker(&mut self) -> &mut dyn Broker {
        self
    }
}

#[cfg(feature = "postgres")]
impl BrokerConnection for diesel::PgConnection {
    fn broker(&mut self) -> &mut dyn Broker {
        self
    }
}

#[cfg(feature = "mysql")]
impl BrokerConnection for diesel::MysqlConnection {
    fn broker(&mut self) -> &mut dyn Broker {
        self
    }
}

#[cfg(feature = "worker")]
impl<M> BrokerConnection for diesel::r2d2::PooledConnection<M>
where
    M: diesel::r2d2::ManageConnection,
    M::Connection: BrokerConnection,
{
    fn broker(&mut self) -> &mut dyn Broker {
        (**self).broker()
    }
}

impl<C: BrokerConnection + ?Sized> BrokerConnection for &mut C {
    fn broker(&mut self) -> &mut dyn Broker {
        (**self).broker()
    }
}

/// A connection whose database is chosen at run time, by its URL.
#[allow(missing_debug_implementations, reason = "Diesel's connections have none")]
#[non_exhaustive]
pub enum AnyConnection {
    /// To SQLite.
    #[cfg(feature = "sqlite")]
    Sqlite(diesel::SqliteConnection),
    /// To PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(diesel::PgConnection),
    /// To MariaDB or MySQL.
    #[cfg(feature = "mysql")]
    Mysql(diesel::MysqlConnection),
}

/// So long the transaction of a worker may do nothing.
#[cfg(feature = "worker")]
#[cfg_attr(not(any(feature = "postgres", feature = "mysql")), allow(dead_code))]
const STALLED: std::time::Duration = std::time::Duration::from_secs(5);

impl AnyConnection {
    /// Opens a connection set up as the queue needs it: SQLite in WAL mode, waiting up to 30 s for the write lock, PostgreSQL with
    /// keepalives, PostgreSQL, MariaDB and MySQL with `READ COMMITTED` whatever their default is, all in UTC.
    ///
    /// # Errors
    /// [`Error::Connect`](crate::Error::Connect) with the driver's words and without the password,
    /// [`Error::BackendMissing`](crate::Error::BackendMissing) when this program was built without that database.
    pub fn establish(url: &str) -> crate::Result<Self> {
        match Backend::of_url(url)? {
            #[cfg(feature = "sqlite")]
            Backend::Sqlite => crate::broker::sqlite::connect(url).map(Self::Sqlite),
            #[cfg(feature = "postgres")]
            Backend::Postgres => crate::broker::postgres::connect(url).map(Self::Postgres),
            #[cfg(feature = "mysql")]
            Backend::Mysql => crate::broker::mysql::connect(url).map(Self::Mysql),
            #[allow(unreachable_patterns, reason = "reached when a feature is off")]
            missing => Err(crate::Error::BackendMissing(missing)),
        }
    }

    /// As [`establish`](Self::establish), for claiming and settling: SQLite's write lock is waited for no longer than 5 s, a server
    /// ends a transaction in which nothing is done for as long (MySQL cannot), and on PostgreSQL every statement goes by an index, whatever the
    /// statistics say. Neither is set where it would be set for others too: see
    /// [`has_own_session`](Self::has_own_session).
    ///
    /// # Errors
    /// As [`establish`](Self::establish).
    #[cfg(feature = "worker")]
    pub fn establish_for_worker(url: &str) -> crate::Result<Self> {
        let mut conn = Self::establish(url)?;
        match &mut conn {
            #[cfg(feature = "sqlite")]
            // A worker that cannot write tries again by itself, and in between it has to see whether it is to stop.
            Self::Sqlite(conn) => crate::broker::sqlite::wait_for_lock(conn, STALLED)?,
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => {
                if crate::broker::postgres::has_own_session(conn)? {
                    crate::broker::postgres::plan_by_index(conn)?;
                    crate::broker::postgres::end_stalled_transactions(conn, STALLED)?;
                }
            }
            #[cfg(feature = "mysql")]
            Self::Mysql(conn) => crate::broker::mysql::end_stalled_transactions(conn, STALLED),
        }
        Ok(conn)
    }

    /// Whether the server's session is this connection's alone. It is not behind a pooler of PostgreSQL such as
    /// pgbouncer, whatever its mode: there taskmq prepares no statements, takes no session's locks, listens for
    /// nothing and changes no setting beyond a transaction.
    ///
    /// # Errors
    /// What the database reports.
    pub fn has_own_session(&mut self) -> crate::Result<bool> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => crate::broker::postgres::has_own_session(conn),
            #[allow(unreachable_patterns, reason = "when PostgreSQL is the only database")]
            _ => Ok(true),
        }
    }

    /// Whether a lock on a row excludes everybody else: on a Galera cluster each node has its own.
    #[cfg(feature = "worker")]
    pub(crate) fn has_locks_of_all(&mut self) -> crate::Result<bool> {
        match self {
            #[cfg(feature = "mysql")]
            Self::Mysql(conn) => Ok(!crate::broker::mysql::is_galera(conn)?),
            #[allow(unreachable_patterns, reason = "when MariaDB is the only database")]
            _ => Ok(true),
        }
    }

    /// How many transactions are open on it, each within the one before.
    ///
    /// # Errors
    /// When nobody knows any more.
    #[cfg(feature = "worker")]
    pub(crate) fn open_transactions(&mut self) -> crate::Result<u32> {
        fn of<C: diesel::Connection>(conn: &mut C) -> crate::Result<u32> {
            let status = C::TransactionManager::transaction_manager_status_mut(conn);
            Ok(status.transaction_depth()?.map_or(0, NonZeroU32::get))
        }
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(conn) => of(conn),
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => of(conn),
            #[cfg(feature = "mysql")]
            Self::Mysql(conn) => of(conn),
        }
    }

    /// Does everything that `ask` asks in one transaction, which has the settings that a worker's session would have.
    #[cfg(feature = "worker")]
    pub(crate) fn without_session<T>(
        &mut self,
        ask: impl FnOnce(&mut Self) -> crate::Result<T>,
    ) -> crate::Result<T> {
        #[cfg(feature = "postgres")]
        #[allow(irrefutable_let_patterns, reason = "when PostgreSQL is the only database")]
        if let Self::Postgres(conn) = self {
            crate::broker::postgres::begin_planned(conn, STALLED)?;
        } else {
            return ask(self);
        }
        let answer = ask(self);
        if answer.is_ok() {
            self.broker().commit()?;
        } else {
            // The first error is the one to tell.
            let _ = self.broker().rollback();
        }
        answer
    }

    /// Which database it is connected to.
    pub fn backend(&self) -> Backend {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => Backend::Sqlite,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => Backend::Postgres,
            #[cfg(feature = "mysql")]
            Self::Mysql(_) => Backend::Mysql,
        }
    }
}

impl BrokerConnection for AnyConnection {
    fn broker(&mut self) -> &mut dyn Broker {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(conn) => conn,
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => conn,
            #[cfg(feature = "mysql")]
            Self::Mysql(conn) => conn,
        }
    }
}
