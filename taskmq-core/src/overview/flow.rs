//! What the newest messages tell of how they come and go.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};

use super::{Events, Figures, HOUR, NEWEST};
use crate::broker::{FailedLately, FinishedMessage, ProducedMessage, Quantiles};

/// The newest of each kind, the last one first.
#[derive(Debug)]
pub(super) struct Newest {
    pub(super) produced: Vec<ProducedMessage>,
    /// Messages that are not kept once they are done are not seen to finish.
    pub(super) done: Vec<FinishedMessage>,
    pub(super) dead: Vec<FinishedMessage>,
    pub(super) failed: Vec<FailedLately>,
}

/// Of a topic, or of all.
#[derive(Default)]
struct Flow {
    rate_in: f64,
    rate_out: f64,
    /// Attempts that ended.
    done: usize,
    failed: usize,
    /// From due to claimed, and from claimed to done.
    waits: Vec<TimeDelta>,
    runs: Vec<TimeDelta>,
}

impl Flow {
    fn fill_in(self, figures: &mut Figures) {
        (figures.rate_in, figures.rate_out) = (self.rate_in, self.rate_out);
        let ended = self.done + self.failed;
        #[expect(clippy::cast_precision_loss, reason = "both are small")]
        let share = self.failed as f64 / ended as f64;
        figures.error_share = (ended > 0).then_some(share);
        (figures.wait, figures.run) = (Quantiles::of(self.waits), Quantiles::of(self.runs));
    }
}

impl Newest {
    pub(super) fn produced(&self) -> Events {
        Events::newest(self.produced.iter().map(|message| message.created_at), NEWEST)
    }

    pub(super) fn done(&self) -> Events {
        Events::newest(self.done.iter().map(|message| message.finished_at), NEWEST)
    }

    pub(super) fn dead(&self) -> Events {
        Events::newest(self.dead.iter().map(|message| message.finished_at), NEWEST)
    }

    /// Fills in what they tell of each topic, and of all.
    pub(super) fn fill_in(
        &self,
        topics: &mut BTreeMap<String, Figures>,
        total: &mut Figures,
        now: DateTime<Utc>,
    ) {
        let mut all = Flow::default();
        let mut flows: HashMap<&str, Flow> = HashMap::new();
        let (since, each) = self.produced().recent(now);
        for message in self.produced.iter().filter(|message| message.created_at >= since) {
            for flow in [&mut all, flows.entry(&message.topic).or_default()] {
                flow.rate_in += each;
            }
        }
        for (messages, events) in [(&self.done, self.done()), (&self.dead, self.dead())] {
            let (since, each) = events.recent(now);
            for message in messages.iter().filter(|message| message.finished_at >= since) {
                for flow in [&mut all, flows.entry(&message.topic).or_default()] {
                    flow.rate_out += each;
                }
            }
        }
        // What is done and what failed can be compared no further back than both are known.
        let failed = Events::newest(self.failed.iter().map(|attempt| attempt.failed_at), NEWEST);
        let since = self.done().since().max(failed.since()).max(now - HOUR);
        for attempt in self.failed.iter().filter(|attempt| attempt.failed_at >= since) {
            for flow in [&mut all, flows.entry(&attempt.topic).or_default()] {
                flow.failed += 1;
            }
        }
        for message in &self.done {
            for flow in [&mut all, flows.entry(&message.topic).or_default()] {
                flow.done += usize::from(message.finished_at >= since);
                if let Some(claimed_at) = message.claimed_at {
                    flow.waits.push(claimed_at - message.run_at);
                    flow.runs.push(message.finished_at - claimed_at);
                }
            }
        }
        all.fill_in(total);
        for (topic, flow) in flows {
            flow.fill_in(topics.entry(topic.to_owned()).or_default());
        }
    }
}
