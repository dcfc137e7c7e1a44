//! What the charts show.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::events::Events;

/// So far back the charts look.
const SECONDS: i64 = 300;

/// How much happened in each of the last seconds, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct History(BTreeMap<i64, u64>);

impl History {
    pub(super) fn add(&mut self, events: &Events<'_>, now: DateTime<Utc>) {
        let this = now.timestamp();
        let first = this - SECONDS;
        self.0.retain(|second, _| (first..this).contains(second));
        // All of a second is known, or nothing of it.
        let known = first.max(events.since().timestamp().saturating_add(1));
        if known >= this {
            // More within a second than is read: what is read tells how fast it goes.
            self.0.insert(this - 1, events.rate(now).round() as u64);
            return;
        }
        self.0.extend((known..this).map(|second| (second, 0)));
        for (_, at) in events.from(DateTime::<Utc>::MIN_UTC) {
            let second = at.timestamp();
            if second >= known
                && let Some(count) = self.0.get_mut(&second)
            {
                *count += 1;
            }
        }
    }

    /// The last seconds, the newest last; `None`: not known.
    pub(super) fn seconds(&self, number: usize, now: DateTime<Utc>) -> Vec<Option<u64>> {
        let this = now.timestamp();
        let first = this.saturating_sub(i64::try_from(number).unwrap_or(i64::MAX));
        (first..this).map(|second| self.0.get(&second).copied()).collect()
    }
}
