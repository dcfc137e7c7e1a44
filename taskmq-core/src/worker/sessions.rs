//! The server's sessions of a worker. One may live on there when its connection is gone here: what lies between drops
//! everything, and nobody tells the server. It keeps its transaction open then, and its locks, for which the whole queue
//! may wait. So each is marked, and ended by whoever comes after it: its own worker on a new connection, or the one that
//! rescues what a dead worker held.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::patience::Patient;
use crate::broker::{Broker, SessionId};
use crate::{BrokerConnection, Result};

/// Those that a worker has connections to.
#[derive(Debug)]
pub(super) struct Sessions {
    worker_id: i64,
    open: Mutex<HashSet<SessionId>>,
}

/// One of them, for as long as there is a connection to it.
#[derive(Debug)]
pub(super) struct Session {
    id: SessionId,
    among: Arc<Sessions>,
}

impl Sessions {
    pub(super) fn of(worker_id: i64) -> Arc<Self> {
        Arc::new(Self { worker_id, open: Mutex::default() })
    }

    /// Marks the session of a new connection. `None` where it cannot be told from others.
    pub(super) fn open(self: &Arc<Self>, conn: &mut Patient) -> Result<Option<Session>> {
        let Some(id) = conn.call(|conn| conn.broker().session())? else { return Ok(None) };
        // Counted before it is marked: what is marked and not counted is ended.
        let session = Session { id, among: Arc::clone(self) };
        self.ids().insert(id);
        let worker_id = self.worker_id;
        conn.call(move |conn| conn.broker().mark_session(worker_id))?;
        Ok(Some(session))
    }

    /// Ends those to which there is no connection any more.
    pub(super) fn end_abandoned(self: &Arc<Self>, conn: &mut Patient) -> Result<()> {
        let sessions = Arc::clone(self);
        conn.call(move |conn| {
            end(conn.broker(), sessions.worker_id, |id| !sessions.ids().contains(&id));
            Ok(())
        })
    }

    fn ids(&self) -> std::sync::MutexGuard<'_, HashSet<SessionId>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.among.ids().remove(&self.id);
    }
}

/// Ends all of a worker's sessions.
pub(super) fn end_all(broker: &mut dyn Broker, worker_id: i64) {
    end(broker, worker_id, |_| true);
}

/// Ends those of which this is so after they were found: one that is opened meanwhile is not among them. Where that is not
/// allowed (another user's sessions), the server ends them in its own time.
fn end(broker: &mut dyn Broker, worker_id: i64, is_over: impl Fn(SessionId) -> bool) {
    let ended = broker.marked_sessions(worker_id).and_then(|mut found| {
        found.retain(|id| is_over(*id));
        if !found.is_empty() {
            broker.end_sessions(worker_id, &found)?;
        }
        Ok(found.len())
    });
    match ended {
        Ok(0) => {}
        Ok(ended) => {
            tracing::debug!("{ended} sessions of worker {worker_id:016x} that nobody used were ended")
        }
        Err(error) => tracing::debug!("sessions of worker {worker_id:016x} cannot be ended: {error}"),
    }
}
