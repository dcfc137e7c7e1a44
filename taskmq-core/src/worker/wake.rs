//! How an idle worker learns of new messages, as each database can tell it.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender};

use super::executors::Event;
use super::patience::Patient;
#[cfg(feature = "mysql")]
use super::waiter::Waiter;
use crate::{AnyConnection, Backend, Result};

/// The longest that a new message waits where no wake-up came through.
pub(super) const POLL: Duration = Duration::from_secs(1);

/// The longest time between two looks that cost no query, only to wake up for them;
const FREE_LOOK: Duration = Duration::from_millis(10);
/// and where no message has come for ten seconds.
const RARE_LOOK: Duration = Duration::from_millis(30);
/// The longest time between two looks that do, where the server can be asked to wait.
#[cfg(feature = "mysql")]
const DEAR_LOOK: Duration = Duration::from_millis(8);

/// So many messages a second are many;
#[cfg(feature = "postgres")]
const MANY: f64 = 1000.0;
/// and so many are few.
#[cfg(feature = "postgres")]
const FEW: f64 = 300.0;
/// Over so long they are counted.
#[cfg(feature = "postgres")]
const WINDOW: Duration = Duration::from_millis(100);

/// How many messages come, of late.
#[cfg(feature = "postgres")]
#[derive(Debug)]
struct Flow {
    since: Instant,
    messages: usize,
    per_second: f64,
}

#[cfg(feature = "postgres")]
impl Default for Flow {
    fn default() -> Self {
        Self { since: Instant::now(), messages: 0, per_second: 0.0 }
    }
}

#[cfg(feature = "postgres")]
impl Flow {
    fn add(&mut self, messages: usize) {
        self.messages += messages;
        if self.since.elapsed() >= WINDOW {
            *self = Self {
                per_second: self.messages as f64 / self.since.elapsed().as_secs_f64(),
                ..Self::default()
            };
        }
    }

    /// Of the last window, or of this one if it has more already.
    fn per_second(&self) -> f64 {
        self.per_second.max(self.messages as f64 / WINDOW.as_secs_f64())
    }
}

/// Watches for new messages on the connection that claims them.
#[derive(Debug)]
pub(super) struct Wake {
    #[cfg(feature = "sqlite")]
    data_version: i64,
    last_message: Option<Instant>,
    #[cfg(feature = "mysql")]
    waiter: Waiter,
    /// The server waits for new messages.
    waits: bool,
    #[cfg(feature = "postgres")]
    flow: Flow,
    /// Producers tell of new messages.
    #[cfg(feature = "postgres")]
    resting: bool,
    /// Nobody can tell this worker anything.
    #[cfg(feature = "postgres")]
    deaf: bool,
}

impl Wake {
    #[cfg_attr(not(feature = "mysql"), allow(unused_variables))]
    pub(super) fn new(url: &str, topics: Vec<&'static str>, events: &Sender<Event>) -> Self {
        Self {
            #[cfg(feature = "sqlite")]
            data_version: 0,
            last_message: None,
            #[cfg(feature = "mysql")]
            waiter: Waiter::new(url, topics, events),
            waits: false,
            #[cfg(feature = "postgres")]
            flow: Flow::default(),
            #[cfg(feature = "postgres")]
            resting: false,
            #[cfg(feature = "postgres")]
            deaf: false,
        }
    }

    /// To be called on each new connection.
    #[cfg_attr(
        not(feature = "postgres"),
        allow(unused_variables, clippy::unused_self, clippy::unnecessary_wraps)
    )]
    pub(super) fn connect(&mut self, conn: &mut Patient) -> Result<()> {
        #[cfg(feature = "postgres")]
        if conn.backend() == Backend::Postgres {
            self.resting = false;
            self.deaf = !conn.has_own_session();
            if !self.deaf {
                conn.call(on_postgres(crate::broker::postgres::listen))?;
            }
        }
        Ok(())
    }

    /// A claim brought so many messages.
    pub(super) fn saw(&mut self, messages: usize) {
        if messages > 0 {
            self.last_message = Some(Instant::now());
        }
        #[cfg(feature = "postgres")]
        self.flow.add(messages);
    }

    /// Before a look for messages that are due: while few come, producers are to tell of more. While many come a worker
    /// had better look by itself, for on PostgreSQL telling makes producers wait for each other.
    #[cfg_attr(
        not(feature = "postgres"),
        allow(unused_variables, clippy::unused_self, clippy::unnecessary_wraps)
    )]
    pub(super) fn rest_or_rise(&mut self, conn: &mut Patient) -> Result<()> {
        #[cfg(feature = "postgres")]
        if conn.backend() == Backend::Postgres && !self.deaf {
            if !self.resting && self.flow.per_second() < FEW {
                conn.call(on_postgres(crate::broker::postgres::rest))?;
                self.resting = true;
            } else if self.resting && self.flow.per_second() > MANY {
                conn.call(on_postgres(crate::broker::postgres::rise))?;
                self.resting = false;
            }
        }
        Ok(())
    }

    /// Before a wait for messages.
    #[cfg_attr(not(feature = "mysql"), allow(unused_variables, clippy::unused_self))]
    pub(super) fn prepare(&mut self, backend: Backend) {
        #[cfg(feature = "mysql")]
        if backend == Backend::Mysql {
            self.waits = self.quiet() / 8 > DEAR_LOOK && self.waiter.wait();
        }
    }

    /// A worker that has seen no message yet waits as one that has not seen any for long.
    fn quiet(&self) -> Duration {
        self.last_message.map_or(16 * POLL, |last| last.elapsed())
    }

    /// How long to wait before the next [`look`](Self::look): little while messages come, ever more when it is quiet.
    pub(super) fn interval(&self, backend: Backend) -> Duration {
        let quiet = self.quiet();
        match backend {
            #[cfg(feature = "postgres")]
            Backend::Postgres if self.deaf => query_after(quiet),
            #[cfg(feature = "postgres")]
            Backend::Postgres if !self.resting => Duration::from_millis(2),
            // Reading a number from shared memory, or what has arrived on the socket: a few microseconds, and no query.
            Backend::Sqlite | Backend::Postgres => {
                let longest = (quiet / 400).clamp(FREE_LOOK, RARE_LOOK);
                (quiet / 32).clamp(Duration::from_micros(150), longest)
            }
            Backend::Mysql if self.waits => POLL,
            Backend::Mysql => query_after(quiet),
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
            AnyConnection::Postgres(conn) => Ok(crate::broker::postgres::notified(conn)? || !self.resting),
            #[cfg(feature = "mysql")]
            AnyConnection::Mysql(_) => Ok(true),
        }
    }
}

/// What comes until then. `recv_deadline` goes on trying for a while before it sleeps and when it wakes up, which pays where
/// something is about to come; here that is most of what an idle worker would cost.
pub(super) fn sleep_for<T>(events: &Receiver<T>, until: Instant) -> Option<T> {
    let mut select = Select::new();
    select.recv(events);
    select.select_deadline(until).ok()?.recv(events).ok()
}

/// Where each look is a query.
fn query_after(quiet: Duration) -> Duration {
    (quiet / 8).clamp(Duration::from_millis(2), POLL)
}

/// What only PostgreSQL can be asked.
#[cfg(feature = "postgres")]
fn on_postgres(
    ask: fn(&mut diesel::PgConnection) -> Result<()>,
) -> impl FnOnce(&mut AnyConnection) -> Result<()> + Send + 'static {
    move |conn| match conn {
        AnyConnection::Postgres(conn) => ask(conn),
        #[allow(unreachable_patterns, reason = "when PostgreSQL is the only database")]
        _ => Ok(()),
    }
}
