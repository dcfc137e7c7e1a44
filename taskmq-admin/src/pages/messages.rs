//! Messages by id, topic, state, key and text, however many there are: each page goes on where the one before ended.

use std::time::{Duration, Instant};

use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use taskmq_core::State;
use taskmq_core::broker::{Action, Broker, Found, Selection, Spot, Summary};

use crate::fields::{Fields, query};
use crate::page::Page;
use crate::problem::Problem;
use crate::view::format;

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
    looked_at: i64,
}

/// What is searched for; a text is a secret where payloads are.
pub(crate) fn selection(page: &Page, fields: &Fields) -> Result<Selection, Problem> {
    let given = |name| fields.get(name).map(str::to_owned);
    let selection = Selection {
        state: fields.parse::<State>("state"),
        topic: given("topic"),
        text: given("text"),
        error: given("error"),
    };
    if page.shared.hide_payloads && selection.text.is_some() {
        return Err(Problem::Refused(page.texts.hidden_search.to_owned()));
    }
    Ok(selection)
}

pub(crate) async fn show(page: Page, fields: Fields) -> Response {
    if let Some(id) = fields.get("id").and_then(|id| id.trim_start_matches('#').parse::<i64>().ok()) {
        return page.redirect(&format!("messages/{id}"));
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
    let key = fields.get("key").map(str::to_owned);
    let listed = page.shared.reading.ask(move |broker| read(broker, asked, spot, key.as_deref())).await?;
    let changeable = !page.shared.read_only && selection.state != Some(State::Running);
    let given = |name| fields.get(name).unwrap_or_default();
    let go_on = |after: &str| {
        let names = ["state", "topic", "key", "text", "error"];
        let mut pairs: Vec<(&str, &str)> = names.iter().map(|name| (*name, given(name))).collect();
        pairs.push(("after", after));
        page.to(&format!("messages{}", query(&pairs)))
    };
    Ok(html! {
        div.heading { h1 { (texts.messages) } }
        (filters(page, fields))
        form method="post" action=(page.to("change")) {
            input type="hidden" name="back" value=(page.here);
            @if listed.messages.is_empty() {
                (page.empty(texts.no_messages, &html! {}))
            } @else {
                @if changeable { (toolbar(page, &selection, given("key").is_empty())) }
                section.panel { (page.message_table(listed.now, &listed.messages, changeable)) }
            }
        }
        nav.paging aria-label=(texts.next_page) {
            @if !first { a.button href=(go_on("")) { (texts.first_page) } }
            @if listed.next == Spot::End {
                @if !listed.messages.is_empty() { span.muted { (texts.end_of_list) } }
            } @else if listed.messages.len() < SHOWN {
                span.muted { (format::number(listed.looked_at)) " " (texts.looked_at) }
                a.button rel="next" href=(go_on(&listed.next.to_string())) { (texts.keep_looking) }
            } @else {
                a.button rel="next" href=(go_on(&listed.next.to_string())) { (texts.next_page) }
            }
        }
    })
}

fn read(
    broker: &mut dyn Broker,
    selection: Selection,
    spot: Spot,
    key: Option<&str>,
) -> taskmq_core::Result<Listed> {
    let began = Instant::now();
    let now = broker.now()?;
    let picky =
        selection.topic.is_some() || selection.text.is_some() || selection.error.is_some() || key.is_some();
    // A key is among the texts that are searched; which of those it is shows the message itself.
    let mut selection = selection;
    if let (None, Some(key)) = (&selection.text, key) {
        selection.text = Some(key.to_owned());
    }
    let step = if picky { STEP } else { i64::try_from(SHOWN).unwrap_or(STEP) };
    let mut walk = selection.walk_from(spot);
    let mut found: Vec<Found> = Vec::new();
    let mut looked_at = 0;
    let mut steps = 0;
    while found.len() < SHOWN && steps < STEPS && began.elapsed() < PATIENCE {
        let Some(mut page) = walk.next(broker, step)? else { break };
        looked_at += step;
        steps += 1;
        if let Some(key) = key {
            let mut having = Vec::new();
            for candidate in page {
                let message = broker.message(candidate.id)?;
                if message.is_some_and(|message| message.unique_key.as_deref() == Some(key)) {
                    having.push(candidate);
                }
            }
            page = having;
        }
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
    Ok(Listed { now, messages, next, looked_at })
}

fn filters(page: &Page, fields: &Fields) -> Markup {
    let texts = page.texts;
    let given = |name| fields.get(name).unwrap_or_default();
    let state: Option<State> = fields.parse("state");
    let tab = |state: Option<State>| {
        let name = state.map_or("", State::as_str);
        let pairs =
            [("state", name), ("topic", given("topic")), ("key", given("key")), ("text", given("text"))];
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
            @if let Some(error) = fields.get("error") {
                input type="hidden" name="error" value=(error);
                p.muted { (texts.same_error) ": " code { (crate::view::visible::visible(error)) } }
            }
        }
    }
}

/// What can be done with the selected ones, and with all.
fn toolbar(page: &Page, selection: &Selection, whole: bool) -> Markup {
    let texts = page.texts;
    let allowed: Vec<(&str, &str)> = actions(page, selection.state);
    html! {
        div.toolbar {
            span { (texts.selected) " " b data-count="id" { "0" } }
            @for (action, name) in &allowed { button name="action" value=(action) { (name) } }
            @if selection.state.is_some() && whole {
                @if let Some(state) = selection.state { input type="hidden" name="state" value=(state); }
                @for (name, value) in [("topic", &selection.topic), ("text", &selection.text), ("error", &selection.error)] {
                    @if let Some(value) = value { input type="hidden" name=(name) value=(value); }
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
