//! `retry`, `cancel` and `delete`: the same selection, the same question, the same answer.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};

use taskmq_core::broker::{Action, Changed, Note, Noted, Selection};
use taskmq_core::{AnyConnection, BrokerConnection, MessageId, State};

use super::ACTOR;
use crate::cli::ChangeArgs;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::selection::{Change, PAGE, count};
use crate::{database, output};

pub(crate) fn run(action: &Action, args: &ChangeArgs, url: Option<&str>) -> Result<()> {
    let mut conn = database::connect(url)?;
    let selection = args.state.map(|state| {
        // What no message of this state allows is said before anything is read.
        action
            .check(state)
            .map_err(|why| Error::Refused(format!("cannot {} those: {why}", action.as_str())))?;
        let now = conn.broker().now()?;
        let selection = Selection {
            topic: args.topic.clone(),
            unique_key: args.key.clone(),
            ordering_key: args.ordering_key.clone(),
            text: args.text.clone(),
            condition: args.condition.clone(),
            since: args.after.map(|at| at.at(now)),
            before: args.before.map(|at| at.at(now)),
            ..Selection::of(state)
        };
        // The question may stay open for long.
        Ok::<_, Error>(selection.as_of(now))
    });
    let selection = selection.transpose()?;
    // Named twice is changed once.
    let ids: Vec<MessageId> = BTreeSet::from_iter(args.ids.iter().copied()).into_iter().collect();
    let total = match &selection {
        None => ids.len(),
        Some(selection) => count(&mut conn, selection)?,
    };
    if args.dry_run {
        if args.json {
            output::json(&[serde_json::json!({ "messages": total })]);
        } else {
            say!("would {} {}", action.as_str(), messages(total));
        }
        return Ok(());
    }
    // To retry messages that were named takes nothing away.
    let asks = match selection {
        Some(_) => total > 0,
        None => total > 1 && *action != Action::Retry,
    };
    if asks {
        confirm(&format!("{} {}", action.as_str(), messages(total)), args.yes)?;
    }
    // However it ends, what was changed until then is told.
    let mut changed = Changed::default();
    let end = match (&selection, &ids[..]) {
        (None, [id]) => {
            let note = Note { message_id: Some(*id), ..note(action, args, "") };
            changed = conn.broker().change(action, &ids, Noted::New(&note))?;
            Ok(())
        }
        (None, ids) => change_named(&mut conn, action, args, ids, &mut changed),
        (Some(_), _) if total == 0 => Ok(()),
        (Some(selection), _) => change_all(&mut conn, action, args, selection, total, &mut changed),
    };
    let told = tell(action, args, &changed, end.is_ok());
    end.and(told)
}

/// Each page has a note of its own, which names its messages.
fn change_named(
    conn: &mut AnyConnection,
    action: &Action,
    args: &ChangeArgs,
    ids: &[MessageId],
    all: &mut Changed,
) -> Result<()> {
    let note = note(action, args, "");
    let progress = Progress::of(ids.len());
    for page in ids.chunks(usize::try_from(PAGE).unwrap_or(usize::MAX)) {
        add(all, conn.broker().change(action, page, Noted::New(&note))?);
        if progress.after(page.len()).is_break() {
            break;
        }
    }
    progress.end()
}

fn change_all(
    conn: &mut AnyConnection,
    action: &Action,
    args: &ChangeArgs,
    selection: &Selection,
    total: usize,
    all: &mut Changed,
) -> Result<()> {
    let note = conn.broker().note(&note(action, args, &selection.to_string()))?;
    let progress = Progress::of(total);
    Change::of(selection, *action, note).all(conn, |changed| {
        let looked_at = changed.changed.len() + changed.asked.len() + changed.refused.len();
        add(all, changed);
        progress.after(looked_at)
    })?;
    progress.end()
}

fn add(all: &mut Changed, changed: Changed) {
    all.changed.extend(changed.changed);
    all.asked.extend(changed.asked);
    all.refused.extend(changed.refused);
}

fn note<'a>(action: &'a Action, args: &'a ChangeArgs, details: &'a str) -> Note<'a> {
    let topic = args.topic.as_deref();
    Note { actor: &ACTOR, action: action.as_str(), topic, message_id: None, details, messages: 0 }
}

/// Asks a person. A program has to say beforehand that it means it.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::Refused(format!("this would {question}: say --yes, or --dry-run to look first")));
    }
    eprint!("{question}? [y/N] ");
    let mut answer = String::new();
    std::io::stderr()
        .flush()
        .and_then(|()| std::io::stdin().read_line(&mut answer))
        .map_err(Error::file("standard input"))?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(Error::Refused("nothing was changed".to_owned()))
    }
}

fn tell(action: &Action, args: &ChangeArgs, changed: &Changed, is_through: bool) -> Result<()> {
    if args.json {
        let refused = |(id, why): &(i64, taskmq_core::broker::Refusal)| serde_json::json!({ "id": id, "reason": why.to_string() });
        output::json(&[serde_json::json!({
            "changed": changed.changed,
            "asked": changed.asked,
            "refused": changed.refused.iter().map(refused).collect::<Vec<_>>(),
        })]);
    } else {
        if !changed.changed.is_empty() {
            say!("{} {}", past(action, args.state), messages(changed.changed.len()));
        }
        if !changed.asked.is_empty() {
            say!("asked the workers of {} to end what runs", messages(changed.asked.len()));
        }
        if *changed == Changed::default() && is_through {
            say!("there are no such messages");
        }
    }
    if changed.refused.is_empty() {
        return Ok(());
    }
    // A screenful of reasons is enough to know why.
    const SHOWN: usize = 10;
    let mut lines: Vec<String> =
        changed.refused.iter().take(SHOWN).map(|(id, why)| format!("message {id}: {why}")).collect();
    if changed.refused.len() > SHOWN {
        lines.push(format!("and {} more", changed.refused.len() - SHOWN));
    }
    Err(Error::Failed(lines.join("\n")))
}

fn past(action: &Action, state: Option<State>) -> &'static str {
    match action {
        Action::Retry => match state {
            None => "retried",
            // Some at the time that they were for.
            Some(State::Cancelled) => "live again:",
            Some(_) => "made due:",
        },
        Action::Cancel => "cancelled",
        Action::Delete => "deleted",
        Action::Priority(_) | Action::RunAt(_) => "changed",
    }
}

pub(crate) fn messages(count: usize) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{count} messages") }
}
