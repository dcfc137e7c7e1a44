//! Messages by what is in them: from the newest on, page by page, until enough are found.

use taskmq_core::broker::ProducedMessage;
use taskmq_core::message::Message;
use taskmq_core::{AnyConnection, BrokerConnection, MessageId};

use crate::cli::MessagesArgs;
use crate::error::Result;

const PAGE: i64 = 500;

pub(crate) fn is_wanted(args: &MessagesArgs) -> bool {
    args.key.is_some() || args.text.is_some() || args.after.is_some() || args.before.is_some()
}

pub(crate) fn search(conn: &mut AnyConnection, args: &MessagesArgs) -> Result<Vec<Message>> {
    let now = conn.broker().now()?;
    let (after, before) = (args.after.map(|at| at.at(now)), args.before.map(|at| at.at(now)));
    let text = args.text.as_deref().or(args.key.as_deref());
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    let mut below = MessageId::MAX;
    loop {
        let page = conn.broker().newest(below, PAGE)?;
        let Some(last) = page.last() else { return Ok(found) };
        below = last.id;
        let wanted = |message: &&ProducedMessage| {
            after.is_none_or(|at| message.created_at >= at)
                && before.is_none_or(|at| message.created_at < at)
                && args.topic.as_ref().is_none_or(|topic| *topic == message.topic)
        };
        let ids: Vec<MessageId> = page.iter().filter(wanted).map(|message| message.id).collect();
        if ids.is_empty() {
            continue;
        }
        let mut summaries = conn.broker().summaries(&ids, text)?;
        summaries.sort_unstable_by_key(|summary| std::cmp::Reverse(summary.id));
        for summary in summaries {
            if args.state.is_some_and(|state| state != summary.state) {
                continue;
            }
            // It may be gone since.
            let Some(message) = conn.broker().message(summary.id)? else { continue };
            if args.key.is_some() && args.key != message.unique_key {
                continue;
            }
            found.push(message);
            if found.len() == limit {
                return Ok(found);
            }
        }
    }
}
