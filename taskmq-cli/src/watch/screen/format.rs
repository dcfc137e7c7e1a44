//! Figures for people, in little room.

use chrono::{DateTime, TimeDelta, Utc};

use taskmq_core::broker::Quantiles;
use taskmq_core::overview::Count;

/// How long ago, in four characters at most, for a while.
pub(super) fn ago(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    short((now - at).num_seconds().max(0))
}

fn short(seconds: i64) -> String {
    match seconds {
        0..=99 => format!("{seconds}s"),
        100..=5999 => format!("{}m", seconds / 60),
        6000..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// In five characters at most, for a while.
pub(super) fn time(time: TimeDelta) -> String {
    match time.num_milliseconds().max(0) {
        millis @ 0..=999 => format!("{millis}ms"),
        millis @ 1000..=9999 => format!("{}.{}s", millis / 1000, millis % 1000 / 100),
        millis => short(millis / 1000),
    }
}

pub(super) fn quantiles(quantiles: Quantiles) -> String {
    format!("{}/{}", time(quantiles.p50), time(quantiles.p99))
}

/// How many, or more.
pub(super) fn count(Count { number, or_more }: Count) -> String {
    if or_more { format!("{number}+") } else { number.to_string() }
}

/// How many a second.
pub(super) fn rate(rate: f64) -> String {
    match rate {
        r if r <= 0.0 => "0".to_owned(),
        r if r < 0.095 => format!("{r:.2}"),
        r if r < 9.95 => format!("{r:.1}"),
        r => format!("{r:.0}"),
    }
}

pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p <= 0.0 => "0%".to_owned(),
        p if p < 10.0 => format!("{p:.1}%"),
        p => format!("{p:.0}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_fit_their_columns() {
        for (millis, text) in [(0, "0ms"), (999, "999ms"), (1250, "1.2s"), (99_999, "99s"), (100_000, "1m")] {
            assert_eq!(time(TimeDelta::milliseconds(millis)), text);
        }
        assert_eq!([0.0, 0.04, 0.5, 12.3].map(rate), ["0", "0.04", "0.5", "12"]);
        assert_eq!([0.0, 0.013, 0.5].map(percent), ["0%", "1.3%", "50%"]);
    }
}
