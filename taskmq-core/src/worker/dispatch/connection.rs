//! The connection, and what to do when it is lost.

use std::time::{Duration, Instant};

use super::{Dispatcher, FIRST_PAUSE, link_of};
use crate::worker::link::Link;
use crate::worker::patience;
use crate::{Error, Result};

/// The longest pause before a new try to reach a database: whoever waits for the worker after an outage waits two
/// seconds at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(1300);
/// A database is back when it has done all that it was asked for so long. One whose disk is full still stores this and
/// that, and one that ends sessions takes new ones: each time may be said once, and not each failure.
const CALM: Duration = Duration::from_secs(1);
/// So long a worker that ends waits for an answer.
const IMPATIENCE: Duration = Duration::from_secs(1);
/// After so many tries that the server did not answer, some two minutes, there is less hurry.
const MANY_SILENCES: u32 = 25;

impl Dispatcher<'_> {
    pub(super) fn connect(&mut self) -> Result<()> {
        if self.link.is_none() {
            let mut link = Link::establish(&self.setup.database_url, self.patience, &self.sessions)?;
            if self.connection_lost {
                self.setup.meters.dispatch.reconnects.increment(1);
            }
            self.wake.connect(link.conn())?;
            self.link = Some(link);
        }
        if self.reconciled.is_none() { self.reconcile() } else { Ok(()) }
    }

    /// Only what was written tells it: a database that takes no writes (its disk is full, it was made read-only) can
    /// be connected to and read.
    pub(super) fn database_is_back(&mut self) {
        self.retry_at = None;
        if self.failed.take_if(|failed| failed.elapsed() > CALM).is_some() {
            tracing::info!("the database is back");
            self.reconnect_delay = FIRST_PAUSE;
        }
    }

    /// It may have done what it failed at: a reply was lost with the connection, and what it asked for may even come
    /// about later.
    pub(super) fn reconcile(&mut self) -> Result<()> {
        let known = self.holdings.attempts();
        let worker_id = self.worker.id;
        let link = link_of(&mut self.link)?;
        self.sessions.end_abandoned(link.conn())?;
        let leases = link.call(move |broker| broker.reconcile(worker_id, &known))?;
        self.holdings.held_as(&leases);
        self.noted = None;
        self.reconciled = Some(Instant::now());
        self.maybe_due = true; // it has given back what it did not know
        Ok(())
    }

    /// The database did not do what it was asked to. It is asked again.
    pub(super) fn fail(&mut self, error: &Error) {
        self.setup.meters.dispatch.errors.increment(1);
        self.reconciled = None;
        let is_new = self.failed.replace(Instant::now()).is_none();
        if matches!(error, Error::Locked(_)) {
            if is_new {
                tracing::warn!(
                    "the SQLite database has been locked by another writer for seconds, trying again until it is free: \
                     some program keeps a transaction open, or the disk is slow"
                );
            }
            // There is nothing wrong with the connection, and it has waited its time.
            self.retry_at = Some(Instant::now() + FIRST_PAUSE.mul_f64(0.5 + fastrand::f64()));
            return;
        }
        if is_new {
            tracing::error!("the database cannot be used, trying again until it can: {error}");
        }
        self.lose_connection(error);
    }

    fn lose_connection(&mut self, error: &Error) {
        let connected = self.link.take().is_some();
        self.connection_lost = true;
        let delay = if matches!(error, Error::Silent(_)) {
            if connected && !self.setup.stop.is_stopping() {
                self.patience = patience::more(self.patience); // it may only be slow
            }
            self.silences += 1;
            // Each silence took its time already, but leaves a thread behind that waits for its end.
            if self.silences < MANY_SILENCES { Duration::from_millis(500) } else { Duration::from_secs(60) }
        } else {
            self.reconnect_delay
        };
        // Jitter, so that many workers do not come back all at once.
        self.retry_at = Some(Instant::now() + delay.mul_f64(0.5 + fastrand::f64()));
        self.reconnect_delay = (self.reconnect_delay * 2).min(LONGEST_PAUSE);
    }

    /// A server that does not answer must not keep a worker from ending.
    pub(super) fn be_impatient(&mut self) {
        self.retry_at = self.retry_at.and(Some(Instant::now()));
        self.reconnect_delay = FIRST_PAUSE;
        self.patience = IMPATIENCE;
        if let Some(link) = &mut self.link {
            link.wait_at_most(IMPATIENCE);
        }
    }
}
