//! How fast messages come and go, how many attempts fail, and how long messages wait and run, as in the overview of the
//! web page.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use taskmq_core::broker::{Broker, FailedLately, FinishedMessage, Place, ProducedMessage, Quantiles, Span};
use taskmq_core::{MessageId, Result, State};

use super::events::Events;

/// So many of the newest are read of each kind, so that a look costs the same however fast it goes.
const NEWEST: i64 = 2_000;
/// So far back they count for times and failures.
const LATELY: TimeDelta = TimeDelta::hours(1);

/// Of a topic.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// A second, produced and finished.
    pub(super) produced: f64,
    pub(super) finished: f64,
    /// Attempts that ended lately.
    done: usize,
    failed: usize,
    /// From due to claimed, and from claimed to done.
    pub(super) wait: Option<Quantiles>,
    pub(super) run: Option<Quantiles>,
}

impl Pace {
    /// The share of those that failed among the attempts that ended lately, if any did.
    pub(super) fn errors(&self) -> Option<f64> {
        let ended = self.done + self.failed;
        let share = self.failed as f64 / ended as f64;
        (ended > 0).then_some(share)
    }
}

/// The newest of each kind, the last one first.
#[derive(Debug)]
pub(super) struct Lately {
    now: DateTime<Utc>,
    produced: Vec<ProducedMessage>,
    /// Messages that are not kept once they are done are not seen to finish.
    done: Vec<FinishedMessage>,
    failed: Vec<FailedLately>,
}

impl Lately {
    pub(super) fn read(broker: &mut dyn Broker, now: DateTime<Utc>) -> Result<Self> {
        let span = Span { from: Place::before(now - LATELY), ..Span::everything(NEWEST) };
        Ok(Self {
            now,
            produced: broker.newest(MessageId::MAX, NEWEST)?,
            done: broker.finished(State::Done, &span)?,
            failed: broker.failed(NEWEST)?,
        })
    }

    pub(super) fn produced(&self) -> Events<'_> {
        Events::newest(self.produced.iter().map(|message| (&*message.topic, message.created_at)), NEWEST)
    }

    fn done(&self) -> Events<'_> {
        finished(&self.done, NEWEST)
    }

    /// With these dead letters, the newest ones of all.
    pub(super) fn finished<'a>(&'a self, dead: &'a [FinishedMessage], asked_for: i64) -> Events<'a> {
        self.done().and(finished(dead, asked_for))
    }

    /// Of each topic that anything is known of.
    pub(super) fn paces<'a>(
        &'a self,
        produced: &Events<'a>,
        finished: &Events<'a>,
    ) -> HashMap<&'a str, Pace> {
        let mut paces: HashMap<&str, Pace> = HashMap::new();
        let (recent, each) = produced.recent(self.now);
        recent.for_each(|topic| paces.entry(topic).or_default().produced += each);
        let (recent, each) = finished.recent(self.now);
        recent.for_each(|topic| paces.entry(topic).or_default().finished += each);
        // What is done and what failed can be compared no further back than both are known.
        let done = self.done();
        let failed = self.failed.iter().map(|attempt| (&*attempt.topic, attempt.failed_at));
        let failed = Events::newest(failed, NEWEST);
        let since = done.since().max(failed.since()).max(self.now - LATELY);
        done.from(since).for_each(|(topic, _)| paces.entry(topic).or_default().done += 1);
        failed.from(since).for_each(|(topic, _)| paces.entry(topic).or_default().failed += 1);
        let mut times: HashMap<&str, [Vec<TimeDelta>; 2]> = HashMap::new();
        for message in &self.done {
            if let Some(claimed_at) = message.claimed_at {
                let [waits, runs] = times.entry(&*message.topic).or_default();
                waits.push(claimed_at - message.run_at);
                runs.push(message.finished_at - claimed_at);
            }
        }
        for (topic, [waits, runs]) in times {
            let pace = paces.entry(topic).or_default();
            (pace.wait, pace.run) = (Quantiles::of(waits), Quantiles::of(runs));
        }
        paces
    }
}

fn finished(messages: &[FinishedMessage], asked_for: i64) -> Events<'_> {
    Events::newest(messages.iter().map(|message| (&*message.topic, message.finished_at)), asked_for)
}
