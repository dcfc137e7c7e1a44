use std::collections::HashMap;

use taskmq_core::broker::{FinishedMessage, Span, error_shape};
use taskmq_core::{BrokerConnection, State};

use crate::cli::DeadArgs;
use crate::error::Result;
use crate::{database, output};

/// Dead letters of one topic with the same error.
#[derive(Debug)]
struct Group {
    topic: String,
    /// That of the newest.
    error: String,
    /// The newest first.
    messages: Vec<FinishedMessage>,
}

pub(crate) fn run(args: &DeadArgs, url: Option<&str>) -> Result<()> {
    let mut conn = database::connect(url)?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut groups: HashMap<(String, String), Group> = HashMap::new();
    let mut span = Span::everything(500);
    let mut seen = 0;
    let mut more = false;
    'pages: loop {
        let page = conn.broker().finished(State::Dead, &span)?;
        let Some(last) = page.last() else { break };
        span.to = last.place();
        for message in page {
            if args.topic.as_ref().is_some_and(|topic| *topic != message.topic) {
                continue;
            }
            if seen == limit {
                more = true;
                break 'pages;
            }
            seen += 1;
            let error = message.error.clone().unwrap_or_default();
            let group = groups.entry((message.topic.clone(), error_shape(&error)));
            group
                .or_insert_with(|| Group { topic: message.topic.clone(), error, messages: Vec::new() })
                .messages
                .push(message);
        }
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups
        .sort_by(|a, b| (b.messages.len(), &a.topic, &a.error).cmp(&(a.messages.len(), &b.topic, &b.error)));
    if args.json {
        output::json(&groups.iter().map(json).collect::<Vec<_>>());
    } else if groups.is_empty() {
        say!("no dead letters");
    } else {
        let rows: Vec<Vec<String>> = groups.iter().map(row).collect();
        output::table(&["MESSAGES", "TOPIC", "FIRST (UTC)", "LAST (UTC)", "NEWEST ID", "ERROR"], &rows, 5);
    }
    if more {
        eprintln!("note: these are the newest {seen}; there are more (--limit)");
    }
    Ok(())
}

fn row(group: &Group) -> Vec<String> {
    let at = |message: Option<&FinishedMessage>| {
        message.map(|m| m.finished_at.format("%F %T").to_string()).unwrap_or_default()
    };
    vec![
        group.messages.len().to_string(),
        output::cell(&group.topic),
        at(group.messages.last()),
        at(group.messages.first()),
        group.messages.first().map(|m| m.id.to_string()).unwrap_or_default(),
        output::first_line(&group.error),
    ]
}

fn json(group: &Group) -> serde_json::Value {
    serde_json::json!({
        "topic": group.topic,
        "error": group.error,
        "messages": group.messages.len(),
        "first_at": group.messages.last().map(|m| m.finished_at),
        "last_at": group.messages.first().map(|m| m.finished_at),
        "ids": group.messages.iter().map(|m| m.id).collect::<Vec<_>>(),
    })
}
