//! `limit` and `limits`.

use chrono::{DateTime, Utc};
use serde::Serialize;
use taskmq_core::BrokerConnection;
use taskmq_core::broker::{Limit, LimitedTopic};

use super::ACTOR;
use crate::cli::{LimitArgs, ListArgs};
use crate::error::Result;
use crate::{database, output};

/// As JSON shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    running: Option<u32>,
    rate: Option<String>,
    running_now: i64,
    begun: i64,
    since: DateTime<Utc>,
    actor: &'a str,
}

impl<'a> Shown<'a> {
    pub(crate) fn of(limited: &'a LimitedTopic) -> Self {
        let LimitedTopic { limit, running_now, begun, since, ref actor, .. } = *limited;
        let rate = limit.rate.map(|rate| rate.to_string());
        Self { running: limit.running, rate, running_now, begun, since, actor }
    }
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    topic: &'a str,
    #[serde(flatten)]
    limit: Shown<'a>,
}

pub(crate) fn set(args: &LimitArgs, url: Option<&str>) -> Result<()> {
    let mut conn = database::connect(url)?;
    let limit = Limit { running: args.running, rate: args.rate };
    let changed = if args.none {
        conn.broker().lift_limit(&args.topic, &ACTOR)?
    } else {
        conn.broker().set_limit(&args.topic, &limit, &ACTOR)?
    };
    let workers = database::topics_of_workers(&mut conn)?;
    let consumed = workers.iter().any(|topics| topics.contains(&args.topic));
    if !args.none && !consumed && !conn.broker().topics()?.iter().any(|known| known.topic == args.topic) {
        eprintln!("note: {} has no messages and no worker", output::cell(&args.topic));
    }
    let topic = output::cell(&args.topic);
    match (args.none, changed) {
        _ if args.json => {
            let rate = args.rate.map(|rate| rate.to_string());
            output::json(&[serde_json::json!({
                "topic": args.topic, "running": args.running, "rate": rate, "changed": changed
            })]);
        }
        (true, true) => say!("{topic} has no limit any more"),
        (true, false) => say!("{topic} had no limit"),
        (false, true) => say!("{topic} is limited over all workers: {limit}"),
        (false, false) => say!("{topic} had this limit already: {limit}"),
    }
    Ok(())
}

pub(crate) fn list(args: &ListArgs, url: Option<&str>) -> Result<()> {
    let limits = database::connect(url)?.broker().limits()?;
    if args.json {
        let rows = limits.iter().map(|limited| Row { topic: &limited.topic, limit: Shown::of(limited) });
        output::json(&rows.collect::<Vec<_>>());
        return Ok(());
    }
    if limits.is_empty() {
        say!("no topic has a limit");
        return Ok(());
    }
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let row = |limited: &LimitedTopic| {
        vec![
            output::cell(&limited.topic),
            or_none(limited.limit.running.map(|running| running.to_string())),
            or_none(limited.limit.rate.map(|rate| rate.to_string())),
            limited.running_now.to_string(),
            limited.begun.to_string(),
            limited.since.format("%F %T").to_string(),
            output::cell(&limited.actor),
        ]
    };
    let heading = ["TOPIC", "AT ONCE", "RATE", "RUNNING", "BEGUN", "SINCE", "BY"];
    output::table(&heading, &limits.iter().map(row).collect::<Vec<_>>(), 0);
    Ok(())
}
