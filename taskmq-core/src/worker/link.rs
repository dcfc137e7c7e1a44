//! The dispatching thread's way to the database.

use std::sync::Arc;
use std::time::Duration;

use super::patience::{Patient, Pending};
use super::sessions::Sessions;
use crate::broker::{BatchId, Broker, Claim, Exchanged, Position, Settlement, Share, WorkerIdentity};
use crate::{AnyConnection, Backend, BrokerConnection, Error, MessageId, Result};

/// From so many settlements on, settling and claiming at the same time is worth a second connection.
const MANY: usize = 200;

/// One connection, and a second one while there is much to do.
pub(super) struct Link {
    url: String,
    conn: Patient,
    second: Option<Patient>,
    patience: Duration,
    sessions: Arc<Sessions>,
}

/// Settlements that are being written.
pub(super) struct Settling(Pending<Exchanged>);

/// A claim that owns what it is about.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) worker_id: i64,
    pub(super) topics: Vec<Share<'static>>,
    pub(super) limit: i64,
    pub(super) as_batch: bool,
    pub(super) after: Vec<Position>,
}

impl Order {
    fn claim(&self) -> Claim<'_> {
        let Order { worker_id, ref topics, limit, as_batch, ref after } = *self;
        Claim { worker_id, topics, limit, as_batch, after }
    }
}

impl Link {
    pub(super) fn establish(url: &str, patience: Duration, sessions: &Arc<Sessions>) -> Result<Self> {
        let conn = Patient::establish(url, patience)?.belong_to(sessions)?;
        Ok(Self { url: url.to_owned(), conn, second: None, patience, sessions: Arc::clone(sessions) })
    }

    pub(super) fn backend(&self) -> Backend {
        self.conn.backend()
    }

    /// How long the server may take for each further answer.
    pub(super) fn wait_at_most(&mut self, patience: Duration) {
        self.patience = patience;
        self.conn.wait_at_most(patience);
        #[cfg(feature = "sqlite")]
        #[allow(irrefutable_let_patterns, reason = "when SQLite is the only database")]
        if let Ok(AnyConnection::Sqlite(conn)) = self.conn.local() {
            let _ = crate::broker::sqlite::wait_for_lock(conn, patience);
        }
        self.second = None;
    }

    /// The connection that claims.
    pub(super) fn conn(&mut self) -> &mut Patient {
        &mut self.conn
    }

    /// Does one operation of the queue.
    pub(super) fn call<T: Send + 'static>(
        &mut self,
        operation: impl FnOnce(&mut dyn Broker) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.conn.call(|conn| operation(conn.broker()))
    }

    /// See [`Broker::exchange`]. A server does its two halves side by side when they are large, and what is claimed is here
    /// while the rest is still being [settled](Self::settled). SQLite has one writer.
    pub(super) fn exchange(
        &mut self,
        worker: &Arc<WorkerIdentity>,
        settlements: Vec<Settlement>,
        ended: Vec<BatchId>,
        order: Option<Order>,
    ) -> Result<(Exchanged, Option<Settling>)> {
        let worker = Arc::clone(worker);
        let both = settlements.len() >= MANY && self.backend() != Backend::Sqlite;
        let order = match order {
            Some(order) if both => order,
            order => {
                let exchanged = self.call(move |broker| {
                    let claim = order.as_ref().map(Order::claim);
                    let mut exchanged = broker.exchange(&worker, &settlements, &ended, claim.as_ref())?;
                    broker.fetch_payloads(&mut exchanged.claimed)?;
                    Ok(exchanged)
                });
                return Ok((exchanged?, None));
            }
        };
        let second = match &mut self.second {
            Some(second) => second,
            second => {
                let conn = Patient::establish(&self.url, self.patience)?;
                second.insert(conn.belong_to(&self.sessions)?)
            }
        };
        let claimer = Arc::clone(&worker);
        let settling = Settling(second.begin(move |conn: &mut AnyConnection| {
            conn.broker().exchange(&worker, &settlements, &ended, None)
        })?);
        let claimed = self.conn.call(move |conn| {
            let mut exchanged = conn.broker().exchange(&claimer, &[], &[], Some(&order.claim()))?;
            conn.broker().fetch_payloads(&mut exchanged.claimed)?;
            Ok(exchanged)
        });
        match claimed {
            Ok(claimed) => Ok((claimed, Some(settling))),
            Err(error) => self.settled(settling).and(Err(error)),
        }
    }

    /// Waits until they are written; gives those whose leases were lost.
    pub(super) fn settled(&mut self, settling: Settling) -> Result<Vec<MessageId>> {
        let second = self.second.as_mut().ok_or_else(|| Error::Configuration("not connected".to_owned()))?;
        Ok(second.end(settling.0)?.lost)
    }
}
