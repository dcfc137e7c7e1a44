//! Messages by what is in them: those that are found by an index, then from the newest on, page by page, until enough
//! are found.

use taskmq_core::broker::Selection;
use taskmq_core::message::Message;
use taskmq_core::{AnyConnection, BrokerConnection, MessageId};

use crate::cli::MessagesArgs;
use crate::error::Result;
use crate::selection::PAGE;

pub(crate) fn is_wanted(args: &MessagesArgs) -> bool {
    args.key.is_some()
        || args.ordering_key.is_some()
        || args.text.is_some()
        || args.condition.is_some()
        || args.after.is_some()
        || args.before.is_some()
}

pub(crate) fn search(conn: &mut AnyConnection, args: &MessagesArgs) -> Result<Vec<Message>> {
    let now = conn.broker().now()?;
    // Of all states, for it is the time of producing that is meant.
    let selection = Selection {
        topic: args.topic.clone(),
        unique_key: args.key.clone(),
        ordering_key: args.ordering_key.clone(),
        text: args.text.clone(),
        condition: args.condition.clone(),
        since: args.after.map(|at| at.at(now)),
        before: args.before.map(|at| at.at(now)),
        ..Selection::default()
    };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    let mut walk = selection.walk();
    while let Some(page) = walk.next(conn.broker(), PAGE)? {
        let mut ids: Vec<MessageId> = page.iter().map(|found| found.id).collect();
        if let Some(state) = args.state {
            let summaries = conn.broker().summaries(&ids, None)?;
            ids.retain(|id| summaries.iter().any(|message| message.id == *id && message.state == state));
        }
        for id in ids {
            // It may be gone since.
            let Some(message) = conn.broker().message(id)? else { continue };
            found.push(message);
            if found.len() == limit {
                return Ok(found);
            }
        }
    }
    Ok(found)
}
