use serde::Serialize;
use taskmq_core::BrokerConnection;
use taskmq_core::message::TopicStats;

use crate::cli::ListArgs;
use crate::error::Result;
use crate::{database, output};

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    topic: &'a TopicStats,
    workers: usize,
}

pub(crate) fn run(args: &ListArgs, url: Option<&str>) -> Result<()> {
    let mut conn = database::connect(url)?;
    let topics = conn.broker().topics()?;
    let workers = database::topics_of_workers(&mut conn)?;
    let consume = |topic: &str| workers.iter().filter(|topics| topics.iter().any(|t| t == topic)).count();
    if args.json {
        let rows = topics.iter().map(|topic| Row { topic, workers: consume(&topic.topic) });
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
    let heading =
        ["TOPIC", "READY", "SCHEDULED", "RUNNING", "RETRYING", "DONE", "DEAD", "CANCELLED", "WORKERS"];
    output::table(&heading, &rows, 0);
    let waiting = |t: &TopicStats| t.ready + t.scheduled + t.retrying > 0;
    let left: Vec<&str> =
        topics.iter().filter(|t| waiting(t) && consume(&t.topic) == 0).map(|t| &*t.topic).collect();
    match (&*left, workers.len()) {
        ([], _) => {}
        (_, 0) => say!("\nno worker is running: cargo run --bin worker"),
        (left, _) => say!("\nno running worker consumes {}", output::printable(&left.join(", "))),
    }
    Ok(())
}
