//! One message: what it is, and what became of it.

use axum::extract::Path;
use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use taskmq_core::message::{FailedAttempt, LogLine, Message, log_by_failure};
use taskmq_core::{MessageId, State};

use crate::json;
use crate::page::Page;
use crate::pages::messages::actions;
use crate::pages::workflows;
use crate::problem::Problem;
use crate::view::format;
use crate::view::visible::{visible, visible_lines};

/// More of a payload is not shown.
pub(crate) const CHARS: usize = 200_000;
/// A longer page is not sent anew each second: a payload may be long, and so may what many attempts have left.
const LIVE_BYTES: usize = 50_000;

pub(crate) async fn show(page: Page, Path(id): Path<String>) -> Response {
    let id: i64 = id.parse().unwrap_or_default();
    let body = read(&page, id).await.map(|(message, part)| {
        let changes = !message.state.is_finished() && part.0.len() <= LIVE_BYTES;
        html! {
            @if changes { (page.live(&[("of", "message"), ("id", &id.to_string())], &part)) }
            @else { (part) }
        }
    });
    page.answer(&format!("{} #{id}", page.texts.message), body)
}

pub(crate) async fn part(page: &Page, id: MessageId) -> Result<Markup, Problem> {
    read(page, id).await.map(|(_, part)| part)
}

async fn read(page: &Page, id: MessageId) -> Result<(Message, Markup), Problem> {
    let found = page
        .shared
        .reading
        .ask(move |broker| {
            let Some(message) = broker.message(id)? else { return Ok(None) };
            let past = Past {
                failures: broker.failures(id)?,
                log: broker.log(id)?,
                cancel_asked_at: broker.cancel_asked_at(id)?,
            };
            Ok(Some((broker.now()?, message, past, broker.workers(1_000)?)))
        })
        .await?;
    let (now, message, past, workers) = found.ok_or(Problem::NotFound)?;
    let workflow = match message.workflow() {
        Some(workflow) => Some(workflows::around(page, workflow, id).await?),
        None => None,
    };
    let texts = page.texts;
    let worker = message.worker_id.and_then(|id| workers.into_iter().find(|worker| worker.id == id));
    let worker = worker.map(|worker| worker.label());
    let part = html! {
        div.heading {
            div {
                p.crumb { a href=(page.to("messages")) { (texts.messages) } " / " (page.topic_link(&message.topic)) }
                h1 { "#" (message.id) " " (page.state(message.state)) }
            }
            @if !page.shared.read_only {
                @if !page.shared.hide_payloads {
                    a.button href=(page.to(&format!("produce?like={id}"))) { (texts.produce_like) }
                }
                (buttons(page, &message, past.cancel_asked_at.is_some()))
            }
        }
        @if let (State::Dead | State::Cancelled, Some(error)) = (message.state, &message.error) {
            div.notice.bad[message.state == State::Dead] { b { (texts.error) } pre { (visible_lines(error)) } }
        }
        div.columns {
            div {
                @if let Some(workflow) = &workflow { (workflow) }
                (document(page, texts.payload, Some(message.payload.get())))
                (document(page, texts.result, message.result.as_ref().map(|json| json.get())))
                (document(page, texts.headers, message.headers.as_ref().map(|json| json.get())))
                (timeline(page, now, &message, &past, worker.as_deref()))
            }
            aside {
                (details(page, now, &message, worker.as_deref()))
                @if !page.shared.read_only { (edit(page, &message)) }
            }
        }
    };
    Ok((message, part))
}

fn buttons(page: &Page, message: &Message, is_to_end: bool) -> Markup {
    let texts = page.texts;
    let number = texts.messages_of("1");
    let runs = message.state == State::Running;
    html! {
        @if runs && is_to_end { span.muted { (texts.cancel_asked) } }
        @else {
            form.actions method="post" action=(page.to("change")) {
                input type="hidden" name="id" value=(message.id);
                @for (action, name) in actions(page, Some(message.state)) {
                    @if action == "delete" || runs {
                        button.bad name="action" value=(action)
                            data-confirm={ (name) ": " (number) "." @if !runs { " " (texts.undo_not) } } { (name) }
                    } @else {
                        button.primary[action == "retry"] name="action" value=(action) { (name) }
                    }
                }
            }
        }
    }
}

fn document(page: &Page, title: &str, json: Option<&str>) -> Markup {
    html! {
        @if let Some(json) = json {
            section.panel {
                div.panel-head { h2 { (title) } }
                @if page.shared.hide_payloads { p.muted { (page.texts.hidden) } }
                @else { pre.json tabindex="0" { (visible_lines(&json::pretty(json, CHARS))) } }
            }
        }
    }
}

/// What its attempts have left.
struct Past {
    failures: Vec<FailedAttempt>,
    log: Vec<LogLine>,
    /// A person wants it ended.
    cancel_asked_at: Option<DateTime<Utc>>,
}

fn timeline(page: &Page, now: DateTime<Utc>, message: &Message, past: &Past, worker: Option<&str>) -> Markup {
    let texts = page.texts;
    let time = |at| format::time(texts, now, at);
    let (of_failures, others) = log_by_failure(&past.failures, &past.log);
    html! {
        section.panel {
            div.panel-head { h2 { (texts.timeline) } }
            ol.timeline {
                li { b { (texts.created) } " " (time(message.created_at)) }
                @for (failure, lines) in past.failures.iter().zip(&of_failures) {
                    li.bad {
                        b { (texts.attempt(failure.attempt)) ": " (visible(texts.failure(&failure.kind))) } " " (time(failure.failed_at))
                        span.muted { " · " (visible(&failure.worker)) }
                        (log(lines))
                        pre { (visible_lines(&failure.error)) }
                    }
                }
                @if message.state != State::Done && !others.is_empty() {
                    li { b { (texts.log) } (log(&others)) }
                }
                @match (message.state, message.claimed_at, message.finished_at) {
                    (State::Running, Some(claimed), _) => li.running {
                        b { (texts.running) } " " (time(claimed)) span.muted { " · " (format::duration(texts, now - claimed)) }
                        @if let Some(worker) = worker { span.muted { " · " (visible(worker)) } }
                        @if let Some(asked) = past.cancel_asked_at { p { (texts.cancel_asked) " " (time(asked)) } }
                    },
                    (State::Done, claimed, Some(finished)) => {
                        @if let Some(claimed) = claimed {
                            li { b { (texts.claimed) } " " (time(claimed))
                                span.muted { " · " (texts.wait) " " (format::duration(texts, claimed - message.run_at)) } }
                        }
                        li.good { b { (texts.done) } " " (time(finished))
                            @if let Some(claimed) = claimed {
                                span.muted { " · " (texts.run_time) " " (format::duration(texts, finished - claimed)) }
                            }
                            (log(&others)) }
                    },
                    (State::Dead, _, Some(finished)) => li.bad { b { (texts.dead) } " " (time(finished)) },
                    (State::Cancelled, _, Some(finished)) => li { b { (texts.cancelled) } " " (time(finished)) },
                    (state, _, _) => li.next { b { (texts.state(state)) } " · " (texts.due) " " (time(message.run_at)) },
                }
            }
        }
    }
}

/// What a handler logged in one attempt.
fn log(lines: &[&LogLine]) -> Markup {
    html! {
        @if !lines.is_empty() {
            div.log tabindex="0" {
                @for line in lines {
                    p.bad[line.level == "error"].warn[line.level == "warn"] {
                        time datetime=(line.logged_at.to_rfc3339()) title=(format::exact(line.logged_at)) {
                            (line.logged_at.format("%H:%M:%S%.3f"))
                        }
                        b { (visible(&line.level)) }
                        span { (visible_lines(&line.line)) }
                    }
                }
            }
        }
    }
}

fn details(page: &Page, now: DateTime<Utc>, message: &Message, worker: Option<&str>) -> Markup {
    let texts = page.texts;
    html! {
        section.panel {
            div.panel-head { h2 { (texts.details) } }
            dl.details {
                dt { (texts.topic) } dd { (page.topic_link(&message.topic)) }
                dt { (texts.priority) } dd { (message.priority) }
                dt { (texts.attempts) } dd {
                    (message.attempts) @if let Some(most) = message.max_attempts { span.muted { " / " (most) } }
                }
                @if message.crashes > 0 { dt { (texts.crashes) } dd { (message.crashes) } }
                dt { (texts.created) } dd { (format::time(texts, now, message.created_at)) }
                dt { (texts.due) } dd { (format::time(texts, now, message.run_at)) }
                @if let Some(at) = message.claimed_at { dt { (texts.claimed) } dd { (format::time(texts, now, at)) } }
                @if let Some(at) = message.finished_at { dt { (texts.finished_at) } dd { (format::time(texts, now, at)) } }
                @if let Some(key) = &message.unique_key { dt { (texts.key) } dd { code { (visible(key)) } } }
                @if let Some(key) = &message.ordering_key { dt { (texts.ordering_key) } dd { code { (visible(key)) } } }
                @if let Some(worker) = worker { dt { (texts.worker) } dd { (visible(worker)) } }
            }
        }
    }
}

/// Only what waits can be changed.
fn edit(page: &Page, message: &Message) -> Markup {
    let texts = page.texts;
    let waits = matches!(message.state, State::Ready | State::Scheduled | State::Retrying);
    let at = message.run_at.format("%Y-%m-%dT%H:%M:%S").to_string();
    html! {
        @if waits {
            section.panel {
                div.panel-head { h2 { (texts.edit) } }
                form.edit method="post" action=(page.to("change")) {
                    input type="hidden" name="id" value=(message.id);
                    label { span { (texts.priority) }
                        input type="number" name="priority" min="-32768" max="32767" required value=(message.priority); }
                    button name="action" value="priority" { (texts.set_priority) }
                }
                form.edit.time method="post" action=(page.to("change")) {
                    input type="hidden" name="id" value=(message.id);
                    label { span { (texts.time_utc) }
                        input type="datetime-local" name="run_at" step="1" required value=(at); }
                    button name="action" value="run at" { (texts.set_time) }
                }
            }
        }
    }
}
