//! Topics, workers and dead letters.

use chrono::{DateTime, Utc};
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Row, Table, TableState};

use super::format::{ago, number, percent, quantiles, rate};
use super::{and_dead, framed};
use crate::output::{cell, first_line};
use crate::watch::app::{App, Pane};
use crate::watch::figures::{COUNTED, LANES, Topic, Worker};

/// What a list of topics has on any screen beside their names,
const COLUMNS: [(&str, u16); 7] = [
    ("READY", 8),
    ("SCHEDULED", 9),
    ("RUNNING", 7),
    ("RETRYING", 8),
    ("DEAD", 7),
    ("OLDEST", 7),
    ("WORKERS", 7),
];
/// and what it has as far as there is room.
const MORE: [(&str, u16); 5] =
    [("IN/S", 6), ("OUT/S", 6), ("ERRORS", 6), ("WAIT P50/P99", 12), ("RUN P50/P99", 12)];
/// So much of a name is worth more than they are.
const NAME: u16 = 24;

pub(super) fn draw_topics(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let columns = columns(area.width.saturating_sub(2));
    let rows = app.figures.topics.iter().map(|topic| {
        let figures = figures(topic, app.figures.now).into_iter().chain(more_figures(topic));
        Row::new(std::iter::once(name(topic)).chain(figures).take(1 + columns.len()))
    });
    let widths = columns.iter().map(|(_, width)| Constraint::Length(*width));
    let widths = std::iter::once(Constraint::Fill(1)).chain(widths);
    let heading = columns.iter().map(|(heading, _)| Line::from(*heading).right_aligned());
    let heading = std::iter::once(Line::from("TOPIC")).chain(heading);
    let count = app.figures.topics.len();
    let mut title = Line::from(format!(" topics {count} "));
    if app.figures.more_lanes {
        title.push_span(format!("(what waits is counted in {LANES} lanes only) ").fg(Color::Yellow));
    }
    let table = Table::new(rows, widths).header(Row::new(heading).dim());
    list(frame, area, app, Pane::Topics, table, title);
}

/// Those that fit into this width.
fn columns(width: u16) -> Vec<(&'static str, u16)> {
    let taken: u16 = COLUMNS.iter().map(|(_, width)| width + 1).sum();
    let mut room = width.saturating_sub(taken + NAME);
    let fits = |(_, width): &&(&str, u16)| {
        let left = room.checked_sub(width + 1);
        room = left.unwrap_or_default();
        left.is_some()
    };
    COLUMNS.iter().chain(MORE.iter().take_while(fits)).copied().collect()
}

fn name(topic: &Topic) -> Line<'static> {
    let mut name = Line::from(cell(&topic.name));
    if topic.paused.is_some() {
        name.push_span(Span::from(" paused").fg(Color::Yellow));
    }
    if topic.limited.is_some() {
        name.push_span(Span::from(" limited").fg(Color::Blue));
    }
    name
}

fn figures(topic: &Topic, now: DateTime<Utc>) -> [Line<'static>; 7] {
    let count = |count: i64, or_more: bool, color: Color| {
        let line = Line::from(number(count, or_more)).right_aligned();
        if count > 0 { line.fg(color) } else { line.dim() }
    };
    let oldest = topic.oldest_due.map(|at| ago(at, now)).unwrap_or_default();
    let consumers = Line::from(topic.workers.to_string()).right_aligned();
    let waits = topic.ready + topic.scheduled + topic.retrying > 0;
    [
        count(topic.ready, topic.more_ready, Color::Reset),
        count(topic.scheduled, topic.more_later, Color::Reset),
        count(topic.running, topic.running >= COUNTED, Color::Green),
        count(topic.retrying, topic.more_later, Color::Yellow),
        count(topic.dead, topic.dead >= COUNTED, Color::Red),
        Line::from(oldest).right_aligned(),
        if topic.workers == 0 && waits { consumers.fg(Color::Red) } else { consumers },
    ]
}

fn more_figures(topic: &Topic) -> [Line<'static>; 5] {
    let pace = &topic.pace;
    let per_second = |number: f64| {
        let line = Line::from(rate(number)).right_aligned();
        if number > 0.0 { line } else { line.dim() }
    };
    let errors = pace.errors().unwrap_or_default();
    let share = Line::from(pace.errors().map(percent).unwrap_or_default()).right_aligned();
    let times = |times| Line::from(Option::map(times, quantiles).unwrap_or_default()).right_aligned();
    [
        per_second(pace.produced),
        per_second(pace.finished),
        if errors > 0.0 { share.fg(Color::Red) } else { share.dim() },
        times(pace.wait),
        times(pace.run),
    ]
}

pub(super) fn draw_workers(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let rows = app.figures.workers.iter().map(|Worker { entry, holds }| {
        // However long the name is, this is not cut.
        let up = if entry.alive {
            Line::from(ago(entry.started_at, app.figures.now))
        } else {
            Line::from("dead").fg(Color::Red)
        };
        let mut label = Line::from(cell(&entry.label()));
        if entry.draining {
            label.push_span(Span::from(" draining").fg(Color::Yellow));
        }
        Row::new([
            label,
            Line::from(format!("{}/{}", holds.len(), entry.concurrency)).right_aligned(),
            up.right_aligned(),
        ])
    });
    let widths = [Constraint::Fill(1), Constraint::Length(9), Constraint::Length(4)];
    let heading =
        [Line::from("HOST:PID"), Line::from("HOLDS/OF").right_aligned(), Line::from("UP").right_aligned()];
    let table = Table::new(rows, widths).header(Row::new(heading).dim());
    let (alive, dead) = app.figures.alive_and_dead();
    let title = Line::from(vec![format!(" workers {alive}").into(), and_dead(dead), " ".into()]);
    list(frame, area, app, Pane::Workers, table, title);
}

pub(super) fn draw_dead(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let rows = app.figures.dead.iter().map(|dead| {
        Row::new([
            Line::from(dead.id.to_string()).right_aligned(),
            Line::from(cell(&dead.topic)),
            Line::from(ago(dead.finished_at, app.figures.now)).right_aligned(),
            Line::from(first_line(dead.error.as_deref().unwrap_or_default())),
        ])
    });
    let ids = app.figures.dead.iter().map(|dead| dead.id.to_string().len()).max().unwrap_or(2);
    let widths = [
        Constraint::Length(u16::try_from(ids.max(2)).unwrap_or(20)),
        Constraint::Fill(1),
        Constraint::Length(4),
        Constraint::Fill(3),
    ];
    let heading =
        [Line::from("ID").right_aligned(), "TOPIC".into(), Line::from("AGO").right_aligned(), "ERROR".into()];
    let table = Table::new(rows, widths).header(Row::new(heading).dim());
    let dead: i64 = app.figures.topics.iter().map(|topic| topic.dead).sum();
    let title = format!(" dead letters {} ", number(dead, dead >= COUNTED));
    list(frame, area, app, Pane::Dead, table, title.into());
}

fn list(frame: &mut Frame<'_>, area: Rect, app: &App, pane: Pane, table: Table<'_>, title: Line<'static>) {
    let focused = app.pane == pane;
    let mut state = TableState::new().with_selected(app.selected(pane).filter(|_| focused));
    let chosen = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_stateful_widget(
        table.row_highlight_style(chosen).block(framed(title, focused)),
        area,
        &mut state,
    );
}
