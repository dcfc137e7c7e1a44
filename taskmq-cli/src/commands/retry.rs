use taskmq_core::broker::MessageFilter;
use taskmq_core::{BrokerConnection, State};

use crate::cli::RetryArgs;
use crate::error::Result;
use crate::{database, output};

/// Dead letters are revived in pages of this many.
const PAGE: i64 = 1000;

pub(crate) fn run(args: &RetryArgs, url: Option<&str>) -> Result<()> {
    let mut conn = database::connect(url)?;
    let mut revived = args.ids.clone();
    for &id in &args.ids {
        conn.broker().retry(id)?;
    }
    if args.dead {
        let filter = MessageFilter { topic: args.topic.clone(), state: Some(State::Dead), limit: PAGE };
        loop {
            let page = conn.broker().messages(&filter)?;
            if page.is_empty() {
                break;
            }
            for message in page {
                conn.broker().retry(message.id)?;
                revived.push(message.id);
            }
        }
    }
    if args.json {
        let mut rows = Vec::new();
        for id in revived {
            rows.extend(conn.broker().message(id)?.map(output::value));
        }
        output::json(&rows);
    } else {
        match &*revived {
            [] => say!("there are no dead letters"),
            [id] => say!("message {id} is due"),
            ids => say!("{} messages are due", ids.len()),
        }
    }
    Ok(())
}
