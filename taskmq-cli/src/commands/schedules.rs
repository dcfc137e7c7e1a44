use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use taskmq_core::schedule::{self, Schedule};
use taskmq_core::{AnyConnection, MessageId, NewMessage, Produced};

use super::ACTOR;
use crate::cli::{AddScheduleArgs, ScheduleCommand, SchedulesArgs};
use crate::error::Result;
use crate::schema::Check;
use crate::{database, output, payload};

/// Later than this no worker lets it tick that runs.
const LATE: TimeDelta = TimeDelta::seconds(10);

pub(crate) fn run(args: &SchedulesArgs, url: Option<&str>) -> Result<()> {
    let Some(command) = &args.command else { return list(args, url) };
    let mut conn = database::connect(url)?;
    let mut message_id = None;
    let (name, done) = match command {
        ScheduleCommand::Add(add) => {
            taskmq_core::limits::check_topic(&add.topic)?;
            let payload = payload::read(add.payload.as_deref())?;
            let mut check = Check::of(&mut conn, &add.topic, add.unchecked);
            check.payload(&payload, || "this payload".to_owned())?;
            let schedule = message(add, &payload).schedule(&*add.name, &*add.cron);
            schedule.time_zone(&*add.time_zone).store_noted(&mut conn, &ACTOR)?;
            (&add.name, "is stored")
        }
        ScheduleCommand::Remove { name } => {
            schedule::remove(&mut conn, name, &ACTOR)?;
            (name, "is removed")
        }
        ScheduleCommand::Pause { name } => {
            let changed = schedule::pause(&mut conn, name, &ACTOR)?;
            (name, if changed { "is paused" } else { "was paused already" })
        }
        ScheduleCommand::Resume { name } => {
            let changed = schedule::resume(&mut conn, name, &ACTOR)?;
            (name, if changed { "is resumed" } else { "was not paused" })
        }
        ScheduleCommand::Run { name } => {
            let produced = schedule::run_now(&mut conn, name, &ACTOR)?;
            message_id = Some(produced.id());
            let new = matches!(produced, Produced::New(_));
            (name, if new { "runs now" } else { "does not run: a message of its unique key is live" })
        }
    };
    let stored = schedule::list(&mut conn)?.into_iter().find(|schedule| schedule.name == *name);
    if args.json {
        let row = |schedule| Row { message_id, ..row(schedule, 1) };
        output::json(&stored.iter().map(row).collect::<Vec<_>>());
        return Ok(());
    }
    let id = message_id.map_or_else(String::new, |id| format!(" (message {id})"));
    let next = stored.as_ref().and_then(|schedule| next_of(schedule, 1, local).pop());
    let next = match command {
        ScheduleCommand::Add(_) | ScheduleCommand::Resume { .. } => {
            next.map_or_else(String::new, |next| format!(", next {next}"))
        }
        _ => String::new(),
    };
    say!("schedule {} {done}{id}{next}", output::cell(name));
    Ok(())
}

fn message<'a>(add: &'a AddScheduleArgs, payload: &RawValue) -> NewMessage<'a> {
    let mut message = NewMessage::new(&*add.topic, payload).priority(add.priority);
    if let Some(attempts) = add.max_attempts {
        message = message.max_attempts(attempts);
    }
    if let Some(key) = &add.unique {
        message = message.unique(&**key);
    }
    add.header.iter().fold(message, |message, (name, text)| message.header(&**name, &**text))
}

fn list(args: &SchedulesArgs, url: Option<&str>) -> Result<()> {
    let mut conn: AnyConnection = database::connect(url)?;
    let schedules = schedule::list(&mut conn)?;
    if args.json {
        output::json(&schedules.iter().map(|schedule| row(schedule, args.next.into())).collect::<Vec<_>>());
        return Ok(());
    }
    if schedules.is_empty() {
        say!("no schedules: taskmq-cli schedules add NAME '0 7 * * mon-fri' TOPIC '{{}}'");
        return Ok(());
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    for schedule in &schedules {
        let mut next = next_of(schedule, args.next.into(), short).into_iter();
        let last = schedule.last_at.map_or_else(String::new, |last| short(schedule, last));
        rows.push(vec![
            output::cell(&schedule.name),
            output::cell(&schedule.cron),
            output::cell(&schedule.time_zone),
            if schedule.paused { "paused".to_owned() } else { next.next().unwrap_or_default() },
            last,
            output::cell(&schedule.topic),
            output::cell(&schedule.payload),
        ]);
        rows.extend(next.map(|next| {
            let mut more = vec![String::new(); 7];
            more[3] = next;
            more
        }));
    }
    output::table(&["NAME", "CRON", "TIME ZONE", "NEXT", "LAST", "TOPIC", "PAYLOAD"], &rows, 6);
    let late: Vec<String> = schedules
        .iter()
        .filter(|s| !s.paused && s.next_at.is_some_and(|next| s.seen_at - next > LATE))
        .map(|s| output::cell(&s.name))
        .collect();
    if !late.is_empty() {
        eprintln!("note: no worker lets these tick, though they are due: {}", late.join(", "));
    }
    Ok(())
}

fn next_of(schedule: &Schedule, count: usize, shown: fn(&Schedule, DateTime<Utc>) -> String) -> Vec<String> {
    match schedule.upcoming(count) {
        Ok(ticks) => ticks.into_iter().map(|tick| shown(schedule, tick)).collect(),
        Err(error) => vec![output::cell(&error.to_string())],
    }
}

/// In its own time zone.
fn local(schedule: &Schedule, time: DateTime<Utc>) -> String {
    schedule.cron().map_or_else(|_| time.format("%F %T +00:00").to_string(), |cron| cron.local(time))
}

/// In a column beside its time zone, which tells the offset; and most ticks have no seconds.
fn short(schedule: &Schedule, time: DateTime<Utc>) -> String {
    let local = local(schedule, time);
    let time = local.get(.."2026-11-30 07:00:00".len()).unwrap_or(&local);
    time.strip_suffix(":00").unwrap_or(time).to_owned()
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    cron: &'a str,
    time_zone: &'a str,
    paused: bool,
    next: Vec<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
    last_message_id: Option<MessageId>,
    declared: bool,
    topic: &'a str,
    priority: i16,
    max_attempts: Option<i16>,
    unique_key: Option<&'a str>,
    headers: Option<&'a RawValue>,
    payload: Option<&'a RawValue>,
    /// Of the run that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<MessageId>,
}

fn row(schedule: &Schedule, next: usize) -> Row<'_> {
    Row {
        name: &schedule.name,
        cron: &schedule.cron,
        time_zone: &schedule.time_zone,
        paused: schedule.paused,
        next: schedule.upcoming(next).unwrap_or_default(),
        last: schedule.last_at,
        last_message_id: schedule.last_message_id,
        declared: schedule.declared_by.is_some(),
        topic: &schedule.topic,
        priority: schedule.priority,
        max_attempts: schedule.max_attempts,
        unique_key: schedule.unique_key.as_deref(),
        headers: schedule.headers.as_deref().and_then(written),
        payload: written(&schedule.payload),
        message_id: None,
    }
}

/// As it was written; `None` if it is no JSON, as only plain SQL could store it.
fn written(json: &str) -> Option<&RawValue> {
    serde_json::from_str(json).ok()
}
