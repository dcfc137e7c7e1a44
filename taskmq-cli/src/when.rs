//! A time as it is typed: itself, or how long ago it was.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    At(DateTime<Utc>),
    Ago(Duration),
}

impl When {
    /// As the database counts, whose time it is now.
    pub(crate) fn at(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            When::At(at) => at,
            When::Ago(ago) => now
                .checked_sub_signed(chrono::Duration::from_std(ago).unwrap_or(chrono::Duration::MAX))
                .unwrap_or(DateTime::UNIX_EPOCH),
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(at) = DateTime::parse_from_rfc3339(text) {
            return Ok(When::At(at.to_utc()));
        }
        if let Ok(day) = text.parse::<NaiveDate>() {
            return Ok(When::At(day.and_time(NaiveTime::MIN).and_utc()));
        }
        humantime::parse_duration(text)
            .map(When::Ago)
            .map_err(|_| "write it as 2026-11-25T14:00:00Z, 2026-11-25 or 2h (two hours ago)".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().expect("a time");
        let now = at("2026-11-25T14:00:00Z");
        let read = |text: &str| text.parse::<When>().map(|when| when.at(now));
        assert_eq!(read("2h"), Ok(at("2026-11-25T12:00:00Z")));
        assert_eq!(read("2026-11-24"), Ok(at("2026-11-24T00:00:00Z")));
        assert_eq!(read("2026-11-24T05:00:00+02:00"), Ok(at("2026-11-24T03:00:00Z")));
        assert_eq!(read("100000000years"), Ok(DateTime::UNIX_EPOCH));
        assert!(read("yesterday").is_err());
    }
}
