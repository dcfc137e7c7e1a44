//! What happened lately, of which only the newest is read, however much it is.

use chrono::{DateTime, TimeDelta, Utc};

/// Events of one kind with their topics.
#[derive(Debug)]
pub(super) struct Events<'a> {
    all: Vec<(&'a str, DateTime<Utc>)>,
    /// Since then all of them are known.
    since: DateTime<Utc>,
}

impl<'a> Events<'a> {
    /// The newest ones, the last one first. There may be more before them if they are as many as were asked for.
    pub(super) fn newest(all: impl Iterator<Item = (&'a str, DateTime<Utc>)>, asked_for: i64) -> Self {
        let all: Vec<_> = all.collect();
        let are_more = i64::try_from(all.len()).is_ok_and(|number| number >= asked_for);
        let oldest = all.last().filter(|_| are_more);
        let since = oldest.map_or(DateTime::<Utc>::MIN_UTC, |(_, oldest)| *oldest);
        Self { all, since }
    }

    pub(super) fn and(mut self, others: Self) -> Self {
        self.all.extend(others.all);
        Self { since: self.since.max(others.since), ..self }
    }

    pub(super) fn since(&self) -> DateTime<Utc> {
        self.since
    }

    /// Those that happened then or later.
    pub(super) fn from(&self, time: DateTime<Utc>) -> impl Iterator<Item = (&'a str, DateTime<Utc>)> {
        self.all.iter().copied().filter(move |(_, at)| *at >= time)
    }

    /// Those of the last minute, or as far back as all are known, and what each adds to how many a second they are.
    pub(super) fn recent(&self, now: DateTime<Utc>) -> (impl Iterator<Item = &'a str>, f64) {
        let since = self.since.max(now - TimeDelta::minutes(1));
        let millis = (now - since).num_milliseconds().max(1);
        let each = 1000.0 / millis as f64;
        (self.from(since).map(|(topic, _)| topic), each)
    }

    /// How many a second they are.
    pub(super) fn rate(&self, now: DateTime<Utc>) -> f64 {
        let (recent, each) = self.recent(now);
        recent.map(|_| each).sum()
    }
}
