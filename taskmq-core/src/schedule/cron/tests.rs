use std::collections::BTreeSet;

use chrono::{Datelike, NaiveDate};
use proptest::prelude::*;

use super::*;

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn cron(text: &str, zone: &str) -> Cron {
    Cron::parse(text, zone).unwrap_or_else(|e| panic!("{e}"))
}

/// The first ticks after a time, in local time.
fn ticks(text: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let cron = cron(text, zone);
    cron.upcoming(time(after)).take(count).map(|tick| cron.local(tick)).collect()
}

fn error(text: &str) -> String {
    Cron::parse(text, "UTC").expect_err(text).to_string()
}

#[test]
fn a_wrong_field_is_named() {
    for (text, words) in [
        ("60 * * * *", "its minute is \"60\": write 0 to 59"),
        ("0 25 * * *", "its hour is \"25\": write 0 to 23"),
        ("0 mon * * *", "its hour is \"mon\""),
        ("0 0 0 * *", "its day of month is \"0\": write 1 to 31"),
        ("0 0 * 13 *", "its month is \"13\": write 1 to 12 or jan"),
        ("0 0 * mon *", "its month is \"mon\""),
        ("0 0 * * 8", "its day of week is \"8\""),
        ("0 0 * * monday", "its day of week is \"monday\""),
        ("0 0 * * jan", "its day of week is \"jan\""),
        ("x 0 0 * * *", "its second is \"x\""),
        ("*/0 * * * *", "its minute is \"*/0\""),
        ("5-1 * * * *", "its minute is \"5-1\""),
        ("1,,2 * * * *", "its minute is \"1,,2\""),
        ("-1 * * * *", "its minute is \"-1\""),
        ("99999999999 * * * *", "its minute is \"99999999999\""),
        ("0 0 0 1 1 * 2030", "it has 7 fields"),
        ("0 7 * *", "it has 4 fields; write five"),
        ("", "it has 0 fields"),
        ("0 7 * * * # daily", "it has 7 fields"),
        ("@reboot", "the names are @hourly"),
        ("@", "the names are @hourly"),
        ("0 0 30 2 *", "there is no such day"),
        ("0 0 31 4,6 *", "there is no such day"),
        (&"0 ".repeat(200), "longer than 255 bytes"),
        ("0 0 * * 😀", "its day of week is \"😀\""),
    ] {
        let error = error(text);
        assert!(error.contains(words), "{text:?}: {error}");
    }
}

#[test]
fn a_time_zone_that_was_nearly_written_is_found() {
    for (zone, words) in [
        ("europe/berlin", "do you mean Europe/Berlin?"),
        ("berlin", "do you mean Europe/Berlin?"),
        ("new york", "do you mean America/New_York?"),
        ("utc", "do you mean UTC?"),
        ("Mars/Olympus", "IANA database"),
        ("", "IANA database"),
    ] {
        let error = Cron::parse("0 7 * * *", zone).expect_err(zone).to_string();
        assert!(error.contains(words), "{zone}: {error}");
    }
}

#[test]
fn fields_are_read_as_cron_reads_them() {
    let first = |text| ticks(text, "UTC", "2026-11-25T12:34:56.789Z", 1).remove(0);
    for (text, tick) in [
        ("* * * * *", "2026-11-25 12:35:00"),
        ("* * * * * *", "2026-11-25 12:34:57"),
        ("*/7 * * * *", "2026-11-25 12:35:00"),
        ("56 34 12 * * *", "2026-11-26 12:34:56"),
        ("0 7 * * mon-fri", "2026-11-26 07:00:00"),
        ("0 7 * * SUN", "2026-11-29 07:00:00"),
        ("0 7 * * 7", "2026-11-29 07:00:00"),
        ("0 7 * * fri-sun", "2026-11-27 07:00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00:00"),
        ("0 0 29 feb mon", "2027-02-01 00:00:00"),
        ("0 0 L * *", "2026-11-30 00:00:00"),
        ("0 0 * * fri#2", "2026-12-11 00:00:00"),
        ("0 0 13 * fri", "2026-11-27 00:00:00"),
        ("@hourly", "2026-11-25 13:00:00"),
        ("@Daily", "2026-11-26 00:00:00"),
        ("@weekly", "2026-11-29 00:00:00"),
        ("@monthly", "2026-12-01 00:00:00"),
        ("@yearly", "2027-01-01 00:00:00"),
        ("  0\t7  * * * ", "2026-11-26 07:00:00"),
    ] {
        assert_eq!(first(text), format!("{tick} +00:00"), "{text}");
    }
    // Seven does not divide an hour: the last step is short.
    let sevenths = ticks("*/7 * * * *", "UTC", "2026-01-01T00:50:00Z", 2);
    assert_eq!(sevenths, ["2026-01-01 00:56:00 +00:00", "2026-01-01 01:00:00 +00:00"]);
}

#[test]
fn a_certain_time_ticks_once_on_each_day() {
    let skipped = ticks("30 2 * * *", "Europe/Berlin", "2027-03-27T12:00:00Z", 2);
    assert_eq!(skipped, ["2027-03-28 03:00:00 +02:00", "2027-03-29 02:30:00 +02:00"]);
    let twice = ticks("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
    assert_eq!(twice, ["2026-10-25 02:30:00 +02:00", "2026-10-26 02:30:00 +01:00"]);
    let half_an_hour = ticks("45 1 * * *", "Australia/Lord_Howe", "2027-04-03T00:00:00Z", 2);
    assert_eq!(half_an_hour, ["2027-04-04 01:45:00 +11:00", "2027-04-05 01:45:00 +10:30"]);
    let two_of_one_hour = ticks("0,30 2 * * *", "Europe/Berlin", "2027-03-27T12:00:00Z", 2);
    assert_eq!(two_of_one_hour, ["2027-03-28 03:00:00 +02:00", "2027-03-29 02:00:00 +02:00"]);
    let lost_day = ticks("0 7 * * *", "Pacific/Apia", "2011-12-29T18:00:00Z", 2);
    assert_eq!(lost_day, ["2011-12-31 00:00:00 +14:00", "2011-12-31 07:00:00 +14:00"]);
}

#[test]
fn all_others_follow_the_clock_on_the_wall() {
    let skipped = ticks("*/30 * * * *", "Europe/Berlin", "2027-03-28T00:00:00Z", 2);
    assert_eq!(skipped, ["2027-03-28 01:30:00 +01:00", "2027-03-28 03:00:00 +02:00"]);
    let twice = ticks("30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 3);
    let expected = ["2026-10-25 02:30:00 +02:00", "2026-10-25 02:30:00 +01:00", "2026-10-25 03:30:00 +01:00"];
    assert_eq!(twice, expected);
    let lost_day = ticks("0 * * * *", "Pacific/Apia", "2011-12-30T09:00:00Z", 2);
    assert_eq!(lost_day, ["2011-12-31 00:00:00 +14:00", "2011-12-31 01:00:00 +14:00"]);
}

const ZONES: [&str; 13] = [
    "UTC",
    "Europe/Berlin",
    "Europe/London",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Asia/Kathmandu",
    "Asia/Shanghai",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
];

const PATTERNS: [&str; 14] = [
    "* * * * *",
    "*/7 * * * *",
    "30 * * * *",
    "0 */2 * * *",
    "0 0 * * *",
    "30 2 * * *",
    "0,30 1-3 * * *",
    "45 1,2 * * *",
    "*/15 2 * * *",
    "0 7 * * 1-5",
    "0 0 1 * *",
    "0 12 13 * 5",
    "0 3 29 2 *",
    "59 23 31 12 *",
];

/// Every minute is looked at: slow, and nothing to get wrong. Around each change of a clock in these years, and for two
/// days at the end of each February.
#[test]
fn ticks_are_those_that_a_clock_on_the_wall_shows() {
    let long = std::env::var_os("TASKMQ_TEST_LONG").is_some();
    let last_year = if long { 2040 } else { 2027 };
    let seed = std::env::var("TASKMQ_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    for zone in ZONES {
        let tz: Tz = zone.parse().expect("a time zone");
        let mut days: BTreeSet<NaiveDate> = changes(tz, 2024, last_year);
        days.extend((2024..=last_year).filter_map(|year| NaiveDate::from_ymd_opt(year, 2, 28)));
        if zone == "Pacific/Apia" {
            days.extend(changes(tz, 2011, 2012));
        }
        let mut patterns: Vec<String> = PATTERNS.map(str::to_owned).to_vec();
        patterns.extend((0..if long { 60 } else { 8 }).map(|_| some_pattern(&mut random)));
        let patterns: Vec<(Cron, Oracle)> =
            patterns.iter().map(|text| (cron(text, zone), Oracle::of(text))).collect();
        for day in days {
            let from = (day.and_hms_opt(0, 0, 0).expect("midnight") - Duration::hours(14)).and_utc();
            let until = from + Duration::hours(62);
            let shown: Vec<(DateTime<Utc>, NaiveDateTime)> = minutes(from - Duration::days(1), until)
                .map(|at| (at, at.with_timezone(&tz).naive_local()))
                .collect();
            for (cron, oracle) in &patterns {
                let expected: Vec<_> = oracle.ticks(&shown).into_iter().filter(|tick| *tick > from).collect();
                let ticks: Vec<_> = cron.upcoming(from).take_while(|tick| *tick <= until).collect();
                assert_eq!(ticks, expected, "{cron:?} around {day}, TASKMQ_TEST_SEED={seed}");
                assert!(ticks.windows(2).all(|two| two[0] < two[1]), "{cron:?}: {ticks:?}");
            }
        }
    }
}

fn minutes(from: DateTime<Utc>, until: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
    std::iter::successors(Some(from), |at| Some(*at + Duration::minutes(1)))
        .take_while(move |at| *at <= until)
}

/// The days on which clocks are changed.
fn changes(tz: Tz, first_year: i32, last_year: i32) -> BTreeSet<NaiveDate> {
    let mut at = tz.with_ymd_and_hms(first_year, 1, 1, 12, 0, 0).earliest().expect("a noon");
    let mut days = BTreeSet::new();
    while at.year() <= last_year {
        let next = at + Duration::hours(24);
        if next.naive_local() - at.naive_local() != Duration::hours(24) {
            days.insert(next.date_naive());
        }
        at = next;
    }
    days
}

fn some_pattern(random: &mut fastrand::Rng) -> String {
    let mut field = |least: u32, most: u32| match random.u32(0..6) {
        0 | 1 => "*".to_owned(),
        2 => format!("*/{}", random.u32(2..=most)),
        3 => {
            let first = random.u32(least..=most);
            format!("{first}-{}", random.u32(first..=most))
        }
        4 => format!("{},{}", random.u32(least..=most), random.u32(least..=most)),
        _ => random.u32(least..=most).to_string(),
    };
    // Hours of the night, when clocks are changed.
    format!("{} {} {} * {}", field(0, 59), field(0, 4), field(1, 28), field(0, 6))
}

struct Oracle {
    fields: [BTreeSet<u32>; 5],
    either_day: bool,
    at_fixed_times: bool,
}

impl Oracle {
    fn of(text: &str) -> Self {
        let words: Vec<&str> = text.split(' ').collect();
        let limits = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
        let fields = std::array::from_fn(|at| numbers(words[at], limits[at]));
        Self {
            fields,
            either_day: words[2] != "*" && words[4] != "*",
            at_fixed_times: !words[0].contains('*') && !words[1].contains('*'),
        }
    }

    fn shows(&self, wall: NaiveDateTime) -> bool {
        let [minutes, hours, days, months, weekdays] = &self.fields;
        let day = days.contains(&wall.day());
        let weekday = weekdays.contains(&wall.weekday().num_days_from_sunday());
        minutes.contains(&wall.minute())
            && hours.contains(&wall.hour())
            && months.contains(&wall.month())
            && if self.either_day { day || weekday } else { day && weekday }
    }

    fn ticks(&self, shown: &[(DateTime<Utc>, NaiveDateTime)]) -> Vec<DateTime<Utc>> {
        if !self.at_fixed_times {
            return shown.iter().filter(|(_, wall)| self.shows(*wall)).map(|(at, _)| *at).collect();
        }
        let mut latest = shown[0].1;
        let mut ticks = Vec::new();
        for (at, wall) in &shown[1..] {
            // Every minute that no clock has shown yet, the skipped ones too.
            let mut new = false;
            while latest < *wall {
                latest += Duration::minutes(1);
                new |= self.shows(latest);
            }
            if new {
                ticks.push(*at);
            }
        }
        ticks
    }
}

fn numbers(field: &str, (least, most): (u32, u32)) -> BTreeSet<u32> {
    let number = |text: &str| -> u32 { text.parse().expect("a number") };
    field
        .split(',')
        .flat_map(|part| match part.split_once(['/', '-']) {
            None if part == "*" => (least..=most).collect::<Vec<_>>(),
            None => vec![number(part)],
            Some(("*", step)) => (least..=most).step_by(number(step) as usize).collect(),
            Some((first, last)) => (number(first)..=number(last)).collect(),
        })
        .collect()
}

/// What has the shape of a pattern, of numbers and words that may be wrong.
fn nearly_patterns() -> impl Strategy<Value = String> {
    let part = "\\*|\\?|[0-9]{1,3}|[0-9]{1,2}-[0-9]{1,2}|\\*/[0-9]{1,3}|[0-9]{1,2}-[0-9]{1,2}/[0-9]{1,2}|[A-Za-z]{1,4}|L|W|LW|[0-9]{1,2}W|[0-9]L|[a-z]{3}#[0-9]|[0-9]#[0-9]|jan|mon-fri|\\+[0-9]";
    let field = proptest::collection::vec(part, 1..4).prop_map(|parts| parts.join(","));
    prop_oneof![
        1 => any::<String>(),
        1 => "@[a-z]{0,9}",
        8 => proptest::collection::vec(field, 4..8).prop_map(|fields| fields.join(" ")),
    ]
}

fn zones() -> impl Strategy<Value = String> {
    let known = (0..TZ_VARIANTS.len()).prop_map(|at| TZ_VARIANTS[at].name().to_owned());
    prop_oneof![8 => known, 1 => any::<String>(), 1 => "[A-Z][a-z]{0,8}/[A-Z][a-z]{0,8}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// Either a clear error, or ticks of which each is later than the one before.
    #[test]
    fn whatever_is_written_ticks_forwards_or_is_refused(text in nearly_patterns(), zone in zones(), after in -2_000_000_000_i64..8_000_000_000) {
        match Cron::parse(&text, &zone) {
            Ok(cron) => {
                prop_assert_eq!(cron.as_str(), text.trim());
                let mut before = DateTime::from_timestamp(after, 999_999_999).expect("a time");
                for tick in cron.upcoming(before).take(5) {
                    prop_assert!(tick > before, "{} is not after {}", tick, before);
                    prop_assert_eq!(tick.timestamp_subsec_nanos(), 0);
                    before = tick;
                }
            }
            Err(Error::Cron { problem, .. }) => prop_assert!(!problem.is_empty()),
            Err(Error::TimeZone { .. }) => prop_assert!(Tz::from_str(&zone).is_err()),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

/// What is far away is looked for day by day, so there are fewer in an ordinary run.
fn cases() -> u32 {
    if std::env::var_os("TASKMQ_TEST_LONG").is_some() { 10_000 } else { 1000 }
}
