//! Who works, and on what.

use axum::response::Response;
use maud::{Markup, html};
use taskmq_core::broker::{HeldMessage, WorkerEntry};

use crate::fields::query;
use crate::figures::Sample;
use crate::page::Page;
use crate::problem::Problem;
use crate::view::format;
use crate::view::visible::visible;

/// So many of what a worker runs are shown.
const SHOWN: usize = 8;

pub(crate) async fn show(page: Page) -> Response {
    let texts = page.texts;
    let live = page.to(&format!("live{}", query(&[("of", "workers"), ("root", &page.root)])));
    let body = part(&page).await.map(|part| {
        html! {
            div.heading { h1 { (texts.workers) } span.live hidden { (texts.live) } }
            div id="live" data-live=(live) { (part) }
        }
    });
    page.answer(texts.workers, body)
}

pub(crate) async fn part(page: &Page) -> Result<Markup, Problem> {
    let sample = page.shared.sampler.latest(&page.shared.reading).await?;
    let texts = page.texts;
    Ok(html! {
        @if sample.workers.is_empty() {
            (page.empty(texts.no_workers, &html! { (texts.no_workers_about) " " code { "cargo run --bin worker" } }))
        } @else {
            div.workers { @for worker in &sample.workers { (panel(page, &sample, worker)) } }
        }
    })
}

fn panel(page: &Page, sample: &Sample, worker: &WorkerEntry) -> Markup {
    let texts = page.texts;
    let mut runs: Vec<&HeldMessage> = sample.held.iter().filter(|m| m.worker_id == Some(worker.id)).collect();
    runs.sort_by_key(|message| (message.claimed_at, message.id));
    let busy = i64::try_from(runs.len()).unwrap_or(i64::MAX).min(i64::from(worker.concurrency));
    html! {
        section.panel.worker data-key=(worker.id) {
            div.panel-head {
                h2 { (visible(&worker.host)) span.muted { ":" (worker.pid) } }
                span.badge { "v" (visible(&worker.version)) }
            }
            dl.facts {
                div { dt { (texts.started) } dd { (format::time(texts, sample.now, worker.started_at)) } }
                div { dt { (texts.concurrency) } dd { (worker.concurrency) } }
                div { dt { (texts.runs_now) } dd { (runs.len()) } }
            }
            progress max=(worker.concurrency.max(1)) value=(busy) aria-label=(texts.runs_now) {}
            p.topics { @for topic in worker.topics.split(',').filter(|topic| !topic.is_empty()) { (page.topic_link(topic)) " " } }
            @if let Some(id) = worker.alone_with { p.notice { (page.message_link(id)) " " (texts.alone) } }
            @if runs.is_empty() { p.muted { (texts.idle) } }
            @else {
                table.list.plain { tbody { @for message in runs.iter().take(SHOWN) {
                    tr data-key=(message.id) {
                        td { (page.message_link(message.id)) }
                        td { (page.topic_link(&message.topic)) }
                        td.number { @if let Some(claimed) = message.claimed_at { (format::duration(texts, sample.now - claimed)) } }
                    }
                } } }
                @if runs.len() > SHOWN { p.muted { "+ " (runs.len() - SHOWN) } }
            }
        }
    }
}
