//! Who works, and on what.

use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use taskmq_core::broker::{HeldMessage, WorkerEntry};
use taskmq_core::overview::Overview;

use crate::fields::Posted;
use crate::page::Page;
use crate::pages;
use crate::problem::Problem;
use crate::view::format;
use crate::view::visible::{visible, visible_text};

/// So many of what a worker runs are shown.
const SHOWN: usize = 8;

pub(crate) async fn show(page: Page) -> Response {
    let texts = page.texts;
    let body = part(&page).await.map(|part| {
        html! {
            div.heading { h1 { (texts.workers) } span.live hidden { (texts.live) } }
            (page.live(&[("of", "workers")], &part))
        }
    });
    page.answer(texts.workers, body)
}

pub(crate) async fn part(page: &Page) -> Result<Markup, Problem> {
    let sample = page.shared.sampler.latest(&page.shared.reading).await?;
    let (texts, overview) = (page.texts, &sample.overview);
    Ok(html! {
        (pages::overview::old(page, &sample))
        @if overview.alive().next().is_none() {
            (page.empty(texts.no_workers, &html! { (texts.no_workers_about) " " code { "cargo run --bin worker" } }))
        }
        @if !overview.workers.is_empty() {
            div.workers { @for worker in &overview.workers { (panel(page, overview, worker)) } }
        }
    })
}

/// Tells a worker to end, after a question. One that was told by somebody else, or has gone, is as good.
pub(crate) async fn change(page: Page, Posted(fields): Posted) -> Response {
    let texts = page.texts;
    let (id, writing) = match (fields.get("action"), fields.parse::<i64>("id"), &page.shared.writing) {
        (Some("drain"), Some(id), Some(writing)) => (id, writing),
        _ => return page.answer(texts.workers, Err(Problem::NotFound)),
    };
    if fields.get("confirm").is_none() {
        return page.answer(texts.confirm_title, confirm(&page, id).await);
    }
    let actor = page.actor.0.clone();
    match writing.ask(move |broker| broker.drain(id, &actor)).await {
        Ok(_) => {
            page.shared.sampler.forget().await;
            page.done("drain", "workers")
        }
        Err(problem) => page.answer(texts.workers, Err(problem)),
    }
}

async fn confirm(page: &Page, id: i64) -> Result<Markup, Problem> {
    let texts = page.texts;
    let workers = page.shared.reading.ask(|broker| broker.workers(10_000)).await?;
    let worker = workers.into_iter().find(|worker| worker.id == id).ok_or(Problem::NotFound)?;
    Ok(html! {
        div.heading { h1 { (texts.confirm_title) } }
        section.panel.confirm {
            p.question { (texts.drain) " " b { (visible(&worker.label())) } }
            p { (texts.drain_about) }
            form.actions method="post" action=(page.to("workers")) {
                input type="hidden" name="id" value=(id);
                input type="hidden" name="action" value="drain";
                button.primary name="confirm" value="yes" autofocus { (texts.drain) }
                a.button href=(page.to("workers")) { (texts.go_back) }
            }
        }
    })
}

fn panel(page: &Page, overview: &Overview, worker: &WorkerEntry) -> Markup {
    let texts = page.texts;
    let mut held: Vec<&HeldMessage> =
        overview.held.iter().filter(|m| m.worker_id == Some(worker.id)).collect();
    held.sort_by_key(|message| (message.claimed_at, message.id));
    let number = i64::try_from(held.len()).unwrap_or(i64::MAX);
    // Which of them have begun nobody writes down; they begin in this order.
    let busy = number.min(i64::from(worker.concurrency));
    let time = |at| format::time(texts, overview.now, at);
    html! {
        section.panel.worker data-key=(worker.id) {
            div.panel-head {
                h2 { (visible(&worker.host)) span.muted { ":" (worker.pid) } }
                @if !worker.alive { span.badge.late title=(texts.not_alive_about) { (texts.not_alive) } }
                @else if worker.draining { span.badge.paused title=(texts.draining_about) { (texts.draining) } }
                span.badge { "v" (visible(&worker.version)) }
            }
            dl.facts {
                div { dt { (texts.started) } dd { (time(worker.started_at)) } }
                @if worker.alive {
                    div { dt { (texts.concurrency) } dd { (worker.concurrency) } }
                    div { dt { (texts.runs_now) } dd { (busy) } }
                } @else {
                    div { dt { (texts.last_beat) } dd { (time(worker.beat_at)) } }
                    div { dt { (texts.held) } dd { (format::number(number)) } }
                }
                @if let Some(bytes) = worker.memory_bytes { div { dt { (texts.memory) } dd { (format::mebibytes(bytes)) } } }
            }
            @if worker.alive { progress max=(worker.concurrency.max(1)) value=(busy) aria-label=(texts.runs_now) {} }
            p.topics { @for topic in worker.topics.split(',').filter(|topic| !topic.is_empty()) { (page.topic_link(topic)) " " } }
            @if worker.alive && number > busy { p.muted { (format::number(number - busy)) " " (texts.held_more) } }
            @if let Some(id) = worker.alone_with.filter(|_| worker.alive) { p.notice { (page.message_link(id)) " " (texts.alone) } }
            @if !held.is_empty() { (messages(page, overview.now, &held)) }
            @else if worker.alive { p.muted { (texts.idle) } }
            @if !page.shared.read_only && worker.alive && !worker.draining {
                form.actions method="post" action=(page.to("workers")) {
                    input type="hidden" name="id" value=(worker.id);
                    button name="action" value="drain" data-confirm={ (texts.drain) " " (visible_text(&worker.label())) ": " (texts.drain_about) } {
                        (texts.drain)
                    }
                }
            }
        }
    }
}

/// Those that it holds, the first ones first.
fn messages(page: &Page, now: DateTime<Utc>, held: &[&HeldMessage]) -> Markup {
    html! {
        table.list.plain { tbody { @for message in held.iter().take(SHOWN) {
            tr data-key=(message.id) {
                td { (page.message_link(message.id)) }
                td { (page.topic_link(&message.topic)) }
                td.number { @if let Some(claimed) = message.claimed_at { (format::duration(page.texts, now - claimed)) } }
            }
        } } }
        @if held.len() > SHOWN { p.muted { "+ " (held.len() - SHOWN) } }
    }
}
