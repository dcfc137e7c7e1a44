use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Duration, NaiveDateTime, SubsecRound, TimeZone, Timelike, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use croner::parser::{CronParser, Seconds, Year};

use crate::{Error, Result};

/// The longest cron text, in bytes.
const MAX_BYTES: usize = 255;
/// The longest time that clocks skip is a whole day: Samoa had no 30 December 2011.
const LONGEST_GAP_MINUTES: i64 = 25 * 60;

/// When a schedule ticks: a cron text in a time zone.
///
/// Five fields (minute, hour, day of month, month, day of week), or six with the second first; or one of `@hourly`,
/// `@daily`, `@weekly`, `@monthly`, `@yearly`. A field is `*`, a number, a list `1,2`, a range `1-5` or steps `*/15`;
/// months and days of the week have names too (`jan`, `mon-fri`), `L` is the last day of a month, `fri#2` its second
/// Friday. If both the day of month and the day of week are given, either is enough, as cron has always had it.
///
/// Where clocks are changed: a schedule for certain hours and minutes (neither the hour nor the minute has a `*`) ticks
/// once on each of its days, at the end of the skipped time if its own is skipped, and only the first time if its own
/// comes twice. All others follow the clock on the wall: what is skipped does not tick, what comes twice ticks twice.
///
/// ```
/// use taskmq_core::schedule::Cron;
/// let weekdays = Cron::parse("0 7 * * mon-fri", "Europe/Berlin")?;
/// let friday = "2026-11-27T12:00:00Z".parse().unwrap();
/// assert_eq!(weekdays.next(friday).unwrap().to_rfc3339(), "2026-11-30T06:00:00+00:00");
/// # Ok::<(), taskmq_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    zone: Tz,
    pattern: croner::Cron,
    /// Neither its second nor its minute nor its hour has a `*`.
    at_fixed_times: bool,
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({:?}, {})", self.text, self.zone.name())
    }
}

impl Cron {
    /// Reads a cron text, and the name of a time zone as the IANA database has it.
    ///
    /// # Errors
    /// [`Error::Cron`] names the field that is wrong, or says that it never ticks; [`Error::TimeZone`].
    ///
    /// ```
    /// let error = taskmq_core::schedule::Cron::parse("0 25 * * *", "UTC").unwrap_err();
    /// assert!(error.to_string().contains("its hour is \"25\": write 0 to 23"));
    /// ```
    pub fn parse(cron: &str, time_zone: &str) -> Result<Self> {
        let zone = zone(time_zone)?;
        let text = cron.trim();
        let wrong = |problem: String| Error::Cron { cron: text.chars().take(100).collect(), problem };
        if text.len() > MAX_BYTES {
            return Err(wrong(format!("it is longer than {MAX_BYTES} bytes")));
        }
        let written = written_out(text).ok_or_else(|| {
            wrong("the names are @hourly, @daily, @weekly, @monthly and @yearly".to_owned())
        })?;
        let fields: Vec<&str> = written.split_whitespace().collect();
        let names = match fields.len() {
            6 => &FIELDS[..],
            5 => &FIELDS[1..],
            count => {
                return Err(wrong(format!(
                    "it has {count} fields; write five (minute, hour, day of month, month, day of week) or six, \
                     with the second first"
                )));
            }
        };
        for (at, (name, field)) in names.iter().zip(&fields).enumerate() {
            let mut alone = vec!["*"; fields.len()];
            alone[at] = field;
            // The parser passes over an empty item of a list.
            let has_gap = field.split(',').any(str::is_empty);
            if has_gap || !name.has_only_its_words(field) || parser().parse(&alone.join(" ")).is_err() {
                return Err(wrong(format!("its {} is {field:?}: write {}", name.name, name.allowed)));
            }
        }
        let pattern = parser().parse(&written).map_err(|e| wrong(e.to_string()))?;
        let times = &fields[..fields.len() - 3];
        let at_fixed_times = !times.iter().any(|field| field.contains(['*', '?']));
        let cron = Self { text: text.to_owned(), zone, pattern, at_fixed_times };
        if cron.next(DateTime::UNIX_EPOCH + Duration::days(20_000)).is_none() {
            return Err(wrong("there is no such day".to_owned()));
        }
        Ok(cron)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name of the time zone.
    pub fn time_zone(&self) -> &'static str {
        self.zone.name()
    }

    /// The first tick after this time; `None`: there is none before the year 5000.
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = after.trunc_subsecs(0).with_timezone(&self.zone);
        if !self.at_fixed_times {
            return self.pattern.find_next_occurrence(&local, false).ok().map(|tick| tick.to_utc());
        }
        let mut wall = local.naive_local();
        loop {
            wall = self.pattern.find_next_occurrence(&wall, false).ok()?;
            // One that comes twice and was the first time already, or one of several in a skipped hour.
            if let Some(tick) = self.first_at(wall).filter(|tick| *tick > after) {
                return Some(tick);
            }
        }
    }

    /// The ticks after this time, one after the other.
    pub fn upcoming(&self, after: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> + '_ {
        std::iter::successors(self.next(after), |tick| self.next(*tick))
    }

    /// This time in its own time zone, with the offset: `2026-11-30 07:00:00 +01:00`.
    pub fn local(&self, time: DateTime<Utc>) -> String {
        time.with_timezone(&self.zone).format("%F %T %:z").to_string()
    }

    /// When clocks first show this time, or the first after it that they do show.
    fn first_at(&self, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
        let shown = |wall: NaiveDateTime| self.zone.from_local_datetime(&wall).earliest();
        if let Some(tick) = shown(wall) {
            return Some(tick.to_utc());
        }
        let minute = wall.with_second(0)?;
        (1..=LONGEST_GAP_MINUTES)
            .find_map(|later| shown(minute + Duration::minutes(later)))
            .map(|tick| tick.to_utc())
    }
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build()
}

fn written_out(text: &str) -> Option<String> {
    if !text.starts_with('@') {
        return Some(text.to_owned());
    }
    let fields = match text.to_ascii_lowercase().as_str() {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        _ => return None,
    };
    Some(fields.to_owned())
}

struct Field {
    name: &'static str,
    allowed: &'static str,
    words: &'static [&'static str],
}

const FIELDS: [Field; 6] = [
    Field { name: "second", allowed: "0 to 59, *, a list 1,2, a range 1-5 or steps */10", words: &[] },
    Field { name: "minute", allowed: "0 to 59, *, a list 1,2, a range 1-5 or steps */10", words: &[] },
    Field { name: "hour", allowed: "0 to 23, *, a list 1,2, a range 1-5 or steps */2", words: &[] },
    Field {
        name: "day of month",
        allowed: "1 to 31, *, a list 1,15, a range 1-7, steps */2 or L for the last",
        words: &["L", "W", "LW"],
    },
    Field {
        name: "month",
        allowed: "1 to 12 or jan to dec, *, a list, a range jan-mar or steps */3",
        words: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    },
    Field {
        name: "day of week",
        allowed: "0 to 7 or sun to sat (0 and 7 are Sunday), *, a list, a range mon-fri or fri#2 for the second",
        words: &[
            "SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "L", "SUNL", "MONL", "TUEL", "WEDL", "THUL",
            "FRIL", "SATL",
        ],
    },
];

impl Field {
    /// The parser takes the name of a month or a day for its number in any field.
    fn has_only_its_words(&self, field: &str) -> bool {
        let words = field.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
        words.into_iter().all(|word| self.words.contains(&word.to_uppercase().as_str()))
    }
}

fn zone(name: &str) -> Result<Tz> {
    Tz::from_str(name).map_err(|_| {
        let zones = || TZ_VARIANTS.iter().map(|zone| zone.name());
        let city = name.replace(' ', "_");
        let has_city =
            |zone: &&str| zone.rsplit('/').next().is_some_and(|last| last.eq_ignore_ascii_case(&city));
        let meant = zones().find(|zone| zone.eq_ignore_ascii_case(name)).or_else(|| zones().find(has_city));
        Error::TimeZone { zone: name.chars().take(50).collect(), meant }
    })
}

#[cfg(test)]
mod tests;
