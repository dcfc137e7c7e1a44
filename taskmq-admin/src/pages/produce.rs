//! Producing a message by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde_json::value::RawValue;
use taskmq_core::broker::Note;
use taskmq_core::{MessageId, NewMessage, Produced, Registry};

use crate::database::On;
use crate::fields::{Fields, Posted};
use crate::json;
use crate::page::Page;
use crate::pages::schema::{self, Verdict};
use crate::problem::Problem;
use crate::view::visible::visible_lines;

/// A longer payload is not indented.
const PRETTY_BYTES: usize = 20_000;

pub(crate) async fn form(page: Page, fields: Fields) -> Response {
    let fields = match fields.parse("like") {
        Some(id) if !page.shared.hide_payloads => match like(&page, id).await {
            Ok(fields) => fields,
            Err(problem) => return page.answer(page.texts.produce_message, Err(problem)),
        },
        _ => fields,
    };
    let body = show(&page, &fields, None).await;
    page.answer(page.texts.produce_message, Ok(body))
}

/// The form as this message would fill it in: for one that must be run again otherwise than it was.
async fn like(page: &Page, id: MessageId) -> Result<Fields, Problem> {
    let message =
        page.shared.reading.ask(move |broker| broker.message(id)).await?.ok_or(Problem::NotFound)?;
    let payload = message.payload.get();
    let payload =
        if payload.len() > PRETTY_BYTES { payload.to_owned() } else { json::pretty(payload, usize::MAX) };
    let headers =
        message.headers.map(|headers| serde_json::from_str::<BTreeMap<String, String>>(headers.get()));
    // What taskmq wrote there itself is about the other message.
    let headers = headers.and_then(Result::ok).map(|mut headers| {
        headers.retain(|name, _| !name.starts_with("taskmq-"));
        headers
    });
    let headers = headers
        .filter(|headers| !headers.is_empty())
        .and_then(|headers| serde_json::to_string(&headers).ok());
    let number = |number: i32| (number != 0).then(|| number.to_string());
    let given = [
        ("topic", Some(message.topic)),
        ("payload", Some(payload)),
        ("priority", number(message.priority.into())),
        ("max_attempts", message.max_attempts.map(|most| most.to_string())),
        ("key", message.unique_key),
        ("ordering_key", message.ordering_key),
        ("headers", headers),
    ];
    Ok(Fields(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()))
}

/// Shows what became of it: the message, or the form as it was filled in and what is wrong with it.
pub(crate) async fn produce(page: Page, Posted(fields): Posted) -> Response {
    let (topic, payload) =
        (fields.get("topic").unwrap_or_default(), fields.get("payload").unwrap_or_default());
    let told = match schema::check(&page, topic, payload).await {
        Verdict::Fits => "produce",
        Verdict::Unchecked => "unchecked",
        Verdict::Misfits(misfits) => {
            let body = show(&page, &fields, Some(misfits)).await;
            let answer = page.answer(page.texts.produce_message, Ok(body));
            return (StatusCode::UNPROCESSABLE_ENTITY, answer).into_response();
        }
    };
    match store(&page, &fields).await {
        Ok(Produced::New(id)) => page.done(told, &format!("messages/{id}")),
        Ok(Produced::Existing(id)) => {
            let words = html! { (page.texts.exists) " " (page.message_link(id)) };
            let body = show(&page, &fields, Some(words)).await;
            (StatusCode::CONFLICT, page.answer(page.texts.produce_message, Ok(body))).into_response()
        }
        Err(problem) if problem.status() == StatusCode::UNPROCESSABLE_ENTITY => {
            let body =
                show(&page, &fields, Some(html! { (visible_lines(&problem.words(page.texts))) })).await;
            (problem.status(), page.answer(page.texts.produce_message, Ok(body))).into_response()
        }
        Err(problem) => page.answer(page.texts.produce_message, Err(problem)),
    }
}

/// A number that was given must be one.
fn number<T: std::str::FromStr + PartialOrd>(
    page: &Page,
    fields: &Fields,
    name: &str,
    least: T,
) -> Result<Option<T>, Problem> {
    let Some(text) = fields.get(name) else { return Ok(None) };
    match text.parse::<T>() {
        Ok(number) if number >= least => Ok(Some(number)),
        _ => Err(Problem::Refused(format!("{} {text}", page.texts.bad_number))),
    }
}

async fn store(page: &Page, fields: &Fields) -> Result<Produced, Problem> {
    let texts = page.texts;
    let topic = fields.get("topic").unwrap_or_default().to_owned();
    let payload = fields.get("payload").unwrap_or_default().to_owned();
    let payload = RawValue::from_string(payload)
        .map_err(|error| Problem::Refused(format!("{} {error}", texts.bad_json)))?;
    // Of the topics whose consumers are part of this program.
    if let Some(consumer) = Registry::discovered()?.get(&topic) {
        consumer.check(payload.get())?;
    }
    let headers: BTreeMap<String, String> = match fields.get("headers") {
        None => BTreeMap::new(),
        Some(headers) => serde_json::from_str(headers)
            .map_err(|error| Problem::Refused(format!("{} {error}", texts.bad_headers)))?,
    };
    let priority = number::<i16>(page, fields, "priority", i16::MIN)?.unwrap_or_default();
    let delay = number::<u32>(page, fields, "delay", 0)?.unwrap_or_default();
    let max_attempts = number::<u16>(page, fields, "max_attempts", 1)?;
    let key = fields.get("key").map(str::to_owned);
    let ordering_key = fields.get("ordering_key").map(str::to_owned);
    let actor = page.actor.clone();
    let writing = page.shared.writing.as_ref().ok_or(Problem::NotFound)?;
    let produced = writing.ask(move |broker| {
        let mut message =
            NewMessage::new(&topic, &payload).priority(priority).delay(Duration::from_secs(delay.into()));
        if let Some(attempts) = max_attempts {
            message = message.max_attempts(attempts);
        }
        if let Some(key) = key {
            message = message.unique(key);
        }
        if let Some(key) = ordering_key {
            message = message.ordering_key(key);
        }
        for (name, text) in headers {
            message = message.header(name, text);
        }
        broker.begin()?;
        let stored = message.produce(&mut On(broker)).and_then(|produced| {
            if let Produced::New(id) = produced {
                broker.note(&Note {
                    actor: &actor.0,
                    action: "produce",
                    topic: Some(&topic),
                    message_id: Some(id),
                    details: "",
                    messages: 1,
                })?;
            }
            Ok(produced)
        });
        // Otherwise the connection goes, and the transaction with it.
        let stored = stored?;
        broker.commit()?;
        Ok(stored)
    });
    produced.await
}

async fn show(page: &Page, fields: &Fields, wrong: Option<Markup>) -> Markup {
    let texts = page.texts;
    let given = |name| fields.get(name).unwrap_or_default();
    // To choose from; without them the form is as good.
    let topics = page.shared.sampler.latest(&page.shared.reading).await.ok();
    let consumed = Registry::discovered().map(|registry| registry.topics()).unwrap_or_default();
    let schema = schema::part(page, given("topic")).await;
    let optional = html! { small { (texts.optional) } };
    html! {
        div.heading { h1 { (texts.produce_message) } }
        @if let Some(wrong) = wrong { div.notice.bad role="alert" { (wrong) } }
        div data-schema { (schema) }
        form.panel.produce method="post" action=(page.to("produce")) {
            label { span { (texts.topic) } input name="topic" required maxlength="100" list="topics" value=(given("topic")) autocomplete="off" spellcheck="false"; }
            datalist id="topics" {
                @for topic in &consumed { option value=(topic) {} }
                @if let Some(sample) = &topics {
                    @for topic in sample.overview.topics.keys().filter(|topic| !consumed.contains(&&***topic)).take(200) { option value=(topic) {} }
                }
            }
            @if !consumed.is_empty() { p.about { (texts.checked_topics) " " (consumed.join(", ")) } }
            label { span { (texts.payload_json) } textarea name="payload" required rows="10" spellcheck="false" { "\n" (given("payload")) } }
            div.row {
                label { span { (texts.priority) (optional) } input type="number" name="priority" min="-32768" max="32767" placeholder="0" value=(given("priority")); }
                label { span { (texts.delay) (optional) } input type="number" name="delay" min="0" placeholder="0" value=(given("delay")); }
                label { span { (texts.max_attempts) (optional) } input type="number" name="max_attempts" min="1" max="32767" value=(given("max_attempts")); }
            }
            label { span { (texts.key) (optional) } input name="key" maxlength="255" value=(given("key")) autocomplete="off" spellcheck="false"; }
            label { span { (texts.ordering_key) (optional) } input name="ordering_key" maxlength="255" value=(given("ordering_key")) autocomplete="off" spellcheck="false"; }
            label { span { (texts.headers_json) (optional) } textarea name="headers" rows="2" spellcheck="false" { "\n" (given("headers")) } }
            div.buttons { button.primary { (texts.produce) } }
        }
    }
}
