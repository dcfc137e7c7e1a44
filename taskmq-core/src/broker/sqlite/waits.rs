//! How long claimed messages had been due.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, NaiveDateTime, Utc};

/// Times are texts here, and those of one claim mostly lie within the same second, so that is read once.
pub(super) struct Waits {
    now: DateTime<Utc>,
    second: String,
    began: DateTime<Utc>,
}

impl Waits {
    /// SQLite has no clock but that of this machine.
    pub(super) fn until_now() -> Self {
        Self { now: SystemTime::now().into(), second: String::new(), began: DateTime::UNIX_EPOCH }
    }

    /// Of a message that was due at this time, `YYYY-MM-DD HH:MM:SS.SSS`. What is no such time has not waited.
    pub(super) fn since(&mut self, due: &str) -> Duration {
        let (second, fraction) = due.split_once('.').unwrap_or((due, ""));
        if second != self.second {
            let Ok(began) = NaiveDateTime::parse_from_str(second, "%Y-%m-%d %H:%M:%S") else {
                return Duration::ZERO;
            };
            self.began = began.and_utc();
            second.clone_into(&mut self.second);
        }
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).zip([100, 10, 1]);
        let millis: u64 = digits.map(|(digit, weight)| u64::from(digit - b'0') * weight).sum();
        let waited = (self.now - self.began).to_std().unwrap_or_default();
        waited.saturating_sub(Duration::from_millis(millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_time_is_read() {
        let now = NaiveDateTime::parse_from_str("2026-03-01 00:00:01.5", "%Y-%m-%d %H:%M:%S%.f");
        let mut waits = Waits { now: now.expect("a time").and_utc(), ..Waits::until_now() };
        let mut millis = |due| waits.since(due).as_millis();
        assert_eq!(millis("2026-03-01 00:00:01.499"), 1);
        assert_eq!(millis("2026-03-01 00:00:01.4"), 100);
        assert_eq!(millis("2026-03-01 00:00:01"), 500);
        assert_eq!(millis("2026-02-28 23:59:59.000"), 2500);
        assert_eq!(millis("2026-03-01 00:00:02.000"), 0, "not due yet");
        assert_eq!(millis("2026-02-29 00:00:00"), 0, "no such day");
    }
}
