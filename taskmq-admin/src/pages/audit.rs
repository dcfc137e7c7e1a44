//! What people did.

use axum::response::Response;
use maud::{Markup, html};

use crate::fields::{Fields, query};
use crate::page::Page;
use crate::problem::Problem;
use crate::view::format;
use crate::view::visible::visible;

const SHOWN: i64 = 50;

pub(crate) async fn show(page: Page, fields: Fields) -> Response {
    let body = list(&page, fields.parse("below").unwrap_or(i64::MAX)).await;
    page.answer(page.texts.audit, body)
}

async fn list(page: &Page, below: i64) -> Result<Markup, Problem> {
    let texts = page.texts;
    let (now, notes) =
        page.shared.reading.ask(move |broker| Ok((broker.now()?, broker.notes(below, SHOWN)?))).await?;
    let is_full = i64::try_from(notes.len()).is_ok_and(|number| number == SHOWN);
    let first = (below != i64::MAX).then(|| page.to("audit"));
    let next = notes.last().filter(|_| is_full).map(|last| {
        let query = query(&[("below", &last.id.to_string())]);
        (page.to(&format!("audit{query}")), texts.next_page)
    });
    Ok(html! {
        div.heading { h1 { (texts.audit) } }
        @if notes.is_empty() { (page.empty(texts.no_notes, &html! {})) }
        @else {
            section.panel { div.scroll tabindex="0" role="region" aria-label=(texts.audit) {
                table.list {
                    thead { tr {
                        th { (texts.when) } th { (texts.by_whom) } th { (texts.what) } th { (texts.topic) }
                        th.number { (texts.number) } th.wide { (texts.details) }
                    } }
                    tbody { @for note in &notes { tr {
                        td { (format::time(texts, now, note.at)) }
                        td.wide.actor { (visible(texts.actor(&note.actor))) }
                        td { span.badge { (visible(texts.action(&note.action))) } }
                        td { @if let Some(topic) = &note.topic { (page.topic_link(topic)) } @else { span.muted { "–" } } }
                        td.number {
                            @if let Some(id) = note.message_id { (page.message_link(id)) }
                            @else if note.messages > 0 { (format::number(note.messages)) }
                            @else { span.muted { "–" } }
                        }
                        td.wide { (visible(&texts.details_of(&note.action, &note.details))) }
                    } } }
                }
            } }
        }
        (page.paging(first, None, next))
    })
}
