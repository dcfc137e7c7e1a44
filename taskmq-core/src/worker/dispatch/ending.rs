//! The end of a worker that was told to stop.

use std::time::{Duration, Instant};

use super::Dispatcher;
use crate::worker::{Ended, Held};
use crate::{Error, Result};

impl Dispatcher<'_> {
    /// Hands back what has not begun, and gives what runs its time.
    pub(super) fn shut_down(&mut self) -> Result<Ended> {
        // It may have come while a server did not answer.
        let told = self.setup.stop.since().unwrap_or_else(Instant::now);
        let deadline = told + self.setup.shutdown_timeout;
        self.be_impatient();
        self.hand_back(self.executors.take_unbegun());
        if !self.handed_back.is_empty() {
            tracing::info!("handed back {} messages that had not begun", self.handed_back.len());
        }
        loop {
            self.setup.pulse.turn();
            if self.retry_at.is_none_or(|at| at <= Instant::now()) {
                let written =
                    self.connect().and_then(|()| self.note_blame()).and_then(|()| self.exchange(None));
                match written {
                    Ok(_) => self.database_is_back(),
                    Err(error) => self.fail(&error),
                }
            }
            if self.liveness.is_lost() {
                return Err(Error::WorkerLost);
            }
            if self.holdings.is_empty() {
                return Ok(Ended::Finished);
            }
            if Instant::now() >= deadline || self.setup.stop.is_at_once() {
                break;
            }
            self.measure();
            let next = Instant::now() + Duration::from_millis(100);
            if let Ok(event) = self.events.recv_deadline(next.min(deadline)) {
                self.take(event);
                for event in self.events.try_iter().collect::<Vec<_>>() {
                    self.take(event);
                }
            }
            self.executors.watch(&self.pace)?;
        }
        self.executors.give_up();
        // What ended while the last outcomes were written.
        for event in self.events.try_iter().collect::<Vec<_>>() {
            self.take(event);
        }
        let ended: Held = self.finished.iter().map(|finished| finished.id).collect();
        self.handed_back.clear();
        self.hand_back(self.holdings.messages().into_iter().filter(|id| !ended.contains(id)).collect());
        // If this fails too, the messages are rescued as those of a dead worker.
        self.be_impatient();
        let _ = self.exchange(None);
        Ok(Ended::LeftRunning)
    }
}
