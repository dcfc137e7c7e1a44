use taskmq_core::BrokerConnection;
use taskmq_core::broker::MessageFilter;

use super::search;
use crate::cli::MessagesArgs;
use crate::error::Result;
use crate::{database, output};

pub(crate) fn run(args: &MessagesArgs, url: Option<&str>) -> Result<()> {
    let mut conn = database::connect(url)?;
    let messages = if search::is_wanted(args) {
        search::search(&mut conn, args)?
    } else {
        let filter = MessageFilter { topic: args.topic.clone(), state: args.state, limit: args.limit };
        conn.broker().messages(&filter)?
    };
    if args.json {
        output::json(&messages);
    } else if messages.is_empty() {
        say!("no such messages");
    } else {
        // Many queues have none.
        let ordered = messages.iter().any(|message| message.ordering_key.is_some());
        let rows: Vec<Vec<String>> = messages
            .iter()
            .map(|m| {
                let mut row = vec![
                    m.id.to_string(),
                    output::cell(&m.topic),
                    m.state.to_string(),
                    m.priority.to_string(),
                    m.attempts.to_string(),
                    m.finished_at.unwrap_or(m.run_at).format("%F %T").to_string(),
                ];
                if ordered {
                    row.push(output::cell(m.ordering_key.as_deref().unwrap_or_default()));
                }
                row.push(
                    m.error.as_deref().map_or_else(|| output::cell(m.payload.get()), output::first_line),
                );
                row
            })
            .collect();
        let mut heading = vec!["ID", "TOPIC", "STATE", "PRIORITY", "ATTEMPTS", "DUE OR FINISHED (UTC)"];
        heading.extend(ordered.then_some("ORDERING KEY"));
        heading.push("PAYLOAD OR ERROR");
        output::table(&heading, &rows, heading.len() - 1);
    }
    Ok(())
}
