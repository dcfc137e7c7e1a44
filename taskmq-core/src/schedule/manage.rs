//! What people do with schedules.

use crate::broker::{Broker, Note, Schedule, atomically};
use crate::{BrokerConnection, Error, Produced, Result};

/// Every schedule, by name.
///
/// # Errors
/// What the database reports.
pub fn list(conn: &mut impl BrokerConnection) -> Result<Vec<Schedule>> {
    conn.broker().schedules(None)
}

/// Lets a schedule tick no more, and notes it. `false`: it was paused already.
///
/// # Errors
/// [`Error::NoSchedule`] when there is none of this name, and what the database reports.
pub fn pause(conn: &mut impl BrokerConnection, name: &str, actor: &str) -> Result<bool> {
    set_paused(conn.broker(), name, true, actor)
}

/// Lets a schedule tick again, from now on, and notes it. `false`: it was not paused.
///
/// # Errors
/// As [`pause`]; and [`Error::Cron`] when its text cannot be read.
pub fn resume(conn: &mut impl BrokerConnection, name: &str, actor: &str) -> Result<bool> {
    set_paused(conn.broker(), name, false, actor)
}

/// Removes a schedule, and notes it. The messages that it has enqueued stay.
///
/// # Errors
/// As [`pause`]; and [`Error::Schedule`] when its consumer declares it.
pub fn remove(conn: &mut impl BrokerConnection, name: &str, actor: &str) -> Result<()> {
    atomically(conn.broker(), |broker| {
        let schedule = find(broker, name)?;
        if schedule.declared_by.is_some() {
            let problem = "its consumer declares it: remove it there, or pause it".to_owned();
            return Err(Error::Schedule { name: name.to_owned(), problem });
        }
        broker.remove_schedule(name)?;
        note(broker, &schedule, "remove schedule", actor, None)
    })
}

/// Enqueues a message of a schedule now, whether it is paused or not, and notes it. Its ticks stay as they are.
///
/// # Errors
/// As [`pause`].
pub fn run_now(conn: &mut impl BrokerConnection, name: &str, actor: &str) -> Result<Produced> {
    atomically(conn.broker(), |broker| {
        let schedule = find(broker, name)?;
        let produced = broker.produce(&schedule.message(schedule.seen_at, 0)?)?;
        note(broker, &schedule, "run schedule", actor, Some(produced))?;
        Ok(produced)
    })
}

fn set_paused(broker: &mut dyn Broker, name: &str, paused: bool, actor: &str) -> Result<bool> {
    atomically(broker, |broker| {
        let schedule = find(broker, name)?;
        if !paused {
            // A worker would pause it again at once.
            schedule.cron()?;
        }
        let changed = broker.pause_schedule(name, paused)?;
        if changed {
            let action = if paused { "pause schedule" } else { "resume schedule" };
            note(broker, &schedule, action, actor, None)?;
        }
        Ok(changed)
    })
}

fn find(broker: &mut dyn Broker, name: &str) -> Result<Schedule> {
    broker
        .schedules(Some(name))?
        .into_iter()
        .next()
        .ok_or_else(|| Error::NoSchedule { name: name.chars().take(100).collect() })
}

fn note(
    broker: &mut dyn Broker,
    schedule: &Schedule,
    action: &str,
    actor: &str,
    produced: Option<Produced>,
) -> Result<()> {
    let (topic, message_id) = (Some(schedule.topic.as_str()), produced.map(Produced::id));
    let messages = i64::from(matches!(produced, Some(Produced::New(_))));
    broker.note(&Note { actor, action, topic, message_id, details: &schedule.name, messages }).map(drop)
}
