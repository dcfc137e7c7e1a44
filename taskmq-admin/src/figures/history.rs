use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

/// So far back the charts look.
const SECONDS: i64 = 120;

/// How much happened in each of the last seconds, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(BTreeMap<i64, f64>);

impl History {
    /// Adds the newest events, the last one first; there may be earlier ones that are not among them if there `are_more`.
    pub(crate) fn add(&mut self, times: &[DateTime<Utc>], are_more: bool, now: DateTime<Utc>) {
        let this = now.timestamp();
        let first = this - SECONDS;
        self.0.retain(|second, _| *second >= first);
        let oldest = times.last().filter(|_| are_more);
        let known = oldest.map_or(first, |oldest| (oldest.timestamp() + 1).max(first));
        if known < this {
            let mut counts: BTreeMap<i64, f64> = (known..this).map(|second| (second, 0.0)).collect();
            for time in times {
                if let Some(count) = counts.get_mut(&time.timestamp()) {
                    *count += 1.0;
                }
            }
            self.0.extend(counts);
        } else {
            // More within a second than was read: what was read tells how fast it goes.
            self.0.insert(this - 1, rate(times, true, now));
        }
    }

    /// The last seconds, the first one first; `None`: not known.
    pub(crate) fn seconds(&self, now: DateTime<Utc>) -> Vec<Option<f64>> {
        let this = now.timestamp();
        (this - SECONDS..this).map(|second| self.0.get(&second).copied()).collect()
    }
}

/// How many a second, over the last minute or as far back as these go.
pub(crate) fn rate(times: &[DateTime<Utc>], are_more: bool, now: DateTime<Utc>) -> f64 {
    let minute = now - TimeDelta::seconds(60);
    let since = times.last().filter(|_| are_more).map_or(minute, |oldest| (*oldest).max(minute));
    let count = times.iter().filter(|time| **time >= since).count();
    let millis = (now - since).num_milliseconds().max(1);
    #[expect(clippy::cast_precision_loss, reason = "both are small")]
    let rate = count as f64 * 1000.0 / millis as f64;
    rate
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_000_000_000 + millis).unwrap_or_default()
    }

    #[test]
    fn seconds_are_counted_as_far_back_as_they_are_known() {
        let mut history = History::default();
        history.add(&[at(-500), at(-1500), at(-1600), at(-2500)], true, at(0));
        let seconds = history.seconds(at(0));
        assert_eq!(seconds[seconds.len() - 3..], [None, Some(2.0), Some(1.0)]);
        history.add(&[at(-500)], false, at(0));
        assert!(history.seconds(at(0)).iter().all(Option::is_some), "all of them are known");
    }

    #[test]
    fn a_rate_beyond_what_is_read_is_worked_out() {
        let times: Vec<_> = (0..200).map(|n| at(-n)).collect();
        let fast = rate(&times, true, at(0));
        assert!((950.0..1100.0).contains(&fast), "{fast}");
        let mut history = History::default();
        history.add(&times, true, at(0));
        assert_eq!(history.seconds(at(0)).last(), Some(&Some(fast)));
        assert!((rate(&times, false, at(0)) - 200.0 / 60.0).abs() < 0.01);
    }
}
