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
        output::json(&messages.iter().map(output::value).collect::<Vec<_>>());
    } else if messages.is_empty() {
        say!("no such messages");
    } else {
        let rows: Vec<Vec<String>> = messages
            .iter()
            .map(|m| {
                vec![
                    m.id.to_string(),
                    output::cell(&m.topic),
                    m.state.to_string(),
                    m.priority.to_string(),
                    m.attempts.to_string(),
                    m.finished_at.unwrap_or(m.run_at).format("%F %T").to_string(),
                    output::cell(m.error.as_deref().unwrap_or_else(|| m.payload.get())),
                ]
            })
            .collect();
        output::table(
            &["ID", "TOPIC", "STATE", "PRIORITY", "ATTEMPTS", "DUE OR FINISHED (UTC)", "PAYLOAD OR ERROR"],
            &rows,
            6,
        );
    }
    Ok(())
}
