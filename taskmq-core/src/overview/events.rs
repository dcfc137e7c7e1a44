use chrono::{DateTime, TimeDelta, Utc};

/// When something happened lately, of which only the newest is read, however much it is.
#[derive(Clone, Debug, Default)]
pub struct Events {
    /// The last one first.
    times: Vec<DateTime<Utc>>,
    /// Since then all of them are known.
    since: DateTime<Utc>,
}

impl Events {
    /// The last one first. There may be more before them if they are as many as were asked for.
    pub(super) fn newest(times: impl Iterator<Item = DateTime<Utc>>, asked_for: i64) -> Self {
        let times: Vec<_> = times.collect();
        let are_more = i64::try_from(times.len()).is_ok_and(|number| number >= asked_for);
        let oldest = times.last().filter(|_| are_more);
        Self { since: oldest.copied().unwrap_or(DateTime::<Utc>::MIN_UTC), times }
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// How many a second they are, over the last minute or as far back as all of them are known.
    pub fn rate(&self, now: DateTime<Utc>) -> f64 {
        let (since, each) = self.recent(now);
        self.from(since).map(|_| each).sum()
    }

    pub(super) fn since(&self) -> DateTime<Utc> {
        self.since
    }

    /// Those that happened then or later.
    pub(super) fn from(&self, time: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        self.times.iter().copied().filter(move |at| *at >= time)
    }

    /// Since when they count for the rate, and what each of these adds to it.
    pub(super) fn recent(&self, now: DateTime<Utc>) -> (DateTime<Utc>, f64) {
        let since = self.since.max(now - TimeDelta::minutes(1));
        #[expect(clippy::cast_precision_loss, reason = "it is a minute at most")]
        let millis = (now - since).num_milliseconds().max(1) as f64;
        (since, 1000.0 / millis)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::overview) fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_000_000_000 + millis).unwrap_or_default()
    }

    pub(in crate::overview) fn events(millis: &[i64], asked_for: i64) -> Events {
        Events::newest(millis.iter().copied().map(at), asked_for)
    }

    #[test]
    fn a_rate_is_that_of_the_minute_or_of_as_much_of_it_as_is_known() {
        let rate = |millis: &[i64], asked_for| (events(millis, asked_for).rate(at(0)) * 100.0).round();
        assert_eq!(rate(&[-1, -30_000, -61_000], 10), 3.0, "two in a minute");
        assert_eq!(rate(&[-1, -1000, -10_000], 3), 30.0, "three in ten seconds");
        assert_eq!(rate(&[], 3), 0.0);
        let fast = rate(&(0..200).map(|n| -n).collect::<Vec<_>>(), 200);
        assert!((95_000.0..110_000.0).contains(&fast), "{fast}");
    }
}
