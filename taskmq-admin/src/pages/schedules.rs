//! What enqueues messages by the clock.

use std::collections::HashMap;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};
use taskmq_core::broker::{Broker, Schedule, Summary, WorkerEntry};
use taskmq_core::{Error, MessageId, Produced, schedule};

use crate::database::On;
use crate::fields::{Fields, Posted};
use crate::page::Page;
use crate::problem::Problem;
use crate::texts::Texts;
use crate::view::format;
use crate::view::visible::{visible, visible_lines};

/// So many are on the page.
const SHOWN: usize = 200;
/// So many of the next ticks of each.
const TICKS: usize = 5;
/// So much of a payload.
const CHARS: usize = 300;
/// Later than this no worker lets it tick.
const LATE: TimeDelta = TimeDelta::seconds(10);

/// What the page has.
struct Listed {
    now: DateTime<Utc>,
    schedules: Vec<Schedule>,
    hidden: usize,
    workers: HashMap<i64, WorkerEntry>,
    /// Messages of last ticks that are still there.
    last: HashMap<MessageId, Summary>,
}

pub(crate) async fn show(page: Page, fields: Fields) -> Response {
    let body = list(&page, fields.get("name").unwrap_or_default(), None).await;
    page.answer(page.texts.schedules, body)
}

async fn list(page: &Page, name: &str, told: Option<Markup>) -> Result<Markup, Problem> {
    let texts = page.texts;
    let wanted = name.to_owned();
    let listed = page.shared.reading.ask(move |broker| read(broker, &wanted)).await?;
    Ok(html! {
        div.heading {
            h1 { (texts.schedules) }
            @if !name.is_empty() || listed.hidden > 0 || listed.schedules.len() > 10 {
                form.find method="get" action=(page.to("schedules")) role="search" {
                    input type="search" name="name" value=(name) placeholder=(texts.filter_schedules)
                        aria-label=(texts.filter_schedules) data-search;
                }
            }
        }
        @if let Some(told) = told { p.notice role="alert" { (told) } }
        @if listed.schedules.is_empty() && name.is_empty() {
            (page.empty(texts.no_schedules, &html! {
                (texts.no_schedules_about) " "
                code { "taskmq-cli schedules add morning '0 7 * * mon-fri' report '{\"days\": 1}'" }
            }))
        } @else if listed.schedules.is_empty() {
            (page.empty(texts.no_such_schedule, &html! {}))
        } @else {
            div.schedules { @for schedule in &listed.schedules { (panel(page, &listed, schedule)) } }
        }
        @if listed.hidden > 0 { p.muted { (listed.hidden) " " (texts.more_schedules) } }
    })
}

fn read(broker: &mut dyn Broker, name: &str) -> taskmq_core::Result<Listed> {
    let mut schedules = broker.schedules(None)?;
    schedules.retain(|schedule| schedule.name.contains(name) || schedule.topic.contains(name));
    let hidden = schedules.len().saturating_sub(SHOWN);
    schedules.truncate(SHOWN);
    let ids: Vec<MessageId> = schedules.iter().filter_map(|schedule| schedule.last_message_id).collect();
    let last = broker.summaries(&ids, None)?.into_iter().map(|message| (message.id, message)).collect();
    let workers = broker.workers(1_000)?.into_iter().map(|worker| (worker.id, worker)).collect();
    Ok(Listed { now: broker.now()?, schedules, hidden, workers, last })
}

fn panel(page: &Page, listed: &Listed, schedule: &Schedule) -> Markup {
    let texts = page.texts;
    let late = !schedule.paused && schedule.next_at.is_some_and(|next| listed.now - next > LATE);
    html! {
        section.panel.schedule {
            div.panel-head {
                h2 { (visible(&schedule.name)) }
                @if schedule.paused { span.badge.paused { (texts.paused) } }
                @if late { span.badge.late title=(texts.late_about) { (texts.late) } }
                span.muted { "→ " (page.topic_link(&schedule.topic)) }
                @if !page.shared.read_only { (buttons(page, schedule)) }
            }
            div.schedule-facts {
                dl.details {
                    dt { (texts.cron) } dd { code { (visible(&schedule.cron)) } " " span.muted { (visible(&schedule.time_zone)) } }
                    dt { (texts.last_run) } dd { (last_run(page, listed, schedule)) }
                    dt { (texts.declared_by) } dd { (declared_by(page, listed, schedule)) }
                    @if schedule.priority != 0 { dt { (texts.priority) } dd { (schedule.priority) } }
                    @if let Some(key) = &schedule.unique_key { dt { (texts.key) } dd { code { (visible(key)) } } }
                    dt { (texts.payload) } dd {
                        @if page.shared.hide_payloads { span.muted { (texts.hidden) } }
                        @else { code.cut { (visible(&schedule.payload.chars().take(CHARS).collect::<String>())) } }
                    }
                }
                (ticks(page, listed.now, schedule))
            }
        }
    }
}

fn buttons(page: &Page, schedule: &Schedule) -> Markup {
    let texts = page.texts;
    html! {
        form.actions method="post" action=(page.to("schedules")) {
            input type="hidden" name="name" value=(schedule.name);
            button name="action" value="run" { (texts.run_now) }
            @if schedule.paused { button name="action" value="resume" { (texts.resume) } }
            @else { button name="action" value="pause" { (texts.pause) } }
        }
    }
}

/// In its own time zone, for that is how it is meant.
fn ticks(page: &Page, now: DateTime<Utc>, schedule: &Schedule) -> Markup {
    let texts = page.texts;
    let ticks = schedule.cron().and_then(|cron| Ok((cron, schedule.upcoming(TICKS)?)));
    html! {
        div.ticks {
            h3 { (texts.next_runs) }
            @match ticks {
                Err(error) => p.error { (visible_lines(&unreadable(texts, error))) },
                Ok((_, ticks)) if ticks.is_empty() => p.muted { (if schedule.paused { texts.paused_schedule } else { texts.never }) },
                Ok((cron, ticks)) => ol {
                    @for tick in ticks { li { span.local { (cron.local(tick)) } span.muted { (format::time(texts, now, tick)) } } }
                },
            }
        }
    }
}

/// Why it never ticks. Only another program can have stored what cannot be read.
fn unreadable(texts: &Texts, error: Error) -> String {
    let chinese = match &error {
        Error::Cron { cron, .. } => format!(
            "Cron 表达式“{cron}”无效：须为五个字段（分、时、日、月、星期）或六个字段（最前为秒），或 @hourly、@daily、@weekly、@monthly、@yearly，且确有这样的时间"
        ),
        Error::TimeZone { zone, .. } => format!("没有时区“{zone}”：须为 IANA 时区名称，例如 Asia/Shanghai"),
        _ => return Problem::from(error).words(texts),
    };
    texts.choose(&error.to_string(), &chinese).to_owned()
}

fn last_run(page: &Page, listed: &Listed, schedule: &Schedule) -> Markup {
    html! {
        @match schedule.last_at {
            None => span.muted { (page.texts.not_yet) },
            Some(at) => {
                (format::time(page.texts, listed.now, at)) " "
                @match schedule.last_message_id.map(|id| (id, listed.last.get(&id))) {
                    None => {},
                    Some((id, Some(message))) => { (page.message_link(id)) " " (page.state(message.state)) },
                    // Done and not kept, or deleted.
                    Some((id, None)) => span.muted { "#" (id) },
                }
            },
        }
    }
}

fn declared_by(page: &Page, listed: &Listed, schedule: &Schedule) -> Markup {
    let texts = page.texts;
    html! {
        @match schedule.declared_by.map(|id| listed.workers.get(&id)) {
            None => (texts.declared_by_nobody),
            Some(Some(worker)) if worker.alive => {
                (texts.declared_by_consumer) " " span.muted { (visible(&worker.label())) }
            },
            Some(Some(_)) => { (texts.declared_by_consumer) " " span.muted { (texts.worker_gone) } },
            Some(None) if schedule.orphaned => { (texts.declared_by_consumer) " " span.muted { (texts.worker_gone) } },
            Some(None) => (texts.declared_by_consumer),
        }
    }
}

/// Runs, pauses or resumes one. Paused or resumed already by somebody else is as good.
pub(crate) async fn change(page: Page, Posted(fields): Posted) -> Response {
    let done = fields.get("action").unwrap_or_default();
    match act(&page, &fields).await {
        Ok(None) => page.done(done, "schedules"),
        Ok(Some(Produced::New(id))) => page.done(done, &format!("messages/{id}")),
        Ok(Some(Produced::Existing(id))) => {
            let told = html! { (page.texts.exists) " " (page.message_link(id)) };
            let body = list(&page, "", Some(told)).await;
            (StatusCode::CONFLICT, page.answer(page.texts.schedules, body)).into_response()
        }
        Err(problem) => page.answer(page.texts.schedules, Err(problem)),
    }
}

async fn act(page: &Page, fields: &Fields) -> Result<Option<Produced>, Problem> {
    type Act = fn(&mut On<'_>, &str, &str) -> taskmq_core::Result<Option<Produced>>;
    let act: Act = match fields.get("action") {
        Some("run") => |conn, name, actor| schedule::run_now(conn, name, actor).map(Some),
        Some("pause") => |conn, name, actor| schedule::pause(conn, name, actor).map(|_| None),
        Some("resume") => |conn, name, actor| schedule::resume(conn, name, actor).map(|_| None),
        _ => return Err(Problem::NotFound),
    };
    let (name, actor) = (fields.exact("name").unwrap_or_default().to_owned(), page.actor.0.clone());
    let writing = page.shared.writing.as_ref().ok_or(Problem::NotFound)?;
    writing.ask(move |broker| act(&mut On(broker), &name, &actor)).await
}
