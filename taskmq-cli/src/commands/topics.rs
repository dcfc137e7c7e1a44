use chrono::{DateTime, Utc};
use serde::Serialize;
use taskmq_core::BrokerConnection;
use taskmq_core::broker::{LimitedTopic, PausedTopic};
use taskmq_core::message::TopicStats;

use super::limits::Shown;
use crate::cli::ListArgs;
use crate::error::Result;
use crate::{database, output};

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    topic: &'a TopicStats,
    workers: usize,
    paused: Option<Pause<'a>>,
    limit: Option<Shown<'a>>,
}

#[derive(Serialize)]
struct Pause<'a> {
    since: DateTime<Utc>,
    actor: &'a str,
}

impl<'a> Pause<'a> {
    fn of(paused: &'a PausedTopic) -> Self {
        Self { since: paused.since, actor: &paused.actor }
    }
}

pub(crate) fn run(args: &ListArgs, url: Option<&str>) -> Result<()> {
    let mut conn = database::connect(url)?;
    let mut topics = conn.broker().topics()?;
    let paused = conn.broker().paused()?;
    let limits = conn.broker().limits()?;
    for topic in paused.iter().map(|paused| &paused.topic).chain(limits.iter().map(|limited| &limited.topic))
    {
        if !topics.iter().any(|t| t.topic == *topic) {
            topics.push(TopicStats { topic: topic.clone(), ..TopicStats::default() });
        }
    }
    topics.sort_by(|a, b| a.topic.cmp(&b.topic));
    let workers = database::topics_of_workers(&mut conn)?;
    let consume = |topic: &str| workers.iter().filter(|topics| topics.iter().any(|t| t == topic)).count();
    if args.json {
        let pause = |topic: &str| paused.iter().find(|p| p.topic == topic).map(Pause::of);
        let limit = |topic: &str| limits.iter().find(|l| l.topic == topic).map(Shown::of);
        let rows = topics.iter().map(|topic| {
            let name = &*topic.topic;
            Row { topic, workers: consume(name), paused: pause(name), limit: limit(name) }
        });
        output::json(&rows.collect::<Vec<_>>());
        return Ok(());
    }
    if topics.is_empty() {
        say!("no messages yet");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = topics
        .iter()
        .map(|t| {
            let figures = [t.ready, t.scheduled, t.running, t.retrying, t.done, t.dead, t.cancelled];
            let figures = figures.map(|n| n.to_string()).into_iter();
            let workers = consume(&t.topic).to_string();
            std::iter::once(output::cell(&t.topic)).chain(figures).chain([workers]).collect()
        })
        .collect();
    let heading = ["TOPIC", "READY", "SCHED", "RUN", "RETRY", "DONE", "DEAD", "CANC", "WORKERS"];
    output::table(&heading, &rows, 0);
    for PausedTopic { topic, since, actor } in &paused {
        let (topic, actor) = (output::cell(topic), output::cell(actor));
        say!("\n{topic} is paused since {} by {actor}: taskmq-cli resume {topic}", since.format("%F %T"));
    }
    for LimitedTopic { topic, limit, running_now, .. } in &limits {
        say!("\n{} is limited over all workers: {limit}; {running_now} run now", output::cell(topic));
    }
    let waiting = |t: &TopicStats| t.ready + t.scheduled + t.retrying > 0;
    let left: Vec<&str> =
        topics.iter().filter(|t| waiting(t) && consume(&t.topic) == 0).map(|t| &*t.topic).collect();
    match (&*left, workers.len()) {
        ([], _) => {}
        (_, 0) => say!("\nno worker is running: cargo run --bin worker"),
        (left, _) => say!("\nno running worker consumes {}", output::cell(&left.join(", "))),
    }
    Ok(())
}
