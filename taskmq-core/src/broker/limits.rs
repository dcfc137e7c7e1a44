//! Limits of topics: how many messages run at once, and how many begin in a time, over all workers.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Administration, Claimed, Note, rows};
use crate::limits::{MAX_RATE, MAX_RATE_PERIOD, MAX_RUNNING, check_topic};
use crate::{Error, Result};

/// What all workers together may do with the messages of one topic.
///
/// ```
/// use taskmq_core::broker::Limit;
/// let limit = Limit { running: Some(5), rate: Some("100/1m".parse()?) };
/// assert_eq!(limit.to_string(), "5 at once, 100/1m");
/// # Ok::<(), taskmq_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// At most so many run at once.
    pub running: Option<u32>,
    /// At most so many begin in a time.
    pub rate: Option<Rate>,
}

/// So many messages may begin in each period. A topic that has rested may begin them all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub messages: u32,
    /// In how long: whole seconds.
    pub per: Duration,
}

/// A topic that has a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitedTopic {
    /// The topic.
    pub topic: String,
    /// What it may do.
    pub limit: Limit,
    /// So many of its messages are leased now.
    pub running_now: i64,
    /// So many began since the limit was set.
    pub begun: i64,
    /// When it was set.
    pub since: DateTime<Utc>,
    /// Who set it.
    pub actor: String,
}

/// Which messages of a limited topic a claim is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among {
    /// Those that [`claim`](super::Broker::claim) takes.
    Ordinary,
    /// Those that [`claim_suspects`](super::Broker::claim_suspects) takes.
    Suspects,
    /// The one that [`claim_alone`](super::Broker::claim_alone) takes.
    SetAside,
}

/// What a claim within a limit gives.
#[derive(Clone, Debug, Default)]
pub struct Within {
    /// The newly leased messages, each with a lease of its own.
    pub claimed: Vec<Claimed>,
    /// So many more that are due wait for the turn of their ordering key; others may be due behind them.
    pub in_line: usize,
    /// What kept it from taking more, if that was the limit.
    pub reached: Option<Reached>,
}

/// Why a limit lets nothing more begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// As many run as may.
    Running,
    /// As many began as may; the next one may after this time.
    Rate(Duration),
}

impl Limit {
    /// Whether it can be set: [`MAX_RUNNING`], [`MAX_RATE`] and [`MAX_RATE_PERIOD`] say what there may be at most.
    ///
    /// # Errors
    /// [`Error::Limit`] says what is wrong with it.
    pub fn check(&self) -> Result<()> {
        let problem = match *self {
            Limit { running: None, rate: None } => {
                "it limits nothing: give a number at once, a rate, or both".to_owned()
            }
            Limit { running: Some(running), .. } if !(1..=MAX_RUNNING).contains(&running) => {
                format!(
                    "{running} messages at once, but 1 to {MAX_RUNNING} can be; to let none run, pause the topic"
                )
            }
            Limit { rate: Some(Rate { messages, .. }), .. } if !(1..=MAX_RATE).contains(&messages) => {
                format!(
                    "{messages} messages a period, but 1 to {MAX_RATE} can be; to let none begin, pause the topic"
                )
            }
            Limit { rate: Some(Rate { per, .. }), .. }
                if per.subsec_nanos() > 0 || per.is_zero() || per > MAX_RATE_PERIOD =>
            {
                format!("a period of {per:?}, but whole seconds from 1 s to 1 day can be")
            }
            _ => return Ok(()),
        };
        Err(Error::Limit { problem })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Limit { running: Some(running), rate: Some(rate) } => write!(f, "{running} at once, {rate}"),
            Limit { running: Some(running), rate: None } => write!(f, "{running} at once"),
            Limit { running: None, rate: Some(rate) } => write!(f, "{rate}"),
            Limit { running: None, rate: None } => f.write_str("none"),
        }
    }
}

/// In seconds: a second, a minute, an hour, a day.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.per.as_secs();
        let whole = UNITS.into_iter().find(|(_, unit)| seconds >= *unit && seconds.is_multiple_of(*unit));
        let (letter, unit) = whole.unwrap_or(('s', 1));
        write!(f, "{}/{}{letter}", self.messages, seconds / unit)
    }
}

/// A number, a slash and a period: `100/1m`, `5/s`, `1000/12h`.
impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = || {
            let (messages, per) = text.trim().split_once('/')?;
            let (number, letter) = per.trim().split_at_checked(per.trim().len().checked_sub(1)?)?;
            let (_, unit) = UNITS.into_iter().find(|(known, _)| letter == known.to_string())?;
            let number = if number.is_empty() { 1 } else { number.trim().parse::<u64>().ok()? };
            let per = Duration::from_secs(number.checked_mul(unit)?);
            Some(Self { messages: messages.trim().parse().ok()?, per })
        };
        parsed().ok_or_else(|| {
            let shown: String = text.chars().take(100).collect();
            let problem = format!(
                "{shown:?} is no rate: write a number of messages, a slash and a period in s, m, h or d, as 100/1m"
            );
            Error::Limit { problem }
        })
    }
}

/// running, rate, per_seconds.
pub(super) type LimitRow = (Option<i32>, Option<i32>, Option<i32>);

fn limit((running, rate, per_seconds): LimitRow) -> Limit {
    let positive = |number: i32| u32::try_from(number).unwrap_or_default();
    let per = |seconds: i32| Duration::from_secs(u64::from(positive(seconds)));
    let rate = rate.zip(per_seconds).map(|(messages, s)| Rate { messages: positive(messages), per: per(s) });
    Limit { running: running.map(positive), rate }
}

/// As it is stored.
fn limit_row(limit: &Limit) -> LimitRow {
    let stored = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let seconds = |rate: &Rate| i32::try_from(rate.per.as_secs()).unwrap_or(i32::MAX);
    (
        limit.running.map(stored),
        limit.rate.as_ref().map(|rate| stored(rate.messages)),
        limit.rate.as_ref().map(seconds),
    )
}

/// The topic, its limit, begun, since, actor.
pub(super) type LimitedRow = (String, LimitRow, i64, i64, String);

fn limited((topic, row, begun, since, actor): LimitedRow, running_now: i64) -> LimitedTopic {
    LimitedTopic { topic, limit: limit(row), running_now, begun, since: rows::time(since), actor }
}

/// Where a topic stands, by its row, which is locked.
///
/// The rate is kept by the generic cell rate algorithm (ITU-T I.371, as virtual scheduling), which needs one number: the
/// time until which all that began has used the rate up. Each message moves it on by one interval, from now on at least;
/// and while it is less than a whole period ahead, another one may begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) limit: Limit,
    /// In nanoseconds since 1970, as
    pub(super) spent_until: i64,
    /// the time now, by the database's clock.
    pub(super) now: i64,
}

impl Standing {
    /// running, rate, per_seconds; `spent_until`; the time now in microseconds.
    pub(super) fn of((row, spent_until, now): (LimitRow, i64, i64)) -> Self {
        Self { limit: limit(row), spent_until, now: now.saturating_mul(1000) }
    }

    /// For each message, rounded up, so that never more than the rate begin; and for all that may begin at once.
    fn interval(rate: Rate) -> (i64, i64) {
        let messages = i64::from(rate.messages.max(1));
        let per = i64::try_from(rate.per.as_nanos()).unwrap_or(i64::MAX);
        let interval = per / messages + i64::from(per % messages > 0);
        (interval, interval.saturating_mul(messages))
    }

    /// How far ahead of now the rate is used up. Of a clock that was set back, or a longer period before, no more
    /// than a whole period is left.
    fn ahead(&self, burst: i64) -> i64 {
        self.spent_until.saturating_sub(self.now).clamp(0, burst)
    }

    /// How many may begin of `wanted` ones when so many run.
    fn room(&self, wanted: i64, running: i64) -> i64 {
        let places = self.limit.running.map(|most| i64::from(most).saturating_sub(running));
        let tokens = self.limit.rate.map(|rate| {
            let (interval, burst) = Self::interval(rate);
            (burst - self.ahead(burst)) / interval
        });
        [places, tokens].into_iter().flatten().fold(wanted, i64::min).max(0)
    }

    /// After so many have begun.
    fn spent(self, begun: i64) -> Self {
        let spent_until = self.limit.rate.map_or(self.spent_until, |rate| {
            let (interval, burst) = Self::interval(rate);
            self.now.saturating_add(self.ahead(burst)).saturating_add(interval.saturating_mul(begun))
        });
        Self { spent_until, ..self }
    }

    /// Why nothing more may begin when so many run; the rate first, for what ends does not help it.
    fn reached(&self, running: i64) -> Reached {
        let wait = self.limit.rate.map_or(0, |rate| {
            let (interval, burst) = Self::interval(rate);
            self.ahead(burst) + interval - burst
        });
        match u64::try_from(wait) {
            Ok(wait) if wait > 0 => Reached::Rate(Duration::from_nanos(wait)),
            _ if self.limit.running.is_some_and(|most| running >= i64::from(most)) => Reached::Running,
            _ => Reached::Rate(Duration::ZERO),
        }
    }
}

/// What each database does itself for limits, as part of the open transaction.
pub(super) trait Limiting: Administration {
    /// Excludes other claims of this topic to the end of the transaction; `None`: it has no limit any more.
    fn lock_limit(&mut self, topic: &str) -> Result<Option<Standing>>;

    /// How many of its messages are leased, for themselves or with batches from before there was a limit.
    fn count_leased(&mut self, topic: &str) -> Result<i64>;

    /// So many more have begun.
    fn note_begun(&mut self, topic: &str, spent_until: i64, begun: i64) -> Result<()>;

    /// Stores a limit in place of any that the topic had.
    fn put_limit(&mut self, topic: &str, limit: LimitRow, actor: &str) -> Result<()>;

    /// Deletes it; `false`: there is none.
    fn delete_limit(&mut self, topic: &str) -> Result<bool>;

    /// All, by topic.
    fn limit_rows(&mut self) -> Result<Vec<LimitedRow>>;
}

/// Lets `take` lease as many of `wanted` messages as the limit has room for. Gives also what else `take` gives.
pub(super) fn within<C: Limiting, T: Default>(
    conn: &mut C,
    topic: &str,
    wanted: i64,
    take: impl FnOnce(&mut C, i64) -> Result<(Vec<Claimed>, T)>,
) -> Result<(Within, T)> {
    let Some(standing) = conn.lock_limit(topic)? else {
        let (claimed, more) = take(conn, wanted)?;
        return Ok((Within { claimed, ..Within::default() }, more));
    };
    let running = conn.count_leased(topic)?;
    let room = standing.room(wanted, running);
    if room == 0 {
        let at_most = standing.spent(0).spent_until;
        if at_most < standing.spent_until {
            // Or it would be as far ahead at every look until the clock has caught up.
            conn.note_begun(topic, at_most, 0)?;
        }
        let reached = Some(standing.reached(running));
        return Ok((Within { reached, ..Within::default() }, T::default()));
    }
    let (claimed, more) = take(conn, room)?;
    let begun = i64::try_from(claimed.len()).unwrap_or(i64::MAX);
    let standing = standing.spent(begun);
    if begun > 0 {
        conn.note_begun(topic, standing.spent_until, begun)?;
    }
    let limits = room < wanted && begun >= room;
    let reached = limits.then(|| standing.reached(running.saturating_add(begun)));
    Ok((Within { claimed, in_line: 0, reached }, more))
}

/// See [`Administration::set_limit`]; as part of the open transaction, as all below.
pub(super) fn set(conn: &mut impl Limiting, topic: &str, limit: &Limit, actor: &str) -> Result<bool> {
    check_topic(topic)?;
    limit.check()?;
    if conn.lock_limit(topic)?.is_some_and(|standing| standing.limit == *limit) {
        return Ok(false);
    }
    conn.put_limit(topic, limit_row(limit), actor)?;
    write_down(conn, "limit", topic, &limit.to_string(), actor)?;
    Ok(true)
}

/// See [`Administration::lift_limit`].
pub(super) fn lift(conn: &mut impl Limiting, topic: &str, actor: &str) -> Result<bool> {
    let lifted = conn.delete_limit(topic)?;
    if lifted {
        write_down(conn, "lift limit", topic, "", actor)?;
    }
    Ok(lifted)
}

/// See [`Administration::limits`].
pub(super) fn limits(conn: &mut impl Limiting) -> Result<Vec<LimitedTopic>> {
    let rows = conn.limit_rows()?;
    rows.into_iter()
        .map(|row| conn.count_leased(&row.0).map(|running_now| limited(row, running_now)))
        .collect()
}

fn write_down(conn: &mut impl Limiting, action: &str, topic: &str, details: &str, actor: &str) -> Result<()> {
    let note = Note { actor, action, topic: Some(topic), message_id: None, details, messages: 0 };
    conn.note(&note).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn standing(running: Option<u32>, rate: Option<&str>) -> Standing {
        let rate = rate.map(|rate| rate.parse().expect("a rate"));
        Standing { limit: Limit { running, rate }, spent_until: 0, now: 1000 * SECOND }
    }

    #[test]
    fn rates_are_read_and_written() {
        for (text, shown) in [("100/1m", "100/1m"), (" 5 / s", "5/1s"), ("7/90s", "7/90s"), ("1/24h", "1/1d")]
        {
            assert_eq!(text.parse::<Rate>().expect("a rate").to_string(), shown);
        }
        for text in ["", "5", "/s", "5/", "5/1", "5/1y", "-5/1s", "5/1.5s", "5/é", "5/99999999999999999999d"]
        {
            assert!(matches!(text.parse::<Rate>(), Err(Error::Limit { .. })), "{text}");
        }
    }

    #[test]
    fn a_limit_says_what_is_wrong_with_it() {
        let rate = |messages, seconds| Some(Rate { messages, per: Duration::from_secs(seconds) });
        let wrong = [
            Limit::default(),
            Limit { running: Some(0), rate: None },
            Limit { running: Some(10_001), rate: None },
            Limit { running: Some(1), rate: rate(0, 1) },
            Limit { running: None, rate: rate(1_000_001, 1) },
            Limit { running: None, rate: rate(1, 0) },
            Limit { running: None, rate: rate(1, 86_401) },
            Limit { running: None, rate: Some(Rate { messages: 1, per: Duration::from_millis(1500) }) },
        ];
        for limit in wrong {
            assert!(matches!(limit.check(), Err(Error::Limit { .. })), "{limit:?}");
        }
        assert!(Limit { running: Some(10_000), rate: rate(1_000_000, 86_400) }.check().is_ok());
    }

    #[test]
    fn a_rate_gives_all_at_once_and_then_one_after_the_other() {
        let fresh = standing(None, Some("3/1m"));
        assert_eq!(fresh.room(10, 99), 3);
        assert_eq!(fresh.room(2, 0), 2);
        let spent = fresh.spent(3);
        assert_eq!(spent.room(10, 0), 0);
        assert_eq!(spent.reached(0), Reached::Rate(Duration::from_secs(20)));
        let later = Standing { now: spent.now + 20 * SECOND - 1, ..spent };
        assert_eq!(later.room(10, 0), 0);
        let later = Standing { now: spent.now + 20 * SECOND, ..spent };
        assert_eq!(later.room(10, 0), 1);
        assert_eq!(later.spent(1).room(10, 0), 0);
        let rested = Standing { now: spent.now + 1000 * SECOND, ..spent };
        assert_eq!(rested.room(10, 0), 3, "what was not used is not saved up beyond a period");
    }

    #[test]
    fn of_a_clock_that_was_set_back_a_period_is_waited_for_at_most() {
        let back = Standing { now: 0, ..standing(None, Some("3/1m")).spent(3) };
        assert_eq!(back.room(10, 0), 0);
        assert_eq!(back.reached(0), Reached::Rate(Duration::from_secs(20)));
        assert_eq!(back.spent(0).spent_until, 60 * SECOND);
    }

    #[test]
    fn a_rate_that_divides_no_period_is_never_exceeded() {
        let mut standing = standing(None, Some("7/1s")).spent(7);
        let (mut begun, end) = (0, standing.now + 10 * SECOND);
        while standing.now < end {
            let room = standing.room(100, 0);
            standing = standing.spent(room);
            begun += room;
            standing.now += SECOND / 1000;
        }
        assert!((69..=70).contains(&begun), "{begun}");
    }

    #[test]
    fn what_runs_leaves_places() {
        let limit = standing(Some(5), None);
        assert_eq!(
            [limit.room(10, 0), limit.room(10, 3), limit.room(10, 5), limit.room(10, 9)],
            [5, 2, 0, 0]
        );
        assert_eq!(limit.spent(5).spent_until, 0);
        assert_eq!(limit.reached(5), Reached::Running);
        assert_eq!(standing(Some(5), Some("3/1m")).room(10, 4), 1);
    }
}
