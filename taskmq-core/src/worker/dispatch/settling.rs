//! Writing outcomes, mostly with the next claim in one commit.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Dispatcher, FIRST_PAUSE, link_of};
use crate::broker::{Blame, Claimed, Exchanged, Outcome, Settlement, WorkerIdentity};
use crate::worker::executors::Finished;
use crate::worker::holdings::Holdings;
use crate::worker::link::{Link, Order};
use crate::worker::{Held, strays, supervised};
use crate::{Error, MessageId, Result};

/// What a batch has not finished by then is leased message by message, so that the other workers need not walk over it
/// again and again.
const BATCH_LIFE: Duration = Duration::from_millis(150);

/// What has ended, while it is written.
struct Unwritten {
    finished: Vec<Finished>,
    handed_back: Vec<Settlement>,
}

impl Unwritten {
    /// Each with the batch that its message is leased with by now.
    fn settlements(&self, holdings: &Holdings) -> Vec<Settlement> {
        let finished = self.finished.iter().filter_map(|f| f.settlement.as_ref());
        let all = finished.chain(&self.handed_back);
        all.map(|s| Settlement { batch: holdings.batch_of(s.id), ..s.clone() }).collect()
    }
}

/// What a claim brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Brought {
    pub(super) messages: usize,
    /// See [`Exchanged::in_line`].
    pub(super) in_line: usize,
    /// See [`Exchanged::busy`].
    pub(super) busy: bool,
}

impl Dispatcher<'_> {
    /// Settles what has ended, and claims if there is a claim: what that brings begins while the settlements are still
    /// being written.
    pub(super) fn exchange(&mut self, order: Option<Order>) -> Result<Brought> {
        if self.finished.is_empty() && self.handed_back.is_empty() && order.is_none() {
            return Ok(Brought::default());
        }
        // What the claim brings may end at once, and is then not part of it.
        let mut unwritten = Unwritten {
            finished: mem::take(&mut self.finished),
            handed_back: mem::take(&mut self.handed_back),
        };
        let (brought, waiting, lost) = match self.write(&mut unwritten, order) {
            Ok(written) => written,
            Err(error) => {
                let Unwritten { mut finished, mut handed_back } = unwritten;
                finished.append(&mut self.finished);
                handed_back.append(&mut self.handed_back);
                (self.finished, self.handed_back) = (finished, handed_back);
                return Err(error);
            }
        };
        self.settled(unwritten, &lost)?;
        let now = Instant::now();
        waiting.into_iter().for_each(|message| self.assign(message, now));
        Ok(brought)
    }

    /// Gives what the claim brought, the messages of it that wait until all is written, and those whose lease was lost.
    fn write(
        &mut self,
        unwritten: &mut Unwritten,
        order: Option<Order>,
    ) -> Result<(Brought, Vec<Claimed>, Vec<MessageId>)> {
        let settlements = unwritten.settlements(&self.holdings);
        let ended = self.holdings.ended_by(&settlements);
        let (settles, claims, began) = (!settlements.is_empty(), order.is_some(), Instant::now());
        let (mut exchanged, settling) = if self.failed_settlements < 2 {
            let link = link_of(&mut self.link)?;
            link.exchange(&self.worker, settlements, ended, order.clone())
                .inspect_err(|_| self.failed_settlements += 1)?
        } else {
            let lost = self.settle_in_halves(unwritten, &settlements)?;
            let link = link_of(&mut self.link)?;
            let (exchanged, _) = link.exchange(&self.worker, Vec::new(), ended, order.clone())?;
            (Exchanged { lost, ..exchanged }, None)
        };
        let mut lost = mem::take(&mut exchanged.lost);
        let (brought, waiting) = match order {
            Some(order) => self.receive(&order, exchanged),
            None => Default::default(),
        };
        if let Some(settling) = settling {
            let link = link_of(&mut self.link)?;
            lost = link.settled(settling).inspect_err(|_| self.failed_settlements += 1)?;
        }
        self.setup.meters.exchanged(settles, claims, began.elapsed());
        self.failed_settlements = 0;
        self.silences = 0;
        Ok((brought, waiting, lost))
    }

    /// All is written, but for those whose lease was lost.
    fn settled(&mut self, written: Unwritten, lost: &[MessageId]) -> Result<()> {
        let lost: Held = lost.iter().copied().collect();
        for settlement in written.handed_back {
            let metered = self.holdings.topic_of(settlement.id).and_then(|t| self.setup.consumers.get(t));
            if let Some(metered) = metered {
                metered.meter.finished(Some(&settlement.outcome), lost.contains(&settlement.id));
            }
            self.holdings.remove(settlement.id);
        }
        if !written.finished.is_empty() {
            supervised::worked();
            self.liveness.worked.store(true, Ordering::Relaxed);
        }
        for finished in written.finished {
            self.holdings.remove(finished.id);
            let is_lost = lost.contains(&finished.id);
            let outcome = finished.settlement.as_ref().map(|s| &s.outcome);
            finished.metered.meter.finished(outcome, is_lost);
            self.report.ended(&finished, is_lost);
            let comes_back = match finished.settlement.map(|s| s.outcome) {
                Some(Outcome::Retry { delay, .. }) => Some(delay),
                // It could not begin, and nothing tells a worker of what it gave back itself.
                Some(Outcome::HandBack) => Some(FIRST_PAUSE),
                _ => None,
            };
            if let Some(delay) = comes_back {
                let at = Instant::now() + delay;
                self.due_at = Some(self.due_at.map_or(at, |due| due.min(at)));
            }
        }
        if self.alone.is_some() && self.holdings.is_empty() {
            self.alone = None;
            self.note_blame()?;
        }
        Ok(())
    }

    /// A batch failed twice, on two connections: one bad outcome must not keep the good ones from being written.
    fn settle_in_halves(
        &mut self,
        unwritten: &mut Unwritten,
        settlements: &[Settlement],
    ) -> Result<Vec<MessageId>> {
        let link = link_of(&mut self.link)?;
        let error = match settle(link, &self.worker, settlements) {
            Ok(lost) => return Ok(lost),
            Err(error) => error,
        };
        let worker_id = self.worker.id;
        if matches!(error, Error::DiskFull(_) | Error::ReadOnly(_) | Error::Locked(_))
            || error.is_blocked()
            || link.call(move |broker| broker.beat(worker_id, None)).is_err()
        {
            return Err(error); // it is the database, and not what is to be written
        }
        match settlements {
            [] => Err(error),
            // A statement that may not take long does not say whether somebody else's lock was in its way.
            [_] if matches!(error, Error::TooSlow(_)) => Err(error),
            [bad] => {
                let error = crate::limits::clean_error(&format!("its outcome could not be stored: {error}"));
                let outcome = Outcome::Retry { delay: Duration::from_secs(60), kind: "error", error };
                let told = Settlement { outcome: outcome.clone(), log: Vec::new(), ..bad.clone() };
                let lost = settle(link, &self.worker, &[told])?;
                let finished = unwritten.finished.iter_mut().filter_map(|f| f.settlement.as_mut());
                for settlement in finished.filter(|s| s.id == bad.id) {
                    settlement.outcome = outcome.clone();
                }
                Ok(lost)
            }
            many => {
                let (first, second) = many.split_at(many.len() / 2);
                let mut lost = self.settle_in_halves(unwritten, first)?;
                lost.extend(self.settle_in_halves(unwritten, second)?);
                Ok(lost)
            }
        }
    }

    /// What a batch has not finished in its short life is leased message by message.
    pub(super) fn promote(&mut self) -> Result<()> {
        // What has ended since is about to be written with its batch.
        if !self.finished.is_empty() {
            return Ok(());
        }
        let Some((batch, left)) = self.holdings.older_than(BATCH_LIFE) else { return Ok(()) };
        let worker_id = self.worker.id;
        if link_of(&mut self.link)?.call(move |broker| broker.promote(worker_id, batch, &left, true))? {
            self.holdings.promoted(batch);
        } else {
            self.holdings.lost(batch);
        }
        Ok(())
    }

    /// Tells the others whom to blame for this worker's death, when that has changed.
    pub(super) fn note_blame(&mut self) -> Result<()> {
        let blame =
            if strays::exist() { Blame::Nobody } else { self.alone.map_or(Blame::Held, Blame::Alone) };
        if self.noted != Some(blame) {
            let worker_id = self.worker.id;
            link_of(&mut self.link)?.call(move |broker| broker.blame(worker_id, blame))?;
            self.noted = Some(blame);
        }
        Ok(())
    }
}

fn settle(
    link: &mut Link,
    worker: &Arc<WorkerIdentity>,
    settlements: &[Settlement],
) -> Result<Vec<MessageId>> {
    let (worker, settlements) = (Arc::clone(worker), settlements.to_vec());
    link.call(move |broker| broker.settle(&worker, &settlements))
}
