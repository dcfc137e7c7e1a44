//! One topic.

use axum::response::Response;
use maud::{Markup, html};
use taskmq_core::State;
use taskmq_core::broker::Selection;

use crate::fields::{Fields, query};
use crate::page::Page;
use crate::pages::overview;
use crate::problem::Problem;
use crate::view::visible::{visible, visible_text};
use crate::view::{chart, format};

const SHOWN: usize = 10;

pub(crate) async fn show(page: Page, fields: Fields) -> Response {
    let name = fields.get("name").unwrap_or_default().to_owned();
    let texts = page.texts;
    let body = part(&page, &name).await.map(|part| {
        let live = page.to(&format!("live{}", query(&[("of", "topic"), ("name", &name), ("root", &page.root)])));
        html! {
            div.heading {
                div {
                    p.crumb { a href=(page.root) { (texts.overview) } }
                    h1 { (visible(&name)) }
                }
                span.live hidden { (texts.live) }
                @if !page.shared.read_only {
                    a.button.primary href=(page.to(&format!("produce{}", query(&[("topic", &name)])))) { (texts.produce) }
                }
                a.button href=(page.to(&format!("messages{}", query(&[("topic", &name)])))) { (texts.messages) }
            }
            div id="live" data-live=(live) { (part) }
        }
    });
    page.answer(&visible_text(&name), body)
}

pub(crate) async fn part(page: &Page, name: &str) -> Result<Markup, Problem> {
    let sample = page.shared.sampler.latest(&page.shared.reading).await?;
    let texts = page.texts;
    let topic = name.to_owned();
    let (now, latest) = page
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
            Ok((broker.now()?, broker.summaries(&found, None)?))
        })
        .await?;
    let figures = sample.topics.get(name).cloned().unwrap_or_default();
    let looks = sample.backlog.get(&Some(name.to_owned())).map_or(&[][..], |looks| looks);
    let consumers: Vec<_> =
        sample.workers.iter().filter(|w| w.topics.split(',').any(|t| t == name)).collect();
    Ok(html! {
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
    })
}
