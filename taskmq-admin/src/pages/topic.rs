//! One topic.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use taskmq_core::broker::{Broker, Limit, LimitedTopic, PausedTopic, Selection, Summary};
use taskmq_core::limits::MAX_RUNNING;
use taskmq_core::overview::{Figures, Overview};
use taskmq_core::{MessageId, State};

use crate::fields::{Fields, Posted, query};
use crate::page::Page;
use crate::pages::{overview, schema};
use crate::problem::Problem;
use crate::view::format;
use crate::view::visible::{visible, visible_text};

const SHOWN: usize = 10;
/// So many are looked at at once,
const PAGE: i64 = 500;
/// and for no longer than this for each state.
const PATIENCE: Duration = Duration::from_millis(300);

pub(crate) async fn show(page: Page, fields: Fields) -> Response {
    let name = fields.get("name").unwrap_or_default().to_owned();
    let texts = page.texts;
    let schema = schema::part(&page, &name).await;
    let body = look(&page, &name).await.map(|(part, paused, limited)| {
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
            (page.live(&[("of", "topic"), ("name", &name)], &part))
            (schema)
            @if !page.shared.read_only { (limit_form(&page, &name, limited.as_ref())) }
        }
    });
    page.answer(&visible_text(&name), body)
}

fn limit_form(page: &Page, name: &str, limited: Option<&LimitedTopic>) -> Markup {
    let texts = page.texts;
    let limit = limited.map(|limited| limited.limit).unwrap_or_default();
    html! {
        section.panel id="limit" {
            div.panel-head { h2 { (texts.limit) } }
            p.muted { (texts.limit_about) }
            form.edit.limit method="post" action=(page.to("topic")) {
                input type="hidden" name="name" value=(name);
                label { span { (texts.at_once) small { (texts.optional) } }
                    input type="number" name="running" min="1" max=(MAX_RUNNING) value=[limit.running]; }
                label { span { (texts.limit_rate) small { (texts.optional) } }
                    input name="rate" maxlength="30" placeholder="100/1m" value=[limit.rate] autocomplete="off" spellcheck="false"; }
                button name="action" value="limit" { (texts.set_limit) }
                @if limited.is_some() { button name="action" value="lift limit" formnovalidate { (texts.lift_limit) } }
            }
        }
    }
}

/// Pauses or limits it, or lets it go on. Done already by somebody else is as good.
pub(crate) async fn change(page: Page, Posted(fields): Posted) -> Response {
    match act(&page, &fields).await {
        Ok(name) => {
            let done = fields.get("action").unwrap_or_default();
            page.done(done, &format!("topic{}", query(&[("name", &name)])))
        }
        Err(problem) => page.answer(page.texts.problem, Err(problem)),
    }
}

async fn act(page: &Page, fields: &Fields) -> Result<String, Problem> {
    type Act = Box<dyn FnOnce(&mut dyn Broker, &str, &str) -> taskmq_core::Result<bool> + Send>;
    let act: Act = match fields.get("action") {
        Some("pause") => Box::new(|broker, topic, actor| broker.pause(topic, actor)),
        Some("resume") => Box::new(|broker, topic, actor| broker.resume(topic, actor)),
        Some("limit") => {
            let limit = limit(page, fields)?;
            Box::new(move |broker, topic, actor| broker.set_limit(topic, &limit, actor))
        }
        Some("lift limit") => Box::new(|broker, topic, actor| broker.lift_limit(topic, actor)),
        _ => return Err(Problem::NotFound),
    };
    let name = fields.get("name").unwrap_or_default().to_owned();
    let writing = page.shared.writing.as_ref().ok_or(Problem::NotFound)?;
    let (topic, actor) = (name.clone(), page.actor.0.clone());
    writing.ask(move |broker| act(broker, &topic, &actor)).await?;
    Ok(name)
}

/// As the form has it.
fn limit(page: &Page, fields: &Fields) -> Result<Limit, Problem> {
    let number =
        |text: &str| text.parse().map_err(|_| Problem::Refused(format!("{} {text}", page.texts.bad_number)));
    let running = fields.get("running").map(number).transpose()?;
    let rate = fields.get("rate").map(str::parse).transpose()?;
    Ok(Limit { running, rate })
}

pub(crate) async fn part(page: &Page, name: &str) -> Result<Markup, Problem> {
    look(page, name).await.map(|(part, ..)| part)
}

/// And whether it is paused or limited, as of now: figures may be older than the change that led here.
async fn look(page: &Page, name: &str) -> Result<(Markup, bool, Option<LimitedTopic>), Problem> {
    let sample = page.shared.sampler.latest(&page.shared.reading).await?;
    let texts = page.texts;
    let figures = sample.overview.topics.get(name).cloned().unwrap_or_default();
    let (now, unread) = match read(page, name, &figures).await {
        Ok(now) => (now, None),
        // The figures are there all the same.
        Err(problem) if problem.status() == StatusCode::SERVICE_UNAVAILABLE => {
            (Now::of(name, &sample.overview), Some(problem))
        }
        Err(problem) => return Err(problem),
    };
    let Now { at, latest, paused, limited } = now;
    let looks = sample.backlog.get(&Some(name.to_owned())).map_or(&[][..], |looks| looks);
    let consumers = sample.overview.consumers().get(name).copied().unwrap_or_default();
    let part = html! {
        (overview::old(page, &sample))
        @if let (None, Some(problem)) = (&sample.old, &unread) { (overview::not_newer(page, &sample, problem)) }
        @if consumers == 0 && figures.waits() { p.notice.bad { (texts.unconsumed_about) } }
        @if let Some(paused) = &paused {
            p.notice { (texts.paused_about) " " (visible(&paused.actor)) ", " (format::time(texts, at, paused.since)) }
        }
        @if let Some(limited) = &limited {
            p.notice {
                (texts.limit) ": "
                @if let Some(running) = limited.limit.running { (texts.at_once) " " b { (running) } ", " }
                @if let Some(rate) = limited.limit.rate { (texts.limit_rate) " " b { (rate) } ", " }
                (texts.running) " " b { (format::number(limited.running_now)) } ", "
                (visible(&limited.actor)) ", " (format::time(texts, at, limited.since))
            }
        }
        div.cards {
            (overview::cards(page, &figures, name, &sample))
            a.card href=(page.to("workers")) {
                span.label { (texts.workers) } span.figure { (consumers) }
            }
        }
        section.panel {
            div.panel-head { h2 { (texts.backlog) } }
            div.plot { (page.backlog(looks)) }
            dl.facts {
                div { dt { (texts.rate_in) } dd { (format::rate(figures.rate_in)) (texts.per_second) } }
                div { dt { (texts.rate_out) } dd { (format::rate(figures.rate_out)) (texts.per_second) } }
                div { dt { (texts.wait) " " (texts.p50_p99) } dd { (format::quantiles(texts, figures.wait)) } }
                div { dt { (texts.run_time) " " (texts.p50_p99) } dd { (format::quantiles(texts, figures.run)) } }
            }
        }
        @if unread.is_none() {
            section.panel {
                div.panel-head { h2 { (texts.messages) } }
                @if latest.is_empty() && figures.dead.number > 0 {
                    (page.empty(texts.no_dead_soon, &html! {
                        a.button href=(page.to(&format!("messages{}", query(&[("state", "dead"), ("topic", name)])))) { (texts.look_further) }
                    }))
                } @else if latest.is_empty() { (page.empty(texts.no_messages, &html! {})) }
                @else { (page.message_table(at, &latest, false)) }
            }
        }
    };
    Ok((part, paused.is_some(), limited))
}

/// What is not among the figures.
struct Now {
    at: DateTime<Utc>,
    latest: Vec<Summary>,
    paused: Option<PausedTopic>,
    limited: Option<LimitedTopic>,
}

impl Now {
    /// As far as figures that are there already tell it.
    fn of(topic: &str, overview: &Overview) -> Self {
        let paused = overview.paused.iter().find(|paused| paused.topic == topic).cloned();
        Self { at: overview.now, latest: Vec::new(), paused, limited: overview.limit_of(topic).cloned() }
    }
}

async fn read(page: &Page, topic: &str, figures: &Figures) -> Result<Now, Problem> {
    let topic = topic.to_owned();
    let dead = figures.dead.number > 0 || figures.dead.or_more;
    let read = page.shared.reading.ask(move |broker| {
        let mut found = Vec::new();
        let states = [State::Running, State::Ready, State::Retrying, State::Scheduled, State::Dead];
        // Without any, all the dead letters of others would be looked through.
        for state in states.into_iter().filter(|state| *state != State::Dead || dead) {
            found.push(first(broker, Selection { topic: Some(topic.clone()), ..Selection::of(state) })?);
        }
        let found = share_out(found, SHOWN);
        let paused = broker.paused()?.into_iter().find(|paused| paused.topic == topic);
        let limited = broker.limits()?.into_iter().find(|limited| limited.topic == topic);
        Ok(Now { at: broker.now()?, latest: broker.summaries(&found, None)?, paused, limited })
    });
    read.await
}

/// Those of a selection that are found in a moment: dead ones of a topic lie among those of all others.
fn first(broker: &mut dyn Broker, selection: Selection) -> taskmq_core::Result<Vec<MessageId>> {
    let began = Instant::now();
    let (mut found, mut walk) = (Vec::new(), selection.walk());
    while found.len() < SHOWN
        && began.elapsed() < PATIENCE
        && let Some(page) = walk.next(broker, PAGE)?
    {
        found.extend(page.into_iter().map(|found| found.id));
    }
    found.truncate(SHOWN);
    Ok(found)
}

/// So many of all: none of the lists is left out for another that is longer.
fn share_out<T>(mut lists: Vec<Vec<T>>, most: usize) -> Vec<T> {
    while lists.iter().map(Vec::len).sum::<usize>() > most {
        if let Some(longest) = lists.iter_mut().max_by_key(|list| list.len()) {
            longest.pop();
        }
    }
    lists.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::share_out;

    #[test]
    fn no_list_is_left_out() {
        assert_eq!(
            share_out(vec![vec![1; 10], vec![2; 10], vec![3], vec![4; 2]], 10),
            [1, 1, 1, 1, 2, 2, 2, 3, 4, 4]
        );
        assert_eq!(share_out(vec![vec![], vec![2; 10]], 10), [2; 10]);
        assert_eq!(share_out(vec![vec![1], vec![2]], 10), [1, 2]);
    }
}
