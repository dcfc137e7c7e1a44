//! Numbers and times for people, with the exact ones in titles.

use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};
use taskmq_core::broker::Quantiles;
use taskmq_core::overview::Count;

use crate::texts::Texts;

/// With a mark at each thousand.
pub(crate) fn number(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

pub(crate) fn count(count: Count) -> String {
    let plus = if count.or_more { "+" } else { "" };
    format!("{}{plus}", number(count.number))
}

pub(crate) fn mebibytes(bytes: u64) -> String {
    let whole = bytes.saturating_add(1 << 19) >> 20;
    format!("{} MiB", number(i64::try_from(whole).unwrap_or(i64::MAX)))
}

pub(crate) fn rate(rate: f64) -> String {
    match rate {
        r if r <= 0.0 => "0".to_owned(),
        r if r < 0.095 => format!("{r:.2}"),
        r if r < 9.95 => format!("{r:.1}"),
        r => {
            #[expect(clippy::cast_possible_truncation, reason = "it is rounded on purpose")]
            let whole = r.round() as i64;
            number(whole)
        }
    }
}

pub(crate) fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p <= 0.0 => "0%".to_owned(),
        p if p < 10.0 => format!("{p:.1}%"),
        p => format!("{p:.0}%"),
    }
}

/// In the one or two units that count.
pub(crate) fn duration(texts: &Texts, time: TimeDelta) -> String {
    let millis = time.num_milliseconds().max(0);
    let seconds = millis / 1000;
    let (ms, s, min, h, d) = (texts.unit_ms, texts.unit_s, texts.unit_min, texts.unit_h, texts.unit_d);
    let two = |first: i64, unit: &str, second: i64, other: &str| {
        if second == 0 { format!("{first} {unit}") } else { format!("{first} {unit} {second} {other}") }
    };
    match seconds {
        0 => format!("{millis} {ms}"),
        1..=9 => format!("{}.{} {s}", seconds, millis % 1000 / 100),
        10..=59 => format!("{seconds} {s}"),
        60..=599 => two(seconds / 60, min, seconds % 60, s),
        600..=3599 => format!("{} {min}", seconds / 60),
        3600..=86_399 => two(seconds / 3600, h, seconds % 3600 / 60, min),
        _ => two(seconds / 86_400, d, seconds % 86_400 / 3600, h),
    }
}

/// In one unit, where there is little room.
pub(crate) fn short(texts: &Texts, time: TimeDelta) -> String {
    let seconds = time.num_seconds();
    let tenths = |unit: i64, name: &str| format!("{}.{} {name}", seconds / unit, seconds % unit * 10 / unit);
    match seconds {
        60..=599 => tenths(60, texts.unit_min),
        3600..=86_399 => tenths(3600, texts.unit_h),
        86_400..=863_999 => tenths(86_400, texts.unit_d),
        864_000.. => format!("{} {}", seconds / 86_400, texts.unit_d),
        _ => duration(texts, time),
    }
}

pub(crate) fn exact(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string()
}

/// How long ago or until when.
pub(crate) fn time(texts: &Texts, now: DateTime<Utc>, at: DateTime<Utc>) -> Markup {
    let past = at <= now;
    let between = if past { now - at } else { at - now };
    let words = if between < TimeDelta::seconds(1) {
        texts.now.to_owned()
    } else {
        // Seconds are enough here.
        let long = duration(texts, TimeDelta::seconds(between.num_seconds()));
        let long = if between < TimeDelta::seconds(10) {
            format!("{} {}", between.num_seconds(), texts.unit_s)
        } else {
            long
        };
        match (past, texts.code) {
            (true, "en") => format!("{long} {}", texts.ago),
            (true, _) => format!("{long}{}", texts.ago),
            (false, "en") => format!("{} {long}", texts.in_future),
            (false, _) => format!("{long}{}", texts.in_future),
        }
    };
    html! { time datetime=(at.to_rfc3339()) title=(exact(at)) { (words) } }
}

pub(crate) fn quantiles(texts: &Texts, quantiles: Option<Quantiles>) -> Markup {
    html! {
        @match quantiles {
            Some(q) => span title=(texts.quantiles_title) {
                (short(texts, q.p50)) span.muted { " / " } (short(texts, q.p99))
            },
            None => span.muted { "–" },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::texts::{CHINESE, ENGLISH};

    #[test]
    fn numbers_have_marks() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (-1_234_567, "-1,234,567")] {
            assert_eq!(number(n), text);
        }
        for (bytes, text) in [(0, "0 MiB"), (12_345_678, "12 MiB"), (3 << 30, "3,072 MiB")] {
            assert_eq!(mebibytes(bytes), text);
        }
        assert_eq!((rate(0.004), rate(1.25), rate(1234.4)), ("0.00".into(), "1.2".into(), "1,234".into()));
    }

    #[test]
    fn durations_have_the_units_that_count() {
        for (millis, text) in [
            (5, "5 ms"),
            (1_250, "1.2 s"),
            (61_000, "1 min 1 s"),
            (3_600_000, "1 h"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(&ENGLISH, TimeDelta::milliseconds(millis)), text);
        }
        for (seconds, text) in [
            (5, "5.0 s"),
            (61, "1.0 min"),
            (599, "9.9 min"),
            (601, "10 min"),
            (5400, "1.5 h"),
            (90_000, "1.0 d"),
            (864_001, "10 d"),
        ] {
            assert_eq!(short(&ENGLISH, TimeDelta::seconds(seconds)), text);
        }
        assert_eq!(duration(&CHINESE, TimeDelta::seconds(65)), "1 分 5 秒");
    }
}
