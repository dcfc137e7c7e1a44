//! What is shown above the lists: the keys, all there is of one thing, and questions.

use chrono::{DateTime, Utc};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Padding, Paragraph, Wrap};
use taskmq_core::message::Message;

use super::format::{ago, count, percent, rate, time};
use crate::output::cell;
use crate::watch::app::{App, Popup};
use crate::watch::glance::{Topic, Worker};
use taskmq_core::broker::Quantiles;

/// So much of a dead letter's payload is shown.
const PAYLOAD_CHARS: usize = 1_000;
/// So many lines a worker takes beside what it holds.
const AROUND: u16 = 12;

const HELP: [&str; 18] = [
    "Tab ← →     the next or the last list",
    "↑ ↓ j k     select; PgUp PgDn Home End",
    "Enter       all figures of a topic, what a worker",
    "            holds, the whole error of a dead letter",
    "p           pause or resume the selected topic",
    "r           retry: the selected dead letter, or in",
    "            the list of topics all of that topic",
    "d           delete them, likewise",
    "x           drain the selected worker: it finishes",
    "            what runs, and ends",
    "q Esc       leave; stop a change of many messages",
    "",
    "What waits is counted up to 50,000 of all topics.",
    "Finished messages count while they are kept.",
    "Rates: of the last minute. Errors: of the attempts",
    "that ended in the last hour. Wait and run: of the",
    "messages done in it. All of it as far as the newest",
    "2,000 tell.",
];

pub(super) fn draw(frame: &mut Frame<'_>, app: &App) {
    let now = app.glance.now;
    match &app.popup {
        None => {}
        Some(Popup::Help) => draw_box(frame, " keys ", &HELP.map(Line::from), Color::Cyan),
        Some(Popup::Topic(name)) => {
            let topic = app.glance.topics.iter().find(|topic| topic.name == *name);
            let lines =
                topic.map_or_else(|| vec![Line::from("nothing of it is left")], |topic| of_topic(topic, now));
            draw_box(frame, &format!(" {} ", cell(name)), &lines, Color::Cyan);
        }
        Some(Popup::Worker(id)) => {
            let worker = app.glance.workers.iter().find(|worker| worker.entry.id == *id);
            let title = worker.map(|worker| format!(" {} ", cell(&worker.entry.label())));
            let room = usize::from(frame.area().height.saturating_sub(AROUND));
            let lines = worker
                .map_or_else(|| vec![Line::from("it has ended")], |worker| of_worker(worker, room, now));
            draw_box(frame, title.as_deref().unwrap_or(" worker "), &lines, Color::Cyan);
        }
        Some(Popup::Letter(letter)) => {
            let title = format!(" dead letter {} of {} ", letter.id, cell(&letter.topic));
            draw_box(frame, &title, &of_letter(letter), Color::Red);
        }
    }
    if let Some(question) = &app.question {
        let answer = Line::from(vec!["y".bold(), " yes    ".into(), "any other key".bold(), " no".into()]);
        let lines = [Line::from(&*question.text), Line::default(), answer];
        draw_box(frame, " sure? ", &lines, Color::Red);
    }
}

fn of_topic(topic: &Topic, now: DateTime<Utc>) -> Vec<Line<'static>> {
    let figures = &topic.figures;
    let oldest = figures.oldest_due.map(|at| format!(", the oldest due for {}", ago(at, now)));
    let ready = count(figures.ready) + &oldest.unwrap_or_default();
    let errors = figures.error_share.map(|share| format!("{} of the attempts", percent(share)));
    let none = || "-".to_owned();
    let times = |times: Option<Quantiles>| {
        times.map_or_else(none, |times| format!("p50 {}, p99 {}", time(times.p50), time(times.p99)))
    };
    let mut lines = vec![
        field("ready", ready),
        field("scheduled", count(figures.scheduled)),
        field("running", count(figures.running)),
        field("retrying", count(figures.retrying)),
        field("dead", count(figures.dead)),
        field("workers", topic.workers.to_string()),
        Line::default(),
        field("produced", rate(figures.rate_in) + "/s"),
        field("finished", rate(figures.rate_out) + "/s"),
        field("errors", errors.unwrap_or_else(none)),
        field("wait", times(figures.wait)),
        field("run", times(figures.run)),
    ];
    if topic.paused.is_some() || topic.limited.is_some() {
        lines.push(Line::default());
    }
    if let Some(paused) = &topic.paused {
        let since = paused.since.format("%F %T UTC");
        lines.push(field("paused", format!("since {since} by {}", cell(&paused.actor))));
    }
    if let Some(limited) = &topic.limited {
        lines.push(field("limited", format!("{}; {} run now", limited.limit, limited.running_now)));
    }
    lines
}

fn of_worker(Worker { entry, holds }: &Worker, room: usize, now: DateTime<Utc>) -> Vec<Line<'static>> {
    let mut lines = vec![
        field("id", format!("{:016x}", entry.id)),
        field("taskmq", cell(&entry.version)),
        field("up", if entry.alive { ago(entry.started_at, now) } else { "no: it is dead".to_owned() }),
        field("topics", cell(&entry.topics.replace(',', ", "))),
    ];
    if entry.draining && entry.alive {
        lines.push(field("draining", "it takes no more messages, and ends".to_owned()));
    }
    if let Some(id) = entry.alone_with.filter(|id| *id > 0 && entry.alive) {
        lines.push(field("alone", format!("with message {id}, which may have ended a process")));
    }
    lines.push(Line::default());
    let until = if entry.alive { "" } else { ", until another worker gives it back" };
    lines.push(field("holds", format!("{} of {}{until}", holds.len(), entry.concurrency)));
    let shown = holds.iter().take(room).map(|message| {
        let since = message.claimed_at.map(|at| format!("for {}", ago(at, now))).unwrap_or_default();
        field(&message.id.to_string(), format!("{since:<9} {}", cell(&message.topic)))
    });
    lines.extend(shown);
    if holds.len() > room {
        lines.push(Line::from(format!("and {} more", holds.len() - room)).dim());
    }
    lines
}

fn of_letter(letter: &Message) -> Vec<Line<'static>> {
    let attempts = format!("{} attempts, due {}", letter.attempts, letter.run_at.format("%F %T UTC"));
    let payload: String = letter.payload.get().chars().take(PAYLOAD_CHARS).collect();
    let error = letter.error.as_deref().unwrap_or_default();
    let mut lines = vec![Line::from(attempts).dim(), Line::default()];
    lines.extend(error.lines().map(|line| Line::from(cell(line)).fg(Color::Red)));
    lines.extend([Line::default(), Line::from(cell(&payload))]);
    lines
}

fn field(name: &str, value: String) -> Line<'static> {
    Line::from(vec![format!("{name:<10} ").dim(), Span::from(value)])
}

/// In the middle of the screen, as large as it needs to be.
fn draw_box(frame: &mut Frame<'_>, title: &str, lines: &[Line<'_>], color: Color) {
    let screen = frame.area();
    let longest = lines.iter().map(Line::width).max().unwrap_or_default();
    let width = u16::try_from(longest + 4).unwrap_or(u16::MAX).min(screen.width);
    let text = usize::from(width.saturating_sub(4)).max(1);
    let rows: usize = lines.iter().map(|line| line.width().div_ceil(text).max(1)).sum();
    let height = u16::try_from(rows + 2).unwrap_or(u16::MAX).min(screen.height);
    let area = Rect::new((screen.width - width) / 2, (screen.height - height) / 2, width, height);
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(color)
        .title(Line::from(title.to_owned()).bold())
        .padding(Padding::horizontal(1));
    let text = Paragraph::new(lines.to_vec()).wrap(Wrap { trim: false }).block(block);
    frame.render_widget(Clear, area);
    frame.render_widget(text, area);
}
