//! Connections for whoever looks and whoever changes. They block, so each question runs on a thread that may.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use taskmq_core::broker::Broker;
use taskmq_core::{AnyConnection, BrokerConnection, Error, migration};
use tokio::sync::Semaphore;

use crate::problem::Problem;

/// No statement may take longer.
const STATEMENT: Duration = Duration::from_secs(2);

/// Nobody waits longer for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// A few connections that are opened when they are needed.
pub(crate) struct Pool {
    url: String,
    read_only: bool,
    idle: Arc<Mutex<Vec<AnyConnection>>>,
    free: Arc<Semaphore>,
}

impl Pool {
    pub(crate) fn new(url: &str, read_only: bool, size: usize) -> Self {
        let free = Arc::new(Semaphore::new(size));
        Self { url: url.to_owned(), read_only, idle: Arc::default(), free }
    }

    /// Asks the queue. A connection that gave an error is not used again.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut dyn Broker) -> taskmq_core::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let free = Arc::clone(&self.free).acquire_owned();
        let Ok(Ok(turn)) = tokio::time::timeout(PATIENCE, free).await else { return Err(Problem::Busy) };
        let (idle, url, read_only) = (Arc::clone(&self.idle), self.url.clone(), self.read_only);
        let answer = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut conn = match kept {
                Some(conn) => conn,
                None => open(&url, read_only)?,
            };
            let answer = question(conn.broker())?;
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
            Ok::<T, Error>(answer)
        });
        match answer.await {
            Ok(answer) => answer.map_err(Problem::from),
            Err(_) => Err(Problem::Busy),
        }
    }
}

fn open(url: &str, read_only: bool) -> taskmq_core::Result<AnyConnection> {
    let mut conn = AnyConnection::establish(url)?;
    let found = conn.broker().schema_version()?;
    if found != migration::SCHEMA_VERSION {
        return Err(Error::SchemaVersion { found, needed: migration::SCHEMA_VERSION });
    }
    conn.broker().restrict(STATEMENT, read_only)?;
    Ok(conn)
}

/// A connection that is its broker already.
pub(crate) struct On<'a>(pub(crate) &'a mut dyn Broker);

impl BrokerConnection for On<'_> {
    fn broker(&mut self) -> &mut dyn Broker {
        self.0
    }
}
