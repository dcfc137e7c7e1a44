//! The dispatching thread's way to the database.

use std::thread;

use crate::broker::{BatchId, Broker, Claim, Exchanged, Settlement, WorkerIdentity};
use crate::{AnyConnection, Backend, BrokerConnection, Error, Result};

/// From so many settlements on, settling and claiming at the same time is worth a second connection.
const MANY: usize = 200;

/// One connection, and a second one while there is much to do.
pub(super) struct Link {
    url: String,
    pub(super) conn: AnyConnection,
    second: Option<AnyConnection>,
}

impl Link {
    pub(super) fn establish(url: &str) -> Result<Self> {
        Ok(Self { url: url.to_owned(), conn: AnyConnection::establish_for_worker(url)?, second: None })
    }

    pub(super) fn broker(&mut self) -> &mut dyn Broker {
        self.conn.broker()
    }

    /// See [`Broker::exchange`]. A server does its two halves side by side when they are large; SQLite has one writer.
    pub(super) fn exchange(
        &mut self,
        worker: &WorkerIdentity,
        settlements: &[Settlement],
        ended: &[BatchId],
        claim: Option<&Claim<'_>>,
    ) -> Result<Exchanged> {
        let Some(both) =
            claim.filter(|_| settlements.len() >= MANY && self.conn.backend() != Backend::Sqlite)
        else {
            return self.conn.broker().exchange(worker, settlements, ended, claim);
        };
        let second = match &mut self.second {
            Some(second) => second,
            second => second.insert(AnyConnection::establish_for_worker(&self.url)?),
        };
        let conn = &mut self.conn;
        let (settled, claimed) = thread::scope(|scope| {
            let settling = scope.spawn(|| second.broker().exchange(worker, settlements, ended, None));
            let claimed = conn.broker().claim(both);
            (settling.join(), claimed)
        });
        let panicked = |_| Error::Configuration("the thread that settles panicked".to_owned());
        // If only the claim came through, its messages are handed back once the connection is made anew.
        let settled = settled.map_err(panicked)??;
        Ok(Exchanged { claimed: claimed?, ..settled })
    }
}
