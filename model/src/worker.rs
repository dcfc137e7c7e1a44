//! A worker's process: what it believes to hold, and its ways to the database.

use crate::actions::Returned;
use crate::broker::{Known, Outcome, Settlement};
use crate::server::{BatchId, WorkerId};
use crate::sets::Ids;
use crate::{MESSAGES, MessageId};

/// Whether a process works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Life {
    /// It claims and runs messages.
    Running,
    /// It was told to stop.
    Stopping,
    /// It is no more.
    Gone,
}

/// A message that a process has claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// The attempt.
    pub attempt: u8,
    /// The batch whose lease it shares, as far as is known here.
    pub batch: Option<BatchId>,
    /// How it ended, if it has. Whether it has begun before makes no difference to anybody.
    pub ended: Option<Outcome>,
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Whether it works.
    pub life: Life,
    /// It is stopped, asleep or cut off. To the others that is all the same.
    pub paused: bool,
    /// It was paused since its liveness thread last reached the database, so being given up is no wrong.
    pub excused: bool,
    /// The id that it has now.
    pub worker: Option<WorkerId>,
    /// What it holds.
    pub held: [Option<Held>; MESSAGES],
    /// The message that it holds, or held, is all it may run.
    pub alone: bool,
    /// The dispatching thread is connected.
    pub linked: bool,
    /// The last time that outcomes were written, it failed. Only with [`Bug::SuccessReportedAsFailure`].
    ///
    /// [`Bug::SuccessReportedAsFailure`]: crate::Bug::SuccessReportedAsFailure
    pub failed_before: bool,
    /// The liveness thread is connected.
    pub watching: bool,
    /// A handler of a worker that was given up runs on, with this message.
    pub stray: Option<MessageId>,
}

impl Process {
    /// None yet, or none any more.
    pub const GONE: Self = Self {
        life: Life::Gone,
        paused: false,
        excused: false,
        worker: None,
        held: [None; MESSAGES],
        alone: false,
        linked: false,
        failed_before: false,
        watching: false,
        stray: None,
    };

    /// One that begins as this worker.
    pub fn begin(worker: WorkerId) -> Self {
        Self { life: Life::Running, worker: Some(worker), linked: true, watching: true, ..Self::GONE }
    }

    /// It can do something.
    pub fn is_awake(&self) -> bool {
        self.life != Life::Gone && !self.paused
    }

    /// What it holds.
    pub fn holds(&self) -> Ids {
        Ids::of(|m| self.held[m].is_some())
    }

    /// What it holds and has not finished.
    pub fn running(&self) -> Ids {
        Ids::of(|m| self.held[m].is_some_and(|held| held.ended.is_none()))
    }

    /// The batches that it has something of.
    pub fn batches(&self) -> Vec<BatchId> {
        let mut batches: Vec<BatchId> = self.held.iter().flatten().filter_map(|held| held.batch).collect();
        batches.sort_unstable();
        batches.dedup();
        batches
    }

    /// What it says that it knows, when it connects anew.
    pub fn known(&self) -> Known {
        Known { attempts: self.held.map(|held| held.map(|held| held.attempt)), batches: self.batches() }
    }

    /// What it holds of a batch.
    pub fn of_batch(&self, batch: BatchId) -> Ids {
        Ids::of(|m| self.held[m].is_some_and(|held| held.batch == Some(batch)))
    }

    /// The outcomes that wait to be written.
    pub fn settlements(&self) -> Vec<Settlement> {
        let settlement = |(message, held): (MessageId, &Option<Held>)| {
            let Held { attempt, batch, ended } = (*held)?;
            Some(Settlement { message, attempt, batch, outcome: ended? })
        };
        self.held.iter().enumerate().filter_map(settlement).collect()
    }

    /// The batches of which nothing is left once those are written.
    pub fn ended_batches(&self) -> Vec<BatchId> {
        let running = self.running();
        self.batches().into_iter().filter(|batch| self.of_batch(*batch).and(running).is_empty()).collect()
    }

    /// Takes what was claimed. What has used up its attempts is buried.
    pub(crate) fn take(&mut self, message: MessageId, attempt: u8, batch: Option<BatchId>, max_attempts: u8) {
        let ended = (attempt > max_attempts).then_some(Outcome::Buried);
        self.held[message] = Some(Held { attempt, batch, ended });
    }

    /// Drops what has ended and was written.
    pub(crate) fn drop_settled(&mut self) {
        for held in &mut self.held {
            *held = held.filter(|held| held.ended.is_none());
        }
    }

    /// Notes how messages ended.
    pub(crate) fn note(&mut self, returned: Returned, max_attempts: u8) {
        for (message, held) in self.held.iter_mut().enumerate() {
            let Some(held) = held else { continue };
            if returned.done.contains(message) {
                held.ended = Some(Outcome::Done);
            } else if returned.failed.contains(message) {
                let last = held.attempt >= max_attempts;
                held.ended = Some(if last { Outcome::Dead } else { Outcome::Retry });
            } else if returned.unbegun.contains(message) {
                held.ended = Some(Outcome::HandBack);
            }
        }
    }
}
