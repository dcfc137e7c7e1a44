use chrono::{DateTime, Utc};
use taskmq_core::schedule::Cron;

/// A cron text, and behind a line's end a time zone: refused, or ticks that go forwards.
pub fn cron(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, zone) = text.split_once('\n').unwrap_or((text, "Europe/Berlin"));
    let Ok(cron) = Cron::parse(text, zone) else { return };
    let mut before: DateTime<Utc> = DateTime::from_timestamp(1_774_000_000, 1).expect("a time");
    for tick in cron.upcoming(before).take(4) {
        assert!(tick > before, "{tick} is not after {before}");
        assert_eq!(cron.next(tick - chrono::Duration::nanoseconds(1)), Some(tick), "it is passed over");
        before = tick;
    }
}
