//! Dead letters, those that failed for the same reason together.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};
use taskmq_core::broker::{Broker, FinishedMessage, Place, Span, error_shape};
use taskmq_core::overview::Count;
use taskmq_core::{MessageId, State};

use crate::fields::{Fields, query};
use crate::page::Page;
use crate::problem::Problem;
use crate::view::format;
use crate::view::visible::{first_line, visible_text};

/// So many of the newest are grouped.
const NEWEST: i64 = 5_000;
/// So long those of one topic are looked for among all.
const PATIENCE: Duration = Duration::from_millis(700);
/// So many groups are shown.
const GROUPS: usize = 100;

struct Group {
    topic: String,
    shape: String,
    number: i64,
    example: String,
    last: (MessageId, DateTime<Utc>),
    first: DateTime<Utc>,
}

pub(crate) async fn show(page: Page, fields: Fields) -> Response {
    let body = list(&page, fields.get("topic")).await;
    page.answer(page.texts.dead_letters, body)
}

async fn list(page: &Page, topic: Option<&str>) -> Result<Markup, Problem> {
    let texts = page.texts;
    let only = topic.map(str::to_owned);
    let (now, groups, total) = page
        .shared
        .reading
        .ask(move |broker| {
            let now = broker.now()?;
            let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
            let (dead, or_more) = newest(broker, now, only.as_deref())?;
            for message in dead {
                let example = message.error.unwrap_or_default();
                let shape = error_shape(&example);
                let last = (message.id, message.finished_at);
                let topic = message.topic;
                let group = groups.entry((topic.clone(), shape.clone()));
                let group = group.or_insert(Group { topic, shape, number: 0, example, last, first: last.1 });
                group.number += 1;
                group.first = group.first.min(last.1);
            }
            let mut groups: Vec<Group> = groups.into_values().collect();
            groups.sort_by_key(|group| std::cmp::Reverse((group.number, group.last.1)));
            let number = groups.iter().map(|group| group.number).sum();
            Ok((now, groups, Count { number, or_more }))
        })
        .await?;
    Ok(html! {
        div.heading {
            div {
                @if let Some(topic) = topic { p.crumb { (page.topic_link(topic)) } }
                h1 { (texts.dead_letters) }
            }
            @if !groups.is_empty() {
                a.button href=(page.to(&format!("messages{}", query(&[("state", "dead"), ("topic", topic.unwrap_or_default())])))) {
                    (texts.messages)
                }
                @if !page.shared.read_only { (bulk(page, topic, None)) }
            }
        }
        @if groups.is_empty() && total.or_more {
            (page.empty(texts.no_dead_soon, &html! {
                a.button href=(page.to(&format!("messages{}", query(&[("state", "dead"), ("topic", topic.unwrap_or_default())])))) {
                    (texts.look_further)
                }
            }))
        } @else if groups.is_empty() {
            (page.empty(texts.no_dead, &html! { (texts.no_dead_about) }))
        } @else {
            p.muted { (format::count(total)) " " (texts.of_newest) }
            div.groups { @for group in groups.iter().take(GROUPS) { (group_panel(page, now, group)) } }
            @if groups.len() > GROUPS {
                p.muted { (format::number(i64::try_from(groups.len() - GROUPS).unwrap_or(i64::MAX))) " " (texts.more_groups) }
            }
        }
    })
}

/// The newest dead letters, or of one topic those that are found in a moment; and whether there may be more.
fn newest(
    broker: &mut dyn Broker,
    now: DateTime<Utc>,
    topic: Option<&str>,
) -> taskmq_core::Result<(Vec<FinishedMessage>, bool)> {
    let began = Instant::now();
    let mut span = Span {
        from: Place::before(DateTime::UNIX_EPOCH),
        to: Place::after(now + TimeDelta::days(1)),
        limit: NEWEST,
    };
    let mut found = Vec::new();
    loop {
        let mut dead = broker.finished(State::Dead, &span)?;
        let more = i64::try_from(dead.len()).is_ok_and(|read| read >= NEWEST);
        let Some(last) = dead.last().map(FinishedMessage::place) else { return Ok((found, false)) };
        dead.retain(|message| topic.is_none_or(|topic| topic == message.topic));
        found.append(&mut dead);
        let enough = topic.is_none() || i64::try_from(found.len()).is_ok_and(|found| found >= NEWEST);
        if !more || enough || began.elapsed() > PATIENCE {
            return Ok((found, more));
        }
        span.to = last;
    }
}

fn group_panel(page: &Page, now: DateTime<Utc>, group: &Group) -> Markup {
    let texts = page.texts;
    let list = query(&[("state", "dead"), ("topic", &group.topic), ("error", &group.shape)]);
    let error = group.example.trim_start().lines().next().unwrap_or(texts.no_error);
    let number = texts.messages_of(&format::number(group.number));
    let name = format!("{number}, {}: {}", visible_text(&group.topic), visible_text(error));
    html! {
        div.panel.group role="group" aria-label=(name) data-href=(page.to(&format!("messages{list}"))) tabindex="-1" {
            div.group-count { b { (format::number(group.number)) } (page.topic_link(&group.topic)) }
            div.group-error {
                @if group.example.trim().is_empty() { span.muted { (texts.no_error) } }
                @else { code.error { (first_line(&group.example)) } }
                p.muted { (texts.last_seen) " " (format::time(texts, now, group.last.1)) " · " (page.message_link(group.last.0))
                    @if group.number > 1 { " · " (texts.first_seen) " " (format::time(texts, now, group.first)) } }
            }
            div.group-actions {
                a.button href=(page.to(&format!("messages{list}"))) { (texts.show) }
                // What has no error has nothing to tell it by.
                @if !page.shared.read_only && !group.shape.is_empty() { (bulk(page, Some(&group.topic), Some(&group.shape))) }
            }
        }
    }
}

fn bulk(page: &Page, topic: Option<&str>, error: Option<&str>) -> Markup {
    html! {
        form.actions method="post" action=(page.to("change")) {
            input type="hidden" name="state" value="dead";
            @if let Some(topic) = topic { input type="hidden" name="topic" value=(topic); }
            @if let Some(error) = error { input type="hidden" name="error" value=(error); }
            input type="hidden" name="back" value=(page.back());
            button name="all" value="retry" { (page.texts.retry_all) }
            button.bad name="all" value="delete" { (page.texts.delete_all) }
        }
    }
}
