//! Bulk changes that run or ran, and how far they are.

use std::sync::Arc;

use axum::extract::Path;
use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use taskmq_core::broker::Action;

use crate::bulk::{Bulk, End, details};
use crate::page::Page;
use crate::problem::Problem;
use crate::view::format;
use crate::view::visible::{visible, visible_lines};

pub(crate) async fn list(page: Page) -> Response {
    let texts = page.texts;
    let now = page.shared.reading.ask(|broker| broker.now()).await;
    let body = now.map(|now| {
        let all = page.shared.bulks.all();
        html! {
            div.heading { h1 { (texts.changes) } }
            @if all.is_empty() { (page.empty(texts.no_changes, &html! {})) }
            @else {
                section.panel { div.scroll tabindex="0" role="region" aria-label=(texts.changes) { table.list {
                    thead { tr {
                        th { (texts.what) } th { (texts.topic) } th.wide { (texts.details) } th.number { (texts.progress) }
                        th { (texts.state) } th { (texts.by_whom) } th { (texts.when) }
                    } }
                    tbody { @for bulk in &all { (row(&page, now, bulk)) } }
                } } }
            }
        }
    });
    page.answer(texts.changes, body)
}

fn row(page: &Page, now: DateTime<Utc>, bulk: &Bulk) -> Markup {
    let texts = page.texts;
    let target = page.to(&format!("changes/{}", bulk.id));
    html! {
        tr data-href=(target) tabindex="-1" {
            td { a href=(target) { (name(page, &bulk.action)) } }
            td { @if let Some(topic) = &bulk.selection.topic { (page.topic_link(topic)) } @else { span.muted { "–" } } }
            td.wide { (visible(&what(page, bulk))) }
            td.number { (format::number(bulk.changed())) " / " (format::count(bulk.total)) }
            td { (ending(page, bulk.end().as_ref())) }
            td.wide.actor { (visible(&bulk.actor)) }
            td { (format::time(texts, now, bulk.started_at)) }
        }
    }
}

/// As the audit log has it.
fn what(page: &Page, bulk: &Bulk) -> String {
    page.texts.details_of(bulk.action.as_str(), &details(&bulk.selection, &bulk.action))
}

fn name(page: &Page, action: &Action) -> &'static str {
    match action {
        Action::Retry => page.texts.retry,
        Action::Cancel => page.texts.cancel,
        Action::Delete => page.texts.delete,
        Action::Priority(_) => page.texts.set_priority,
        Action::RunAt(_) => page.texts.set_time,
    }
}

fn ending(page: &Page, end: Option<&End>) -> Markup {
    let texts = page.texts;
    let (class, words) = match end {
        None => ("running", texts.in_progress),
        Some(End::Finished) => ("done", texts.finished_all),
        Some(End::Stopped) => ("cancelled", texts.stopped),
        Some(End::Failed(_)) => ("dead", texts.failed),
    };
    html! { span class={ "state " (class) } { (words) } }
}

fn find(page: &Page, id: u64) -> Result<Arc<Bulk>, Problem> {
    page.shared.bulks.get(id).ok_or(Problem::NotFound)
}

pub(crate) async fn show(page: Page, Path(id): Path<String>) -> Response {
    let texts = page.texts;
    let body = id.parse::<u64>().map_err(|_| Problem::NotFound).and_then(|id| {
        let part = part(&page, id)?;
        Ok(html! {
            div.heading {
                div { p.crumb { a href=(page.to("changes")) { (texts.changes) } } h1 { (name(&page, &find(&page, id)?.action)) } }
            }
            (page.live(&[("of", "change"), ("id", &id.to_string())], &part))
        })
    });
    page.answer(texts.changes, body)
}

pub(crate) fn part(page: &Page, id: u64) -> Result<Markup, Problem> {
    let texts = page.texts;
    let bulk = find(page, id)?;
    let end = bulk.end();
    let (changed, refused) = (bulk.changed(), bulk.refused());
    Ok(html! {
        section.panel {
            div.panel-head {
                h2 { (format::number(changed)) " / " (texts.messages_of(&format::count(bulk.total))) }
                (ending(page, end.as_ref()))
            }
            @if end.is_none() || !bulk.total.or_more {
                progress.big max=(bulk.total.number.max(1)) value=[(!bulk.total.or_more).then_some(changed + refused)] aria-label=(texts.progress) {}
            }
            dl.facts {
                div { dt { (texts.changed) } dd { (format::number(changed)) } }
                div { dt { (texts.refused) } dd { (format::number(refused)) } }
                div { dt { (texts.by_whom) } dd { (visible(&bulk.actor)) } }
                @if let Some(topic) = &bulk.selection.topic { div { dt { (texts.topic) } dd { (page.topic_link(topic)) } } }
            }
            p { code { (visible(&what(page, &bulk))) } }
            @if let Some(End::Failed(why)) = &end { p.notice.bad { (visible_lines(&why.words(texts))) } }
            @if end.is_none() {
                form.actions method="post" action=(page.to(&format!("changes/{id}/stop"))) { button.bad { (texts.stop) } }
            }
        }
    })
}

pub(crate) async fn stop(page: Page, Path(id): Path<String>) -> Response {
    match id.parse::<u64>().map_err(|_| Problem::NotFound).and_then(|id| find(&page, id)) {
        Ok(bulk) => {
            bulk.stop();
            page.redirect(&format!("changes/{}", bulk.id))
        }
        Err(problem) => page.answer(page.texts.changes, Err(problem)),
    }
}
