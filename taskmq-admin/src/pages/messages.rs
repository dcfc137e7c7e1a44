//! Messages by id, topic, state, key, text, time and what their payloads have, however many there are: each page goes on where the one before ended.

use std::time::{Duration, Instant};

use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use taskmq_core::State;
use taskmq_core::broker::{Action, Broker, Found, Selection, Span, Spot, Summary};

use crate::fields::{Fields, query};
use crate::page::Page;
use crate::problem::Problem;
use crate::view::format;
use crate::view::visible::visible;

/// The fields that say what is sought.
const SOUGHT: [&str; 9] = ["state", "topic", "key", "ordering", "text", "json", "error", "since", "before"];

/// So many are on a page.
const SHOWN: usize = 50;
/// So many are looked at in one step where most may not be meant.
const STEP: i64 = 500;
/// After this the page is shown with what was found, and a link to look further.
const PATIENCE: Duration = Duration::from_millis(700);
const STEPS: i64 = 100;

/// What a page of the list has.
struct Listed {
    now: DateTime<Utc>,
    messages: Vec<Summary>,
    /// Where the next page begins.
    next: Spot,
    looked_at: usize,
}

/// What is searched for; a text is a secret where payloads are.
pub(crate) fn selection(page: &Page, fields: &Fields) -> Result<Selection, Problem> {
    let given = |name| fields.get(name).map(str::to_owned);
    let time = |name| {
        fields.time(name).map_err(|given| Problem::Refused(format!("{} {given}", page.texts.bad_time)))
    };
    let state = fields.get("state").map(|given| {
        given.parse::<State>().map_err(|_| Problem::Refused(format!("{} {given}", page.texts.bad_state)))
    });
    let selection = Selection {
        state: state.transpose()?,
        topic: given("topic"),
        unique_key: given("key"),
        ordering_key: given("ordering"),
        text: given("text"),
        condition: fields.get("json").map(str::parse).transpose()?,
        error: given("error"),
        since: time("since")?,
        before: time("before")?,
        produced_before: None,
    };
    if page.shared.hide_payloads && (selection.text.is_some() || selection.condition.is_some()) {
        return Err(Problem::Refused(page.texts.hidden_search.to_owned()));
    }
    Ok(selection)
}

pub(crate) async fn show(page: Page, fields: Fields) -> Response {
    if let Some(id) = fields.get("id") {
        return match id.trim_start_matches('#').parse::<i64>() {
            Ok(number) => page.redirect(&format!("messages/{number}")),
            Err(_) => {
                let refused = Problem::Refused(format!("{} {id}", page.texts.bad_number));
                page.answer(page.texts.messages, Err(refused))
            }
        };
    }
    let body = list(&page, &fields).await;
    page.answer(page.texts.messages, body)
}

async fn list(page: &Page, fields: &Fields) -> Result<Markup, Problem> {
    let texts = page.texts;
    let selection = selection(page, fields)?;
    let spot: Spot = fields.parse("after").unwrap_or(Spot::Start);
    let first = spot == Spot::Start;
    let asked = selection.clone();
    let listed = page.shared.reading.ask(move |broker| read(broker, asked, spot)).await?;
    let changeable = !page.shared.read_only;
    let given = |name| fields.get(name).unwrap_or_default();
    let go_on = |after: &str| {
        let mut pairs: Vec<(&str, &str)> = SOUGHT.iter().map(|name| (*name, given(name))).collect();
        pairs.push(("after", after));
        page.to(&format!("messages{}", query(&pairs)))
    };
    Ok(html! {
        div.heading { h1 { (texts.messages) } }
        (filters(page, fields))
        @if listed.messages.is_empty() {
            (page.empty(texts.no_messages, &html! {}))
        } @else if changeable {
            form method="post" action=(page.to("change")) {
                input type="hidden" name="back" value=(page.back());
                (toolbar(page, &selection, fields))
                section.panel { (page.message_table(listed.now, &listed.messages, true)) }
            }
        } @else {
            section.panel { (page.message_table(listed.now, &listed.messages, false)) }
        }
        (paging(page, &listed, go_on, first))
    })
}

fn paging(page: &Page, listed: &Listed, go_on: impl Fn(&str) -> String, is_first: bool) -> Markup {
    let texts = page.texts;
    let first = (!is_first).then(|| go_on(""));
    let next = |name| Some((go_on(&listed.next.to_string()), name));
    if listed.next == Spot::End {
        let end = (!listed.messages.is_empty()).then(|| html! { (texts.end_of_list) });
        page.paging(first, end, None)
    } else if listed.messages.len() < SHOWN {
        let looked_at = format::number(i64::try_from(listed.looked_at).unwrap_or(i64::MAX));
        let so_far = html! { (looked_at) " " (texts.looked_at) " " (stopped_at(page, &listed.next)) };
        page.paging(first, Some(so_far), next(texts.keep_looking))
    } else {
        page.paging(first, None, next(texts.next_page))
    }
}

/// Where the walk stands, for people.
fn stopped_at(page: &Page, spot: &Spot) -> Markup {
    let texts = page.texts;
    html! {
        @match spot {
            Spot::Produced(id) if *id < i64::MAX => { (texts.as_far_as) " #" (id) },
            Spot::Finished(place) => { (texts.as_far_as) " " (format::exact(place.at)) },
            Spot::Waiting(lane, place) if place.at < Span::everything(1).to.at => {
                (texts.as_far_as) " " (visible(&lane.topic)) ", " (texts.priority) " " (lane.priority) ", " (format::exact(place.at))
            },
            _ => {},
        }
    }
}

fn read(broker: &mut dyn Broker, selection: Selection, spot: Spot) -> taskmq_core::Result<Listed> {
    let began = Instant::now();
    let now = broker.now()?;
    let picky = selection != Selection { state: selection.state, ..Selection::default() };
    let step = if picky { STEP } else { i64::try_from(SHOWN).unwrap_or(STEP) };
    let mut walk = selection.walk_from(spot);
    let mut found: Vec<Found> = Vec::new();
    let mut steps = 0;
    while found.len() < SHOWN && steps < STEPS && began.elapsed() < PATIENCE {
        let Some(page) = walk.next(broker, step)? else { break };
        steps += 1;
        found.extend(page);
    }
    let next = match found.get(SHOWN - 1) {
        Some(last) if found.len() > SHOWN => last.spot.clone(),
        _ => walk.spot().clone(),
    };
    found.truncate(SHOWN);
    let ids: Vec<_> = found.iter().map(|found| found.id).collect();
    let mut messages = broker.summaries(&ids, None)?;
    messages.sort_by_key(|message| ids.iter().position(|id| *id == message.id));
    Ok(Listed { now, messages, next, looked_at: walk.looked_at() })
}

fn filters(page: &Page, fields: &Fields) -> Markup {
    let texts = page.texts;
    let given = |name| fields.get(name).unwrap_or_default();
    let state: Option<State> = fields.parse("state");
    let tab = |state: Option<State>| {
        let name = state.map_or("", State::as_str);
        let mut pairs: Vec<(&str, &str)> = SOUGHT.iter().map(|name| (*name, given(name))).collect();
        pairs.retain(|(name, _)| !matches!(*name, "state" | "error"));
        pairs.push(("state", name));
        page.to(&format!("messages{}", query(&pairs)))
    };
    html! {
        ul.tabs aria-label=(texts.state) {
            li { a href=(tab(None)) aria-current=[state.is_none().then_some("true")] { (texts.all_states) } }
            @for each in State::ALL {
                li { a href=(tab(Some(each))) aria-current=[(state == Some(each)).then_some("true")] {
                    span class={ "dot " (each) } {} (texts.state(each))
                } }
            }
        }
        form.filters method="get" action=(page.to("messages")) role="search" {
            @if let Some(state) = state { input type="hidden" name="state" value=(state); }
            label { span { (texts.topic) } input name="topic" value=(given("topic")) autocomplete="off" spellcheck="false"; }
            label.short { span { (texts.id) } input name="id" inputmode="numeric" value=(given("id")); }
            label { span { (texts.key) } input name="key" value=(given("key")) autocomplete="off" spellcheck="false"; }
            @if !page.shared.hide_payloads {
                label.long { span { (texts.text) } input type="search" name="text" value=(given("text"))
                    placeholder=(texts.text_about) data-search; }
            }
            div.buttons {
                button.primary { (texts.search) }
                a.button href=(page.to("messages")) { (texts.reset) }
            }
            details.more open[["ordering", "json", "since", "before"].iter().any(|name| !given(name).is_empty())] {
                summary { (texts.more_filters) }
                div.filters {
                    label { span { (texts.ordering_key) } input name="ordering" value=(given("ordering")) autocomplete="off" spellcheck="false"; }
                    @if !page.shared.hide_payloads {
                        label.long { span { (texts.json_path) } input name="json" value=(given("json")) placeholder="$.user.id = 42"
                            autocomplete="off" spellcheck="false" title=(texts.json_path_about); }
                    }
                    @for (name, title) in [("since", texts.since), ("before", texts.before)] {
                        label.time { span { (time_of(page, state)) " " (title) }
                            input type="datetime-local" name=(name) step="1" value=(given(name)); }
                    }
                }
            }
            @if let Some(error) = fields.get("error") {
                input type="hidden" name="error" value=(error);
                p.muted { (texts.same_error) ": " code { (visible(error)) } }
            }
        }
    }
}

/// Which of a message's times is meant: see [`Selection::since`].
fn time_of(page: &Page, state: Option<State>) -> &'static str {
    match state {
        None => page.texts.created,
        Some(state) if state.is_finished() => page.texts.finished_at,
        Some(_) => page.texts.due,
    }
}

/// What can be done with the selected ones, and with all.
fn toolbar(page: &Page, selection: &Selection, fields: &Fields) -> Markup {
    let texts = page.texts;
    let allowed: Vec<(&str, &str)> = actions(page, selection.state);
    html! {
        div.toolbar {
            span { (texts.selected) " " b data-count="id" { "0" } }
            @for (action, name) in &allowed { button name="action" value=(action) { (name) } }
            @if selection.state.is_some() {
                @for name in SOUGHT {
                    @if let Some(value) = fields.get(name) { input type="hidden" name=(name) value=(value); }
                }
                span.gap {}
                span { (texts.all_matching) }
                @for (action, name) in &allowed { button name="all" value=(action) { (name) } }
            }
        }
    }
}

/// What can be done with messages of this state: the value of the form's button and its name.
pub(crate) fn actions(page: &Page, state: Option<State>) -> Vec<(&'static str, &'static str)> {
    let texts = page.texts;
    let retry = match state {
        Some(State::Ready | State::Scheduled | State::Retrying) => texts.run_now,
        _ => texts.retry,
    };
    let all = [(Action::Retry, retry), (Action::Cancel, texts.cancel), (Action::Delete, texts.delete)];
    let allowed = |action: &Action| match state {
        None => true,
        Some(State::Ready) if *action == Action::Retry => false,
        Some(state) => action.check(state).is_ok(),
    };
    all.into_iter()
        .filter(|(action, _)| allowed(action))
        .map(|(action, name)| (action.as_str(), name))
        .collect()
}
