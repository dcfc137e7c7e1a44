//! Messages that wait for one another: all workflows, and one of them as a picture.

use axum::extract::Path;
use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use taskmq_core::broker::{Changed, Step, WorkflowEntry, WorkflowId, WorkflowState};
use taskmq_core::{MessageId, workflow};

use crate::database::On;
use crate::fields::{Fields, Posted, query};
use crate::page::Page;
use crate::problem::Problem;
use crate::view::visible::{visible, visible_text};
use crate::view::{format, graph};

const SHOWN: i64 = 50;

pub(crate) async fn list(page: Page, fields: Fields) -> Response {
    let body = listed(&page, &fields).await;
    page.answer(page.texts.workflows, body)
}

async fn listed(page: &Page, fields: &Fields) -> Result<Markup, Problem> {
    let texts = page.texts;
    let state: Option<WorkflowState> = fields.parse("state");
    let below = fields.parse("below").unwrap_or(WorkflowId::MAX);
    let (now, workflows) = page
        .shared
        .reading
        .ask(move |broker| Ok((broker.now()?, broker.workflows(state, below, SHOWN)?)))
        .await?;
    let is_full = i64::try_from(workflows.len()).is_ok_and(|number| number == SHOWN);
    let of = |state: Option<WorkflowState>, below: Option<WorkflowId>| {
        let below = below.map(|id| id.to_string());
        let mut pairs = Vec::new();
        pairs.extend(state.map(|state| ("state", state.as_str())));
        pairs.extend(below.as_deref().map(|id| ("below", id)));
        page.to(&format!("workflows{}", query(&pairs)))
    };
    let first = (below != WorkflowId::MAX).then(|| of(state, None));
    let last = workflows.last().filter(|_| is_full);
    let next = last.map(|last| (of(state, Some(last.id)), texts.next_page));
    Ok(html! {
        div.heading { h1 { (texts.workflows) } }
        nav aria-label=(texts.state) { ul.tabs {
            li { a href=(of(None, None)) aria-current=[state.is_none().then_some("page")] { (texts.all_states) } }
            @for each in WorkflowState::ALL {
                li { a href=(of(Some(each), None)) aria-current=[(state == Some(each)).then_some("page")] {
                    span class={ "dot " (each) } {} (texts.workflow_state(each))
                } }
            }
        } }
        @if workflows.is_empty() { (page.empty(texts.no_workflows, &html! { (texts.no_workflows_about) " " code { "Workflow::new(…)" } })) }
        @else {
            section.panel { div.scroll tabindex="0" role="region" aria-label=(texts.workflows) { table.list {
                thead { tr {
                    th { (texts.id) } th.wide { (texts.name) } th { (texts.state) } th { (texts.progress) }
                    th.number { (texts.stuck) } th.number { (texts.created) } th.number { (texts.finished_at) }
                } }
                tbody { @for workflow in &workflows { (row(page, now, workflow)) } }
            } } }
        }
        (page.paging(first, None, next))
    })
}

fn row(page: &Page, now: DateTime<Utc>, workflow: &WorkflowEntry) -> Markup {
    let texts = page.texts;
    let target = page.to(&format!("workflows/{}", workflow.id));
    html! {
        tr data-key=(workflow.id) data-href=(target) tabindex="-1" {
            td { a.id href=(target) { "#" (workflow.id) } }
            td.wide { div.cut { (visible(&workflow.name)) } }
            td { (state(page, workflow.state)) }
            td { (workflow.done) " / " (workflow.steps)
                progress max=(workflow.steps) value=(workflow.done) aria-label=(texts.progress) {} }
            td.number.dead.zero[workflow.stuck == 0] { (workflow.stuck) }
            td.number { (format::time(texts, now, workflow.created_at)) }
            td.number { @match workflow.finished_at {
                Some(at) => (format::time(texts, now, at)),
                None => span.muted { "–" },
            } }
        }
    }
}

fn state(page: &Page, state: WorkflowState) -> Markup {
    html! { span class={ "state " (state) } { (page.texts.workflow_state(state)) } }
}

pub(crate) async fn show(page: Page, Path(id): Path<String>) -> Response {
    let body = shown(&page, &id).await;
    page.answer(&format!("{} #{}", page.texts.workflow, id.parse::<i64>().unwrap_or_default()), body)
}

async fn shown(page: &Page, id: &str) -> Result<Markup, Problem> {
    let id: WorkflowId = id.parse().map_err(|_| Problem::NotFound)?;
    let part = part(page, id).await?;
    Ok(page.live(&[("of", "workflow"), ("id", &id.to_string())], &part))
}

async fn find(page: &Page, id: WorkflowId) -> Result<(DateTime<Utc>, WorkflowEntry, Vec<Step>), Problem> {
    let found = page
        .shared
        .reading
        .ask(move |broker| {
            let Some((workflow, steps)) = broker.workflow(id)? else { return Ok(None) };
            Ok(Some((broker.now()?, workflow, steps)))
        })
        .await?;
    found.ok_or(Problem::NotFound)
}

/// What changes while one looks.
pub(crate) async fn part(page: &Page, id: WorkflowId) -> Result<Markup, Problem> {
    let texts = page.texts;
    let (now, workflow, steps) = find(page, id).await?;
    let stuck = steps.iter().filter(|step| step.state.is_stuck()).count();
    Ok(html! {
        div.heading {
            div {
                p.crumb { a href=(page.to("workflows")) { (texts.workflows) } " / #" (workflow.id) }
                h1 { (visible(&workflow.name)) " " (state(page, workflow.state)) }
            }
            @if !page.shared.read_only { (buttons(page, &workflow)) }
        }
        @if stuck > 0 && workflow.state == WorkflowState::Running { p.notice.bad { (texts.stuck_about) } }
        section.panel {
            div.panel-head {
                h2 { (workflow.done) " / " (workflow.steps) " " (texts.done) }
                span.muted {
                    (texts.created) " " (format::time(texts, now, workflow.created_at))
                    @if let Some(at) = workflow.finished_at {
                        " · " (texts.finished_at) " " (format::time(texts, now, at))
                        " · " (format::duration(texts, at - workflow.created_at))
                    }
                }
            }
            @match graph::draw(page, texts.graph, &steps, None) {
                Some(graph) => (graph),
                None => p.muted { (texts.too_many_steps) },
            }
        }
        section.panel {
            div.panel-head { h2 { (texts.steps) } }
            div.scroll tabindex="0" role="region" aria-label=(texts.steps) { table.list {
                thead { tr {
                    th.number { (texts.step) } th.wide { (texts.name) } th { (texts.state) } th { (texts.topic) } th { (texts.message) }
                    th { (texts.after_steps) } th.number { (texts.done) }
                } }
                tbody { @for step in &steps { (step_row(page, now, step)) } }
            } }
        }
    })
}

/// So many of the steps that one waits for are named.
const AFTER: usize = 6;

fn step_row(page: &Page, now: DateTime<Utc>, step: &Step) -> Markup {
    let after: Vec<String> = step.after.iter().map(i32::to_string).collect();
    let more = after.len().saturating_sub(AFTER);
    let message = step.message_id.map(|id| page.to(&format!("messages/{id}")));
    html! {
        tr data-key=(step.step) data-href=[message.as_deref()] tabindex=[message.as_ref().map(|_| "-1")] {
            td.number { (step.step) }
            td.wide { div.cut title=(visible_text(&step.name)) { (visible(&step.name)) } }
            td { span class={ "state " (step.state) } { (page.texts.step_state(step.state)) } }
            td { (page.topic_link(&step.topic)) }
            td { @match step.message_id { Some(id) => (page.message_link(id)), None => span.muted { "–" } } }
            td title=[(more > 0).then(|| after.join(", "))] {
                @if after.is_empty() { span.muted { "–" } }
                @else { (after[..after.len() - more].join(", ")) @if more > 0 { span.muted { " + " (more) } } }
            }
            td.number { @match step.done_at { Some(at) => (format::time(page.texts, now, at)), None => span.muted { "–" } } }
        }
    }
}

fn buttons(page: &Page, workflow: &WorkflowEntry) -> Markup {
    let texts = page.texts;
    html! {
        @if workflow.state == WorkflowState::Running {
            form.actions method="post" action=(page.to(&format!("workflows/{}", workflow.id))) {
                @if workflow.stuck > 0 {
                    button.primary name="action" value="retry" { (texts.retry) ": " (texts.messages_of(&workflow.stuck.to_string())) }
                }
                button.bad name="action" value="cancel" data-confirm={ (question(page, workflow)) " " (texts.undo_not) } {
                    (texts.cancel_workflow)
                }
            }
        }
    }
}

fn question(page: &Page, workflow: &WorkflowEntry) -> String {
    let texts = page.texts;
    format!("{}: {} {}.", texts.cancel_workflow, workflow.steps - workflow.done, texts.steps_not_done)
}

/// The picture of the workflow that a message is a step of.
pub(crate) async fn around(page: &Page, id: WorkflowId, message: MessageId) -> Result<Markup, Problem> {
    let texts = page.texts;
    let (_, workflow, steps) = match find(page, id).await {
        Ok(found) => found,
        // It is kept no longer, or the header is somebody's own.
        Err(Problem::NotFound) => return Ok(html! {}),
        Err(problem) => return Err(problem),
    };
    let Some(own) = steps.iter().find(|step| step.message_id == Some(message)) else { return Ok(html! {}) };
    let to = page.to(&format!("workflows/{id}"));
    Ok(html! {
        section.panel {
            div.panel-head {
                h2 { (texts.workflow) " " a href=(to) { (visible(&workflow.name)) " #" (id) } }
                span.muted { (texts.step) " " (own.step) ": " (visible(&own.name)) " · " (workflow.done) " / " (workflow.steps) " " (texts.done) }
            }
            @if let Some(graph) = graph::draw(page, texts.graph, &steps, Some(own.step)) { (graph) }
        }
    })
}

/// Retries what is stuck of one, or cancels it, after a question.
pub(crate) async fn change(page: Page, Path(id): Path<String>, Posted(fields): Posted) -> Response {
    if fields.get("action") == Some("cancel") && fields.get("confirm").is_none() {
        return page.answer(page.texts.confirm_title, confirm(&page, &id).await);
    }
    match act(&page, &id, &fields).await {
        Ok((done, id)) => page.done(done, &format!("workflows/{id}")),
        Err(problem) => page.answer(page.texts.workflows, Err(problem)),
    }
}

async fn confirm(page: &Page, id: &str) -> Result<Markup, Problem> {
    let texts = page.texts;
    let (_, workflow, _) = find(page, id.parse().map_err(|_| Problem::NotFound)?).await?;
    let own = page.to(&format!("workflows/{}", workflow.id));
    Ok(html! {
        div.heading { h1 { (texts.confirm_title) } }
        section.panel.confirm {
            p.question { b { (visible(&workflow.name)) " #" (workflow.id) } }
            p { (question(page, &workflow)) }
            p.notice.bad { (texts.undo_not) }
            form.actions method="post" action=(own) {
                input type="hidden" name="action" value="cancel";
                button.bad name="confirm" value="yes" { (texts.cancel_workflow) }
                a.button href=(own) { (texts.go_back) }
            }
        }
    })
}

async fn act(page: &Page, id: &str, fields: &Fields) -> Result<(&'static str, WorkflowId), Problem> {
    type Act = fn(&mut On<'_>, WorkflowId, &str) -> taskmq_core::Result<Changed>;
    let id: WorkflowId = id.parse().map_err(|_| Problem::NotFound)?;
    let (done, act): (_, Act) = match fields.get("action") {
        Some("retry") => ("retry steps", |conn, id, actor| workflow::retry(conn, id, actor)),
        Some("cancel") => ("cancel", |conn, id, actor| workflow::cancel(conn, id, actor)),
        _ => return Err(Problem::NotFound),
    };
    let actor = page.actor.0.clone();
    let writing = page.shared.writing.as_ref().ok_or(Problem::NotFound)?;
    writing.ask(move |broker| act(&mut On(broker), id, &actor)).await?;
    Ok((done, id))
}
