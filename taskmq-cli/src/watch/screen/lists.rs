//! Topics, workers and dead letters.

use chrono::{DateTime, Utc};
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Row, Table, TableState};
use taskmq_core::overview::{Count, Figures, LANES};

use super::format::{ago, count, percent, quantiles, rate};
use super::{and_dead, framed};
use crate::output::{cell, first_line};
use crate::watch::app::{App, Pane};
use crate::watch::glance::{Topic, Worker};

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
    let rows = app.glance.topics.iter().map(|topic| {
        let figures = figures(topic, app.glance.now).into_iter().chain(more_figures(&topic.figures));
        Row::new(std::iter::once(name(topic)).chain(figures).take(1 + columns.len()))
    });
    let widths = columns.iter().map(|(_, width)| Constraint::Length(*width));
    let widths = std::iter::once(Constraint::Fill(1)).chain(widths);
    let heading = columns.iter().map(|(heading, _)| Line::from(*heading).right_aligned());
    let heading = std::iter::once(Line::from("TOPIC")).chain(heading);
    let count = app.glance.topics.len();
    let mut title = Line::from(format!(" topics {count} "));
    if app.glance.more_lanes {
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
    let colored = |number: Count, color: Color| {
        let line = Line::from(count(number)).right_aligned();
        if number.number > 0 { line.fg(color) } else { line.dim() }
    };
    let figures = &topic.figures;
    let oldest = figures.oldest_due.map(|at| ago(at, now)).unwrap_or_default();
    let consumers = Line::from(topic.workers.to_string()).right_aligned();
    let waits = figures.waits() || figures.scheduled.number > 0;
    [
        colored(figures.ready, Color::Reset),
        colored(figures.scheduled, Color::Reset),
        colored(figures.running, Color::Green),
        colored(figures.retrying, Color::Yellow),
        colored(figures.dead, Color::Red),
        Line::from(oldest).right_aligned(),
        if topic.workers == 0 && waits { consumers.fg(Color::Red) } else { consumers },
    ]
}

fn more_figures(figures: &Figures) -> [Line<'static>; 5] {
    let per_second = |number: f64| {
        let line = Line::from(rate(number)).right_aligned();
        if number > 0.0 { line } else { line.dim() }
    };
    let share = Line::from(figures.error_share.map(percent).unwrap_or_default()).right_aligned();
    let times = |times| Line::from(Option::map(times, quantiles).unwrap_or_default()).right_aligned();
    [
        per_second(figures.rate_in),
        per_second(figures.rate_out),
        if figures.error_share > Some(0.0) { share.fg(Color::Red) } else { share.dim() },
        times(figures.wait),
        times(figures.run),
    ]
}

pub(super) fn draw_workers(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let rows = app.glance.workers.iter().map(|Worker { entry, holds }| {
        // However long the name is, this is not cut.
        let up = if entry.alive {
            Line::from(ago(entry.started_at, app.glance.now))
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
    let (alive, dead) = app.glance.alive_and_dead();
    let title = Line::from(vec![format!(" workers {alive}").into(), and_dead(dead), " ".into()]);
    list(frame, area, app, Pane::Workers, table, title);
}

pub(super) fn draw_dead(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let rows = app.glance.dead.iter().map(|dead| {
        Row::new([
            Line::from(dead.id.to_string()).right_aligned(),
            Line::from(cell(&dead.topic)),
            Line::from(ago(dead.finished_at, app.glance.now)).right_aligned(),
            Line::from(first_line(dead.error.as_deref().unwrap_or_default())),
        ])
    });
    let ids = app.glance.dead.iter().map(|dead| dead.id.to_string().len()).max().unwrap_or(2);
    let widths = [
        Constraint::Length(u16::try_from(ids.max(2)).unwrap_or(20)),
        Constraint::Fill(1),
        Constraint::Length(4),
        Constraint::Fill(3),
    ];
    let heading =
        [Line::from("ID").right_aligned(), "TOPIC".into(), Line::from("AGO").right_aligned(), "ERROR".into()];
    let table = Table::new(rows, widths).header(Row::new(heading).dim());
    let title = format!(" dead letters {} ", count(app.glance.total.dead));
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
