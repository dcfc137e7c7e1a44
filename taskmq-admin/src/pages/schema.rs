//! What the consumer of a topic reads, as the pages of the topic and of its producer show it and check by it.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use taskmq_core::broker::Schema;
use taskmq_core::limits::check_topic;

use crate::page::Page;
use crate::pages::message::pretty;
use crate::problem::Problem;
use crate::view::format;
#[cfg(feature = "schema")]
use crate::view::visible::visible;
use crate::view::visible::visible_lines;

/// And the time at which it was read.
pub(crate) async fn of(page: &Page, topic: &str) -> Result<Option<(Schema, DateTime<Utc>)>, Problem> {
    if check_topic(topic).is_err() {
        return Ok(None);
    }
    let topic = topic.to_owned();
    let read = page.shared.reading.ask(move |broker| Ok((broker.schemas(&[&topic])?.pop(), broker.now()?)));
    let (schema, now) = read.await?;
    Ok(schema.map(|schema| (schema, now)))
}

/// Says so if nothing can be checked by it.
pub(crate) async fn details(page: &Page, schema: &Schema, now: DateTime<Utc>) -> Markup {
    html! {
        details.panel.schema {
            summary { (page.texts.schema) span.muted { (format::time(page.texts, now, schema.written_at)) } }
            (unusable(page, schema).await)
            pre.json tabindex="0" { (visible_lines(&pretty(&schema.definition))) }
        }
    }
}

#[cfg(feature = "schema")]
async fn unusable(page: &Page, schema: &Schema) -> Markup {
    let definition = schema.definition.clone();
    let compiled = tokio::task::spawn_blocking(move || crate::schema::Checker::new(&definition).err()).await;
    html! {
        @if let Ok(Some(unusable)) = compiled { p.notice { (page.texts.schema_unusable) " " (visible(&unusable.to_string())) } }
    }
}

#[cfg(not(feature = "schema"))]
async fn unusable(_page: &Page, _schema: &Schema) -> Markup {
    html! {}
}

/// What is wrong with a payload, if anything is. What no schema can tell is not.
#[cfg(feature = "schema")]
pub(crate) async fn misfits(page: &Page, topic: &str, payload: &str) -> Result<Option<Markup>, Problem> {
    let Some((schema, _)) = of(page, topic).await? else { return Ok(None) };
    let payload = payload.to_owned();
    let check = move || crate::schema::Checker::new(&schema.definition)?.check(&payload);
    let Ok(Ok(misfits)) = tokio::task::spawn_blocking(check).await else { return Ok(None) };
    if misfits.is_empty() {
        return Ok(None);
    }
    Ok(Some(html! {
        (page.texts.misfit)
        ul {
            @for misfit in &misfits {
                li {
                    @if misfit.pointer.is_empty() { (page.texts.whole_payload) } @else { code { (visible(&misfit.pointer)) } }
                    ": " (visible(&misfit.problem))
                }
            }
        }
    }))
}

#[cfg(not(feature = "schema"))]
pub(crate) async fn misfits(_page: &Page, _topic: &str, _payload: &str) -> Result<Option<Markup>, Problem> {
    Ok(None)
}
