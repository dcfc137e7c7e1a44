//! Changing messages: a single one at once, several or all after a question that says how many.

use std::time::{Duration, Instant};

use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use taskmq_core::broker::{Action, Broker, Changed, Note, Noted, Selection};
use taskmq_core::overview::Count;
use taskmq_core::{MessageId, State};

use crate::bulk::{details, value};
use crate::fields::{Fields, Posted};
use crate::page::Page;
use crate::pages::messages::selection;
use crate::problem::Problem;
use crate::view::format;
use crate::view::visible::visible;

/// So many can be named one by one.
const NAMED: usize = 500;
/// So many are counted before, and for no longer than this.
const COUNTED: i64 = 1_000_000;
const PATIENCE: Duration = Duration::from_millis(1_500);
const STEP: i64 = 1_000;
/// So many of those that were refused are told.
const TOLD: usize = 20;

pub(crate) async fn change(page: Page, Posted(fields): Posted) -> Response {
    let done =
        if fields.get("all").is_some() { all(&page, &fields).await } else { named(&page, &fields).await };
    match done {
        Ok(Next::Done(what, path)) => page.done(what, &path),
        Ok(Next::Watch(bulk)) => page.redirect(&format!("changes/{bulk}")),
        Ok(Next::Show(title, body)) => page.answer(title, Ok(body)),
        Err(problem) => page.answer(page.texts.problem, Err(problem)),
    }
}

enum Next {
    /// A page that tells what was done.
    Done(&'static str, String),
    /// A change that goes on in the background.
    Watch(u64),
    Show(&'static str, Markup),
}

fn action(page: &Page, name: &str, fields: &Fields) -> Result<Action, Problem> {
    let refused = |words: &str, value: &str| Problem::Refused(format!("{words} {value}"));
    match name {
        "retry" => Ok(Action::Retry),
        "cancel" => Ok(Action::Cancel),
        "delete" => Ok(Action::Delete),
        "priority" => {
            let given = fields.get("priority").unwrap_or_default();
            given.parse().map(Action::Priority).map_err(|_| refused(page.texts.bad_number, given))
        }
        "run at" => {
            let at = fields.time("run_at").ok().flatten().filter(|at| *at <= latest());
            let given = fields.get("run_at").unwrap_or_default();
            at.map(Action::RunAt).ok_or_else(|| refused(page.texts.bad_time, given))
        }
        _ => Err(Problem::NotFound),
    }
}

/// As far as a message may be put off.
fn latest() -> DateTime<Utc> {
    // MariaDB's timestamps end in 2038.
    DateTime::from_timestamp(i64::from(i32::MAX), 0).unwrap_or_default()
}

fn name(page: &Page, action: &Action, state: Option<State>) -> &'static str {
    let texts = page.texts;
    match action {
        Action::Retry if matches!(state, Some(State::Scheduled | State::Retrying)) => texts.run_now,
        Action::Retry => texts.retry,
        Action::Cancel => texts.cancel,
        Action::Delete => texts.delete,
        Action::Priority(_) => texts.set_priority,
        Action::RunAt(_) => texts.set_time,
    }
}

async fn named(page: &Page, fields: &Fields) -> Result<Next, Problem> {
    let texts = page.texts;
    let action = action(page, fields.get("action").unwrap_or_default(), fields)?;
    let mut ids: Vec<MessageId> = fields.all("id").filter_map(|id| id.parse().ok()).take(NAMED).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Err(Problem::Refused(texts.nothing_selected.to_owned()));
    }
    if fields.get("confirm").is_none() && (ids.len() > 1 || action == Action::Delete) {
        let number = Count { number: i64::try_from(ids.len()).unwrap_or_default(), or_more: false };
        return Ok(Next::Show(texts.confirm_title, confirm(page, fields, &action, number, None)));
    }
    let writing = page.shared.writing.as_ref().ok_or(Problem::NotFound)?;
    let (actor, asked) = (page.actor.clone(), ids.clone());
    let changed = writing.ask(move |broker| change_named(broker, &action, &asked, &actor.0)).await?;
    if let [id] = *ids {
        if let Some((id, why)) = changed.refused.into_iter().next() {
            return Err(Problem::Unchanged(id, why));
        }
        let what = if changed.asked.is_empty() { action.as_str() } else { "cancel running" };
        let path = if action == Action::Delete { "messages".to_owned() } else { format!("messages/{id}") };
        return Ok(Next::Done(what, path));
    }
    Ok(Next::Show(texts.changed, told(page, fields, &changed)))
}

fn change_named(
    broker: &mut dyn Broker,
    action: &Action,
    ids: &[MessageId],
    actor: &str,
) -> taskmq_core::Result<Changed> {
    let message_id = match *ids {
        [id] => Some(id),
        _ => None,
    };
    let topic = match message_id {
        Some(id) => broker.summaries(&[id], None)?.pop().map(|message| message.topic),
        None => None,
    };
    let details = value(action).unwrap_or_default();
    let note = Note {
        actor,
        action: action.as_str(),
        topic: topic.as_deref(),
        message_id,
        details: &details,
        messages: 0,
    };
    broker.change(action, ids, Noted::New(&note))
}

fn told(page: &Page, fields: &Fields, changed: &Changed) -> Markup {
    let texts = page.texts;
    let number = |list: usize| format::number(i64::try_from(list).unwrap_or_default());
    html! {
        div.heading { h1 { (texts.changed) ": " (texts.messages_of(&number(changed.changed.len() + changed.asked.len()))) } }
        @if !changed.asked.is_empty() {
            section.panel {
                div.panel-head { h2 { (texts.running) ": " (number(changed.asked.len())) } }
                ul { @for id in changed.asked.iter().take(TOLD) { li { (page.message_link(*id)) " " (texts.cancel_asked) } } }
            }
        }
        @if !changed.refused.is_empty() {
            section.panel {
                div.panel-head { h2 { (texts.refused) ": " (number(changed.refused.len())) } }
                ul { @for (id, why) in changed.refused.iter().take(TOLD) { li { (page.message_link(*id)) " " (texts.refusal(*why)) } } }
            }
        }
        p { a.button href=(back(page, fields)) { (texts.go_back) } }
    }
}

async fn all(page: &Page, fields: &Fields) -> Result<Next, Problem> {
    let texts = page.texts;
    let action = action(page, fields.get("all").unwrap_or_default(), fields)?;
    let selection = selection(page, fields)?;
    let Some(state) = selection.state else { return Err(Problem::NotFound) };
    action.check(state).map_err(|why| Problem::Refused(texts.refusal(why).to_owned()))?;
    let asked_at = fields.time("asked").ok().flatten();
    let (now, selection, number) = page
        .shared
        .reading
        .ask(move |broker| {
            let now = broker.now()?;
            let selection = selection.as_of(asked_at.unwrap_or(now));
            Ok((now, selection.clone(), count(broker, selection)?))
        })
        .await?;
    if number.number == 0 && !number.or_more {
        return Err(Problem::Refused(texts.nothing_matches.to_owned()));
    }
    if fields.get("confirm").is_none() {
        let body = confirm(page, fields, &action, number, Some((&selection, now)));
        return Ok(Next::Show(texts.confirm_title, body));
    }
    let id = page.shared.bulks.start(&page.shared, action, selection, &page.actor.0, number, now);
    Ok(Next::Watch(id))
}

fn count(broker: &mut dyn Broker, selection: Selection) -> taskmq_core::Result<Count> {
    let began = Instant::now();
    let mut walk = selection.walk();
    let mut number = 0;
    while let Some(page) = walk.next(broker, STEP)? {
        number += i64::try_from(page.len()).unwrap_or_default();
        if number >= COUNTED || began.elapsed() > PATIENCE {
            return Ok(Count { number, or_more: true });
        }
    }
    Ok(Count { number, or_more: false })
}

/// Only pages of the admin.
fn back(page: &Page, fields: &Fields) -> String {
    page.to(fields.get("back").unwrap_or("messages"))
}

fn confirm(
    page: &Page,
    fields: &Fields,
    action: &Action,
    number: Count,
    selection: Option<(&Selection, DateTime<Utc>)>,
) -> Markup {
    let texts = page.texts;
    let name = name(page, action, selection.and_then(|(selection, _)| selection.state));
    let ids: Vec<MessageId> = fields.all("id").filter_map(|id| id.parse().ok()).collect();
    html! {
        div.heading { h1 { (texts.confirm_title) } }
        section.panel.confirm {
            p.question { (name) ": " b { (texts.messages_of(&format::count(number))) } }
            @if selection.is_none() {
                p { @for id in ids.iter().take(TOLD) { (page.message_link(*id)) " " } @if ids.len() > TOLD { "…" } }
            }
            @if let Some((selection, _)) = selection {
                dl.details {
                    @if let Some(topic) = &selection.topic { dt { (texts.topic) } dd { (page.topic_link(topic)) } }
                    dt { (texts.what) } dd { code { (visible(&texts.details_of(action.as_str(), &details(selection, action)))) } }
                }
                @if number.or_more { p { (texts.or_more) } }
                p.muted { (texts.background) }
            }
            @if *action == Action::Delete { p.notice.bad { (texts.undo_not) } }
            form.actions method="post" action=(page.to("change")) {
                @for (name, value) in &fields.0 {
                    @if name != "confirm" && name != "asked" { input type="hidden" name=(name) value=(value); }
                }
                @if let Some((_, now)) = selection {
                    input type="hidden" name="asked" value=(now.format("%Y-%m-%dT%H:%M:%S%.6f"));
                }
                button name="confirm" value="yes" autofocus[*action != Action::Delete] class=(if *action == Action::Delete { "bad" } else { "primary" }) {
                    (name) ": " (texts.messages_of(&format::count(number)))
                }
                a.button href=(back(page, fields)) { (texts.go_back) }
            }
        }
    }
}
