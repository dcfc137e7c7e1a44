//! Writing outcomes, mostly with the next claim in one commit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Dispatcher, FIRST_PAUSE, link_of};
use crate::broker::{Blame, Exchanged, Outcome, Settlement, WorkerIdentity};
use crate::worker::link::{Link, Order};
use crate::worker::{Held, strays, supervised};
use crate::{Error, MessageId, Result};

/// What a batch has not finished by then is leased message by message, so that the other workers need not walk over it
/// again and again.
const BATCH_LIFE: Duration = Duration::from_millis(150);

impl Dispatcher<'_> {
    /// Settles what has ended, and claims if there is a claim.
    pub(super) fn exchange(&mut self, order: Option<Order>) -> Result<Exchanged> {
        if self.finished.is_empty() && self.handed_back.is_empty() && order.is_none() {
            return Ok(Exchanged::default());
        }
        let finished = self.finished.iter_mut().filter_map(|f| f.settlement.as_mut());
        for settlement in finished.chain(&mut self.handed_back) {
            settlement.batch = self.holdings.batch_of(settlement.id);
        }
        let finished = self.finished.iter().filter_map(|f| f.settlement.as_ref());
        let settlements: Vec<Settlement> = finished.chain(&self.handed_back).cloned().collect();
        let ended = self.holdings.ended_by(&settlements);
        let (settles, claims, began) = (!settlements.is_empty(), order.is_some(), Instant::now());
        let exchanged = if self.failed_settlements < 2 {
            let link = link_of(&mut self.link)?;
            link.exchange(&self.worker, settlements, ended, order)
                .inspect_err(|_| self.failed_settlements += 1)?
        } else {
            let lost = self.settle_in_halves(&settlements)?;
            let link = link_of(&mut self.link)?;
            Exchanged { lost, ..link.exchange(&self.worker, Vec::new(), ended, order)? }
        };
        self.setup.meters.exchanged(settles, claims, began.elapsed());
        self.failed_settlements = 0;
        self.silences = 0;
        let lost: Held = exchanged.lost.iter().copied().collect();
        for settlement in self.handed_back.drain(..) {
            let metered = self.holdings.topic_of(settlement.id).and_then(|t| self.setup.consumers.get(t));
            if let Some(metered) = metered {
                metered.meter.finished(Some(&settlement.outcome), lost.contains(&settlement.id));
            }
            self.holdings.remove(settlement.id);
        }
        if !self.finished.is_empty() {
            supervised::worked();
        }
        for finished in self.finished.drain(..) {
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
        Ok(exchanged)
    }

    /// A batch failed twice, on two connections: one bad outcome must not keep the good ones from being written.
    fn settle_in_halves(&mut self, settlements: &[Settlement]) -> Result<Vec<MessageId>> {
        let link = link_of(&mut self.link)?;
        let error = match settle(link, &self.worker, settlements) {
            Ok(lost) => return Ok(lost),
            Err(error) => error,
        };
        let worker_id = self.worker.id;
        if matches!(error, Error::DiskFull(_) | Error::ReadOnly(_))
            || link.call(move |broker| broker.beat(worker_id)).is_err()
        {
            return Err(error); // it is the database, and not what is to be written
        }
        match settlements {
            [] => Err(error),
            [bad] => {
                let error = crate::limits::clean_error(&format!("its outcome could not be stored: {error}"));
                let outcome = Outcome::Retry { delay: Duration::from_secs(60), kind: "error", error };
                let told = Settlement { outcome: outcome.clone(), log: Vec::new(), ..bad.clone() };
                let lost = settle(link, &self.worker, &[told])?;
                let finished = self.finished.iter_mut().filter_map(|f| f.settlement.as_mut());
                for settlement in finished.filter(|s| s.id == bad.id) {
                    settlement.outcome = outcome.clone();
                }
                Ok(lost)
            }
            many => {
                let (first, second) = many.split_at(many.len() / 2);
                let mut lost = self.settle_in_halves(first)?;
                lost.extend(self.settle_in_halves(second)?);
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
