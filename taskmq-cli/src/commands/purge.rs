use taskmq_core::broker::{Action, Note, Selection};
use taskmq_core::{AnyConnection, BrokerConnection, State};

use super::ACTOR;
use super::change::{confirm, messages};
use crate::cli::PurgeArgs;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::selection::{Change, count};
use crate::when::When;
use crate::{database, output};

pub(crate) fn run(args: &PurgeArgs, url: Option<&str>) -> Result<()> {
    if let Some(state) = args.state.iter().find(|state| !state.is_finished()) {
        return Err(Error::Refused(format!(
            "{state} messages are not finished: purge is for done, dead and cancelled ones; see `taskmq-cli delete`"
        )));
    }
    let mut conn = database::connect(url)?;
    let now = conn.broker().now()?;
    let before = args.older_than.map(|age| When::Ago(age).at(now));
    let mut states = args.state.clone();
    states.sort_unstable();
    states.dedup();
    // The question may stay open for long.
    let selections: Vec<Selection> = states
        .iter()
        .map(|&state| Selection { topic: args.topic.clone(), before, ..Selection::of(state) }.as_of(now))
        .collect();
    let mut total = 0;
    for selection in &selections {
        total += count(&mut conn, selection)?;
    }
    if args.dry_run {
        if args.json {
            output::json(&[serde_json::json!({ "messages": total })]);
        } else {
            say!("would delete {}", messages(total));
        }
        return Ok(());
    }
    // However it ends, what was deleted until then is told.
    let (mut deleted, mut end) = (0, Ok(()));
    if total > 0 {
        confirm(&format!("delete {}", messages(total)), args.yes)?;
        let names = states.iter().map(State::to_string).collect::<Vec<_>>().join(", ");
        let details = format!("all {names} that finished before {}", before.unwrap_or(now).to_rfc3339());
        let note = Note {
            actor: &ACTOR,
            action: Action::Delete.as_str(),
            topic: args.topic.as_deref(),
            message_id: None,
            details: &details,
            messages: 0,
        };
        end = delete(&mut conn, &selections, &note, total, &mut deleted);
    }
    if args.json {
        output::json(&[serde_json::json!({ "deleted": deleted })]);
    } else if total == 0 {
        say!("there are no such messages");
    } else {
        say!("deleted {}", messages(deleted));
    }
    end
}

fn delete(
    conn: &mut AnyConnection,
    selections: &[Selection],
    note: &Note<'_>,
    total: usize,
    deleted: &mut usize,
) -> Result<()> {
    let note = conn.broker().note(note)?;
    let progress = Progress::of(total);
    for selection in selections {
        let all = Change::of(selection, Action::Delete, note).all(conn, |changed| {
            *deleted += changed.changed.len();
            progress.after(changed.changed.len() + changed.refused.len())
        })?;
        if !all {
            break;
        }
    }
    progress.end()
}
