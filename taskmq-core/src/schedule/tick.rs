use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::Cron;
use crate::broker::atomically;
use crate::broker::{Broker, Note, Schedule};
use crate::{Error, Result};

/// So many schedules are looked at together.
const AT_ONCE: i64 = 100;
/// A tick that is found so late is enqueued as if it were not: workers were busy, or one died. When it is later, none ran.
const LATE: TimeDelta = TimeDelta::seconds(10);
/// Missed ticks are counted up to here.
const MOST_MISSED: usize = 1000;

/// What a round of ticks brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticked {
    /// Messages that were enqueued.
    pub messages: usize,
    /// How long until the next schedule is due; `None`: there is none.
    pub next: Option<Duration>,
}

/// What a worker of these topics does when a schedule is due: lets each that is tick once, in a transaction of its own,
/// which moves it on if nobody else has.
///
/// # Errors
/// What the database reports of the first one that could not tick; the others have ticked all the same.
pub fn tick(broker: &mut dyn Broker, topics: &[&str]) -> Result<Ticked> {
    let schedules = broker.next_schedules(topics, AT_ONCE)?;
    let mut ticked = Ticked::default();
    let mut failed = Ok(());
    for schedule in &schedules {
        let next = match Step::of(schedule) {
            Ok(Step { tick: None, next, .. }) if Some(next) == schedule.next_at => next,
            Ok(step) => match take(broker, schedule, &step) {
                Ok(produced) => {
                    ticked.messages += usize::from(produced);
                    step.next
                }
                Err(error) if is_its_own(&error) => {
                    failed = failed.and(give_up(broker, schedule, &error));
                    continue;
                }
                Err(error) => {
                    failed = failed.and(Err(error));
                    continue;
                }
            },
            Err(error) => {
                failed = failed.and(give_up(broker, schedule, &error));
                continue;
            }
        };
        // Where another was faster this is known all the same. If a lock was in the way, a look tells again.
        let wait = (next - schedule.seen_at).to_std().unwrap_or_default();
        ticked.next = Some(ticked.next.map_or(wait, |soonest| soonest.min(wait)));
    }
    if schedules.len() as i64 == AT_ONCE && ticked.messages > 0 {
        ticked.next = Some(Duration::ZERO);
    }
    failed.map(|()| ticked)
}

/// What is wrong with the schedule itself, and so would be at every tick.
fn is_its_own(error: &Error) -> bool {
    matches!(
        error,
        Error::Topic { .. }
            | Error::Key { .. }
            | Error::Json { .. }
            | Error::TooLarge { .. }
            | Error::Schedule { .. }
    )
}

/// What is to be done with a schedule.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    /// The tick that is due.
    tick: Option<DateTime<Utc>>,
    /// So many after it were missed.
    missed: usize,
    next: DateTime<Utc>,
}

impl Step {
    fn of(schedule: &Schedule) -> Result<Self> {
        let cron = schedule.cron()?;
        let next_after = |time| cron.next(time).ok_or_else(|| never(&cron));
        let now = schedule.seen_at;
        let due = match schedule.next_at {
            Some(due) => due,
            None => next_after(schedule.since)?,
        };
        if due > now {
            return Ok(Step { tick: None, missed: 0, next: due });
        }
        if now - due <= LATE {
            return Ok(Step { tick: Some(due), missed: 0, next: next_after(due)? });
        }
        let missed = cron.upcoming(due).take(MOST_MISSED).take_while(|tick| *tick <= now).count();
        Ok(Step { tick: Some(due), missed, next: next_after(now)? })
    }
}

fn never(cron: &Cron) -> Error {
    Error::Cron { cron: cron.as_str().to_owned(), problem: "it never ticks again".to_owned() }
}

/// Whether a message was enqueued.
fn take(broker: &mut dyn Broker, schedule: &Schedule, step: &Step) -> Result<bool> {
    atomically(broker, |broker| {
        if !broker.hold_schedule(schedule)? {
            return Ok(false);
        }
        let Some(tick) = step.tick else {
            broker.advance_schedule(&schedule.name, step.next, None)?;
            return Ok(false);
        };
        let produced = broker.produce(&schedule.message(tick, step.missed)?)?;
        broker.advance_schedule(&schedule.name, step.next, Some((tick, produced.id())))?;
        if step.missed > 0 {
            tracing::warn!(
                "schedule {}: its tick of {tick} comes late, and {} after it were missed: no worker ran",
                schedule.name,
                step.missed
            );
        }
        Ok(matches!(produced, crate::Produced::New(_)))
    })
}

/// Only another program can have stored what cannot be read. Pausing it says so where people look.
fn give_up(broker: &mut dyn Broker, schedule: &Schedule, error: &Error) -> Result<()> {
    tracing::error!("schedule {} is paused: {error}", schedule.name);
    atomically(broker, |broker| {
        if broker.hold_schedule(schedule)? && broker.pause_schedule(&schedule.name, true)? {
            let details = format!("{}: {error}", schedule.name);
            broker.note(&Note {
                actor: "a worker",
                action: "pause schedule",
                topic: Some(&schedule.topic),
                message_id: None,
                details: &details,
                messages: 0,
            })?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> DateTime<Utc> {
        format!("2026-03-01T{time}Z").parse().expect("a time")
    }

    fn schedule(cron: &str, next_at: Option<&str>, now: &str) -> Schedule {
        Schedule {
            name: "s".to_owned(),
            cron: cron.to_owned(),
            time_zone: "UTC".to_owned(),
            topic: "t".to_owned(),
            payload: "1".to_owned(),
            priority: 0,
            max_attempts: None,
            unique_key: None,
            headers: None,
            paused: false,
            since: at("00:00:00"),
            next_at: next_at.map(at),
            last_at: None,
            last_message_id: None,
            declared_by: None,
            orphaned: false,
            seen_at: at(now),
        }
    }

    fn step(cron: &str, next_at: Option<&str>, now: &str) -> (Option<DateTime<Utc>>, usize, DateTime<Utc>) {
        let step = Step::of(&schedule(cron, next_at, now)).expect("a step");
        (step.tick, step.missed, step.next)
    }

    #[test]
    fn a_tick_that_is_a_little_late_is_not_missed() {
        assert_eq!(
            step("* * * * * *", Some("01:00:00"), "01:00:09.9"),
            (Some(at("01:00:00")), 0, at("01:00:01"))
        );
    }

    #[test]
    fn one_tick_makes_up_for_all_that_were_missed() {
        let missed = step("*/10 * * * * *", Some("01:00:00"), "01:01:30.5");
        assert_eq!(missed, (Some(at("01:00:00")), 9, at("01:01:40")));
        assert_eq!(step("* * * * * *", Some("01:00:00"), "23:00:00").1, MOST_MISSED);
    }

    #[test]
    fn what_was_not_worked_out_yet_counts_from_when_it_was_stored() {
        assert_eq!(step("0 6 * * *", None, "05:59:59"), (None, 0, at("06:00:00")));
        assert_eq!(step("0 6 * * *", None, "06:00:05").0, Some(at("06:00:00")));
    }

    #[test]
    fn a_clock_that_is_set_back_ticks_nothing_twice() {
        assert_eq!(step("0 * * * *", Some("03:00:00"), "01:59:59"), (None, 0, at("03:00:00")));
    }
}
