//! All topics at once.

use axum::response::Response;
use maud::{Markup, html};
use taskmq_core::overview::Figures;

use crate::fields::{Fields, query};
use crate::figures::Sample;
use crate::page::Page;
use crate::problem::Problem;
use crate::view::visible::{visible, visible_text};
use crate::view::{chart, format};

/// So many topics fit on the page.
const SHOWN: usize = 100;

pub(crate) async fn show(page: Page, fields: Fields) -> Response {
    let name = fields.get("topics").unwrap_or_default();
    let texts = page.texts;
    let body = part(&page, &fields).await.map(|part| {
        html! {
            div.heading {
                h1 { (texts.overview) }
                span.live hidden { (texts.live) }
            }
            (page.live(&[("of", "overview"), ("topics", name)], &part))
            p.hint { (texts.shortcuts) " "
                button type="button" data-keys data-off=(texts.shortcuts_off) data-on=(texts.shortcuts_on) hidden {} }
        }
    });
    page.answer(texts.overview, body)
}

pub(crate) async fn part(page: &Page, fields: &Fields) -> Result<Markup, Problem> {
    let sample = page.shared.sampler.latest(&page.shared.reading).await?;
    let (texts, overview) = (page.texts, &sample.overview);
    let workers = format::number(i64::try_from(overview.alive().count()).unwrap_or(i64::MAX));
    let at_once = overview.alive().map(|worker| i64::from(worker.concurrency)).sum::<i64>();
    Ok(html! {
        (old(page, &sample))
        div.cards {
            (cards(page, &overview.total, "", &sample))
            a.card href=(page.to("workers")) {
                span.label { (texts.workers) } span.figure { (workers) }
                @if at_once > 0 { span.about { (texts.concurrency) " " (format::number(at_once)) } }
            }
        }
        @if overview.is_empty() {
            (page.empty(texts.nothing_yet, &html! {
                (texts.nothing_yet_about) " " code { "taskmq-cli produce hello '{\"name\": \"world\"}'" }
            }))
        } @else {
            (throughput(page, &sample))
            (topics(page, &sample, fields.get("topics").unwrap_or_default()))
        }
    })
}

/// Says so when these figures are not of now.
pub(crate) fn old(page: &Page, sample: &Sample) -> Markup {
    html! { @if let Some(why) = &sample.old { (not_newer(page, sample, why)) } }
}

/// Why these figures are not of now.
pub(crate) fn not_newer(page: &Page, sample: &Sample, why: &Problem) -> Markup {
    let texts = page.texts;
    html! {
        p.notice.bad role="alert" {
            (texts.figures_of) " " (format::exact(sample.overview.now)) ": " (visible(&why.words(texts)))
        }
    }
}

/// The numbers of a topic, or of all; each leads to the messages that it counts.
pub(crate) fn cards(page: &Page, figures: &Figures, topic: &str, sample: &Sample) -> Markup {
    let texts = page.texts;
    let list = |state: &str| page.to(&format!("messages{}", query(&[("state", state), ("topic", topic)])));
    let oldest = figures.oldest_due.map(|at| sample.overview.now - at).filter(|time| time.num_seconds() > 0);
    let dead = if figures.dead.number > 0 { "card dead some" } else { "card dead" };
    html! {
        a.card.ready href=(list("ready")) {
            span.label { (texts.ready) } span.figure { (format::count(figures.ready)) }
            span.about { @if let Some(oldest) = oldest { (texts.oldest_short) " " (format::duration(texts, oldest)) } }
        }
        a.card.running href=(list("running")) {
            span.label { (texts.running) } span.figure { (format::count(figures.running)) }
        }
        a.card.scheduled href=(list("scheduled")) {
            span.label { (texts.scheduled) } span.figure { (format::count(figures.scheduled)) }
        }
        a.card.retrying href=(list("retrying")) {
            span.label { (texts.retrying) } span.figure { (format::count(figures.retrying)) }
        }
        a class=(dead) href=(page.to(&format!("dead{}", query(&[("topic", topic)])))) {
            span.label { (texts.dead) } span.figure { (format::count(figures.dead)) }
            span.about title=(texts.errors_title) {
                @if let Some(share) = figures.error_share { (texts.errors) " " (format::percent(share)) }
            }
        }
    }
}

fn throughput(page: &Page, sample: &Sample) -> Markup {
    let texts = page.texts;
    let (produced, finished) = (&sample.chart.0[..], &sample.chart.1[..]);
    let total = &sample.overview.total;
    html! {
        section.panel {
            div.panel-head {
                h2 { (texts.throughput) }
                span.muted { (texts.throughput_about) }
                ul.legend {
                    li.in { (texts.produced) " " b { (format::rate(total.rate_in)) (texts.per_second) } }
                    li.out { (texts.finished) " " b { (format::rate(total.rate_out)) (texts.per_second) } }
                }
            }
            div.plot {
                span.top { (format::rate(chart::top(&[produced, finished]))) }
                (chart::areas(texts.throughput, &[("in", produced), ("out", finished)]))
                div.ends { span { (texts.two_minutes_ago) } span { (texts.now) } }
            }
            dl.facts {
                div { dt { (texts.wait) " " (texts.p50_p99) } dd { (format::quantiles(texts, total.wait)) } }
                div { dt { (texts.run_time) " " (texts.p50_p99) } dd { (format::quantiles(texts, total.run)) } }
            }
        }
    }
}

fn topics(page: &Page, sample: &Sample, name: &str) -> Markup {
    let (texts, overview) = (page.texts, &sample.overview);
    let mut topics: Vec<(&String, &Figures)> =
        overview.topics.iter().filter(|(topic, _)| topic.contains(name)).collect();
    let hidden = topics.len().saturating_sub(SHOWN);
    if hidden > 0 {
        // Those that matter most, still by name.
        topics.sort_by_key(|(t, f)| {
            std::cmp::Reverse((overview.is_paused(t), f.dead.number > 0, f.running.number, f.ready.number))
        });
        topics.truncate(SHOWN);
        topics.sort_by_key(|(topic, _)| *topic);
    }
    let consumers = overview.consumers();
    html! {
        section.panel {
            div.panel-head {
                h2 { (texts.topics) }
                span.muted { (format::number(i64::try_from(overview.topics.len()).unwrap_or(i64::MAX))) }
                form.find method="get" action=(page.to("overview")) role="search" {
                    input type="search" name="topics" value=(name) placeholder=(texts.filter_topics)
                        aria-label=(texts.filter_topics) data-search;
                }
            }
            div.scroll tabindex="0" role="region" aria-label=(texts.topics) {
                table.list.by-topic {
                    thead { tr {
                        th { (texts.topic) }
                        th.spark { (texts.backlog) }
                        th.number { (texts.ready) } th.number { (texts.running) } th.number { (texts.scheduled) }
                        th.number { (texts.retrying) } th.number { (texts.dead) }
                        th.number title=(texts.oldest) { (texts.oldest_short) }
                        th.number { (texts.rate_in) (texts.per_second) }
                        th.number { (texts.rate_out) (texts.per_second) }
                        th.number title=(texts.errors_title) { (texts.errors) }
                        th.number { (texts.wait) small { (texts.p50_p99) } }
                        th.number { (texts.run_time) small { (texts.p50_p99) } }
                    } }
                    tbody { @for (topic, figures) in topics { (row(page, sample, topic, figures, consumers.contains_key(&**topic))) } }
                }
            }
            @if hidden > 0 { p.muted { (hidden) " " (texts.more_topics) } }
        }
    }
}

fn row(page: &Page, sample: &Sample, topic: &str, figures: &Figures, is_consumed: bool) -> Markup {
    let (texts, overview) = (page.texts, &sample.overview);
    let target = page.to(&format!("topic{}", query(&[("name", topic)])));
    let oldest = figures.oldest_due.map(|at| overview.now - at).filter(|time| time.num_seconds() > 0);
    let looks = sample.backlog.get(&Some(topic.to_owned())).map_or(&[][..], |looks| looks);
    // On a phone each figure bears its own name, for there is no room for columns.
    let number = |name: &str, count: String, class: &str| {
        let class = if count == "0" { "number zero".to_owned() } else { format!("number {class}") };
        html! { td class=(class) data-name=(name) { (count) } }
    };
    let figure = |name: &str, figure: Option<Markup>| {
        html! {
            @if let Some(figure) = figure { td.number data-name=(name) { (figure) } }
            @else { td.number.none { span.muted { "–" } } }
        }
    };
    let rate = |name: &str, rate| number(&format!("{name}{}", texts.per_second), format::rate(rate), "");
    html! {
        tr data-key=(visible_text(topic)) data-href=(target) tabindex="-1" {
            td {
                (page.topic_link(topic))
                @if overview.is_paused(topic) { " " span.badge.paused { (texts.paused) } }
                @if !is_consumed && figures.waits() {
                    " " span.badge.late title=(texts.unconsumed_about) { (texts.unconsumed) }
                }
                @if let Some(limited) = overview.limit_of(topic) {
                    " " span.badge.limited title=(texts.details_of("limit", &limited.limit.to_string())) { (texts.limited) }
                }
            }
            td.spark { (page.backlog(looks)) }
            (number(texts.ready, format::count(figures.ready), "ready"))
            (number(texts.running, format::count(figures.running), "running"))
            (number(texts.scheduled, format::count(figures.scheduled), ""))
            (number(texts.retrying, format::count(figures.retrying), "retrying"))
            (number(texts.dead, format::count(figures.dead), "dead"))
            (figure(texts.oldest_short, oldest.map(|oldest| html! { (format::short(texts, oldest)) })))
            (rate(texts.rate_in, figures.rate_in))
            (rate(texts.rate_out, figures.rate_out))
            (figure(texts.errors, figures.error_share.map(|share| html! { (format::percent(share)) })))
            (figure(texts.wait, figures.wait.map(|wait| format::quantiles(texts, Some(wait)))))
            (figure(texts.run_time, figures.run.map(|run| format::quantiles(texts, Some(run)))))
        }
    }
}
