//! One topic.

use axum::response::Response;
use maud::{Markup, html};
use taskmq_core::State;
use taskmq_core::broker::{Broker, Selection};

use crate::fields::{Fields, Posted, query};
use crate::page::Page;
use crate::pages::overview;
use crate::problem::Problem;
use crate::view::visible::{visible, visible_text};
use crate::view::{chart, format};

const SHOWN: usize = 10;

pub(crate) async fn show(page: Page, fields: Fields) -> Response {
    let name = fields.get("name").unwrap_or_default().to_owned();
    let texts = page.texts;
    let body = look(&page, &name).await.map(|(part, paused)| {
        let live = page.to(&format!("live{}", query(&[("of", "topic"), ("name", &name), ("root", &page.root)])));
        html! {
            div.heading {
                div {
                    p.crumb { a href=(page.to("overview")) { (texts.overview) } }
                    h1 { (visible(&name)) }
                }
                span.live hidden { (texts.live) }
                @if !page.shared.read_only {
                    form method="post" action=(page.to("topic")) {
                        input type="hidden" name="name" value=(name);
                        @if paused { button name="action" value="resume" { (texts.resume) } }
                        @else { button name="action" value="pause" { (texts.pause) } }
                    }
                    a.button.primary href=(page.to(&format!("produce{}", query(&[("topic", &name)])))) { (texts.produce) }
                }
                a.button href=(page.to(&format!("messages{}", query(&[("topic", &name)])))) { (texts.messages) }
            }
            div id="live" data-live=(live) { (part) }
        }
    });
    page.answer(&visible_text(&name), body)
}

/// Pauses it, or lets it go on. Done already by somebody else is as good.
pub(crate) async fn change(page: Page, Posted(fields): Posted) -> Response {
    match pause_or_resume(&page, &fields).await {
        Ok(name) => page.redirect(&format!("topic{}", query(&[("name", &name)]))),
        Err(problem) => page.answer(page.texts.problem, Err(problem)),
    }
}

async fn pause_or_resume(page: &Page, fields: &Fields) -> Result<String, Problem> {
    let pauses = match fields.get("action") {
        Some("pause") => true,
        Some("resume") => false,
        _ => return Err(Problem::NotFound),
    };
    let name = fields.get("name").unwrap_or_default().to_owned();
    let writing = page.shared.writing.as_ref().ok_or(Problem::NotFound)?;
    let (topic, actor) = (name.clone(), page.actor.0.clone());
    let change = move |broker: &mut dyn Broker| {
        if pauses { broker.pause(&topic, &actor) } else { broker.resume(&topic, &actor) }
    };
    writing.ask(change).await?;
    Ok(name)
}

pub(crate) async fn part(page: &Page, name: &str) -> Result<Markup, Problem> {
    look(page, name).await.map(|(part, _)| part)
}

/// And whether it is paused, as of now: figures may be older than the change that led here.
async fn look(page: &Page, name: &str) -> Result<(Markup, bool), Problem> {
    let sample = page.shared.sampler.latest(&page.shared.reading).await?;
    let texts = page.texts;
    let topic = name.to_owned();
    let (now, latest, paused) = page
        .shared
        .reading
        .ask(move |broker| {
            let mut found = Vec::new();
            for state in [State::Running, State::Ready, State::Retrying, State::Dead] {
                let mut walk = Selection { topic: Some(topic.clone()), ..Selection::of(state) }.walk();
                let page = walk.next(broker, 100)?.unwrap_or_default();
                found.extend(page.into_iter().take(SHOWN / 2).map(|found| found.id));
            }
            found.truncate(SHOWN);
            let paused = broker.paused()?.into_iter().find(|paused| paused.topic == topic);
            Ok((broker.now()?, broker.summaries(&found, None)?, paused))
        })
        .await?;
    let figures = sample.topics.get(name).cloned().unwrap_or_default();
    let looks = sample.backlog.get(&Some(name.to_owned())).map_or(&[][..], |looks| looks);
    let consumers: Vec<_> =
        sample.workers.iter().filter(|w| w.topics.split(',').any(|t| t == name)).collect();
    let part = html! {
        @if let Some(paused) = &paused {
            p.notice { (texts.paused_about) " " (visible(&paused.actor)) ", " (format::time(texts, now, paused.since)) }
        }
        div.cards {
            (overview::cards(page, &figures, name, &sample))
            a.card href=(page.to("workers")) {
                span.label { (texts.workers) } span.figure { (consumers.len()) }
            }
        }
        section.panel {
            div.panel-head { h2 { (texts.backlog) } }
            div.plot { (chart::spark(texts.backlog, looks, 60)) }
            dl.facts {
                div { dt { (texts.rate_in) } dd { (format::rate(figures.rate_in)) (texts.per_second) } }
                div { dt { (texts.rate_out) } dd { (format::rate(figures.rate_out)) (texts.per_second) } }
                div { dt { (texts.wait) " " (texts.p50_p99) } dd { (format::quantiles(texts, figures.wait)) } }
                div { dt { (texts.run_time) " " (texts.p50_p99) } dd { (format::quantiles(texts, figures.run)) } }
            }
        }
        section.panel {
            div.panel-head { h2 { (texts.messages) } }
            @if latest.is_empty() { (page.empty(texts.no_messages, &html! {})) }
            @else { (page.message_table(now, &latest, false)) }
        }
    };
    Ok((part, paused.is_some()))
}
