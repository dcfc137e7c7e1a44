//! Topics that have a limit for all workers together.

use std::time::Instant;

use super::{Dispatcher, link_of};
use crate::Result;
use crate::broker::Share;
use crate::worker::pace::BATCH;

impl Dispatcher<'_> {
    /// Takes messages of the topics that have a limit, one topic after the other.
    pub(super) fn claim_limited(&mut self) -> Result<()> {
        if self.limited.is_empty() || self.holds_off() {
            return Ok(());
        }
        for topic in self.limited.to_try() {
            if self.paused.contains(topic) {
                self.limited.rest(topic);
                continue;
            }
            let free = self.pace.free(&self.holdings, |topic| self.limited.has(topic));
            let limit = i64::try_from(free.min(BATCH)).unwrap_or(i64::MAX);
            if limit == 0 {
                break;
            }
            let ageing = self.setup.consumers.get(topic).and_then(|metered| metered.consumer.ageing);
            let link = link_of(&mut self.link)?;
            self.wake.rest_or_rise(link.conn())?;
            let claimed = self.limited.claim(link, self.worker.id, Share { topic, limit, ageing })?;
            self.setup.meters.claim_messages.record(u32::try_from(claimed.len()).unwrap_or(u32::MAX));
            self.wake.saw(claimed.len());
            let now = Instant::now();
            for message in claimed {
                self.assign(message, now);
            }
        }
        Ok(())
    }

    /// Those that are limited, and not paused.
    pub(super) fn limited_topics(&self) -> Vec<&'static str> {
        self.limited.topics().filter(|topic| !self.paused.contains(topic)).collect()
    }

    /// Takes no more of these topics than all workers together may, and of all others as much as it can.
    pub(super) fn limit(&mut self, limited: &[String]) {
        let topics = self.setup.topics().into_iter();
        let limited: Vec<&str> = topics.filter(|topic| limited.iter().any(|l| l == topic)).collect();
        let (new, lifted) = self.limited.are(&limited);
        for topic in &new {
            tracing::info!(topic, "{topic} has a limit for all workers together");
        }
        for topic in lifted {
            tracing::info!(topic, "{topic} has no limit any more");
            self.maybe_due = true;
        }
        // It may be more than may run.
        self.hand_back(self.executors.take_unbegun_of(&new.into_iter().collect()));
    }
}
