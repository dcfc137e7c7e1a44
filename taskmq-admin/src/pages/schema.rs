//! What the consumer of a topic reads, as the pages of the topic and of its producer show it and check by it.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use taskmq_core::broker::Schema;
use taskmq_core::limits::check_topic;

use crate::json;
use crate::page::Page;
use crate::pages::message::CHARS;
use crate::problem::Problem;
#[cfg(feature = "schema")]
use crate::texts::Texts;
use crate::view::format;
use crate::view::visible::{visible, visible_lines};

/// What the page of a topic has of it. Says so if nothing can be checked by it.
pub(crate) async fn part(page: &Page, topic: &str) -> Markup {
    match of(page, topic).await {
        Ok(None) => html! {},
        Ok(Some((schema, now))) => details(page, &schema, now).await,
        Err(problem) => {
            html! { p.notice { (page.texts.schema_unread) " " (visible(&problem.words(page.texts))) } }
        }
    }
}

/// And the time at which it was read.
async fn of(page: &Page, topic: &str) -> Result<Option<(Schema, DateTime<Utc>)>, Problem> {
    if check_topic(topic).is_err() {
        return Ok(None);
    }
    let topic = topic.to_owned();
    let read = page.shared.reading.ask(move |broker| Ok((broker.schemas(&[&topic])?.pop(), broker.now()?)));
    let (schema, now) = read.await?;
    Ok(schema.map(|schema| (schema, now)))
}

async fn details(page: &Page, schema: &Schema, now: DateTime<Utc>) -> Markup {
    html! {
        details.panel.schema {
            summary { (page.texts.schema) span.muted { (format::time(page.texts, now, schema.written_at)) } }
            (unusable(page, schema).await)
            pre.json tabindex="0" { (visible_lines(&json::pretty(&schema.definition, CHARS))) }
        }
    }
}

#[cfg(feature = "schema")]
async fn unusable(page: &Page, schema: &Schema) -> Markup {
    let definition = schema.definition.clone();
    let compiled = tokio::task::spawn_blocking(move || crate::schema::Checker::new(&definition).err()).await;
    html! {
        @if let Ok(Some(unusable)) = compiled { p.notice { (page.texts.schema_unusable) " " (visible(&words(page.texts, &unusable))) } }
    }
}

/// What is wrong with a schema is told in English only; which rules there are, in the reader's language.
#[cfg(feature = "schema")]
fn words(texts: &Texts, unusable: &crate::schema::Unusable) -> String {
    let english = unusable.to_string();
    let why = english.strip_prefix("the schema cannot be used: ").unwrap_or(&english);
    let chinese = format!(
        "须为有效的 JSON Schema，不引用其他文档，正则表达式不含环视或反向引用，规模和耗时不超过上限（{why}）"
    );
    texts.choose(&english, &chinese).to_owned()
}

#[cfg(not(feature = "schema"))]
async fn unusable(_page: &Page, _schema: &Schema) -> Markup {
    html! {}
}

/// What a schema says of a payload.
#[cfg_attr(not(feature = "schema"), expect(dead_code, reason = "nothing is checked"))]
pub(crate) enum Verdict {
    /// Nothing, where there is none.
    Fits,
    /// There is one, perhaps, but it cannot tell: no reason to refuse, for the consumer has the last word anyway.
    Unchecked,
    /// What is wrong.
    Misfits(Markup),
}

#[cfg(feature = "schema")]
pub(crate) async fn check(page: &Page, topic: &str, payload: &str) -> Verdict {
    let schema = match of(page, topic).await {
        Ok(None) => return Verdict::Fits,
        Ok(Some((schema, _))) => schema,
        // What is wrong with the database, storing tells.
        Err(_) => return Verdict::Unchecked,
    };
    let payload = payload.to_owned();
    let check = move || crate::schema::Checker::new(&schema.definition)?.check(&payload);
    let Ok(Ok(misfits)) = tokio::task::spawn_blocking(check).await else { return Verdict::Unchecked };
    if misfits.is_empty() {
        return Verdict::Fits;
    }
    Verdict::Misfits(html! {
        (page.texts.misfit)
        ul {
            @for misfit in &misfits {
                li {
                    @if misfit.pointer.is_empty() { (page.texts.whole_payload) } @else { code { (visible(&misfit.pointer)) } }
                    ": " (visible(page.texts.choose(&misfit.problem, &misfit.chinese)))
                }
            }
        }
    })
}

#[cfg(not(feature = "schema"))]
pub(crate) async fn check(_page: &Page, _topic: &str, _payload: &str) -> Verdict {
    Verdict::Fits
}
