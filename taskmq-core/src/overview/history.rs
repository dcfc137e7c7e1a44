use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::{Events, Overview};

/// So far back it is known.
const SECONDS: i64 = 300;

/// How many messages were produced, and how many finished, in each of the last 300 seconds: what a chart shows. Each
/// [`Overview`] that is added adds what it knows, so it has to be read again and again.
#[derive(Clone, Debug, Default)]
pub struct Throughput {
    /// Those that were produced.
    pub produced: History,
    /// Those that are done or dead.
    pub finished: History,
}

impl Throughput {
    /// Adds what this tells.
    pub fn add(&mut self, overview: &Overview) {
        self.produced.add(&[&overview.produced], overview.now);
        self.finished.add(&[&overview.done, &overview.dead], overview.now);
    }
}

/// How much happened in each of the last seconds, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct History(BTreeMap<i64, f64>);

impl History {
    fn add(&mut self, kinds: &[&Events], now: DateTime<Utc>) {
        let this = now.timestamp();
        let first = this - SECONDS;
        self.0.retain(|second, _| (first..this).contains(second));
        // All of a second is known, or nothing of it.
        let since = kinds.iter().map(|events| events.since().timestamp().saturating_add(1));
        let known = since.fold(first, i64::max);
        if known >= this {
            // More within a second than is read: what is read tells how fast it goes.
            self.0.insert(this - 1, kinds.iter().map(|events| events.rate(now)).sum());
            return;
        }
        self.0.extend((known..this).map(|second| (second, 0.0)));
        for at in kinds.iter().flat_map(|events| events.from(DateTime::<Utc>::MIN_UTC)) {
            let second = at.timestamp();
            if second >= known
                && let Some(count) = self.0.get_mut(&second)
            {
                *count += 1.0;
            }
        }
    }

    /// The last seconds, the newest last; `None`: not known. At most 300 are.
    pub fn seconds(&self, number: usize, now: DateTime<Utc>) -> Vec<Option<f64>> {
        let this = now.timestamp();
        let first = this.saturating_sub(i64::try_from(number).unwrap_or(i64::MAX));
        (first..this).map(|second| self.0.get(&second).copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::events::tests::{at, events};
    use super::*;

    #[test]
    fn seconds_are_counted_as_far_back_as_they_are_known() {
        let mut history = History::default();
        history.add(&[&events(&[-500, -1500, -1600, -2500], 4)], at(0));
        assert_eq!(
            history.seconds(4, at(0)),
            [None, None, Some(2.0), Some(1.0)],
            "there may be more of the third last"
        );
        history.add(&[&events(&[-500], 4), &events(&[-1500], 4)], at(0));
        assert_eq!(history.seconds(3, at(0)), [Some(0.0), Some(1.0), Some(1.0)], "these are all");
        // More within a second than is read.
        history.add(&[&events(&(0..200).map(|n| -n).collect::<Vec<_>>(), 200)], at(0));
        let last = history.seconds(1, at(0))[0].unwrap_or_default();
        assert!((950.0..1100.0).contains(&last), "{last}");
    }
}
