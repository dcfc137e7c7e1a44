//! The drawing of it.

mod format;
mod lists;
mod popups;

use chrono::{DateTime, Utc};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Sparkline};
use taskmq_core::overview::{History, MOST};

use super::app::{App, Pane};
use crate::output::cell;

pub(super) fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    let lists = if area.height >= 34 { 12 } else { 8 };
    let [title, rates, topics, lists, footer] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(if area.height >= 20 { 5 } else { 0 }),
        Constraint::Min(5),
        Constraint::Length(lists),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_title(frame, title, app);
    let [produced, finished] = Layout::horizontal([Constraint::Fill(1); 2]).areas(rates);
    let (now, total, throughput) = (app.glance.now, &app.glance.total, &app.throughput);
    draw_chart(frame, produced, ("produced", total.rate_in), &throughput.produced, Color::Cyan, now);
    draw_chart(frame, finished, ("finished", total.rate_out), &throughput.finished, Color::Green, now);
    lists::draw_topics(frame, topics, app);
    let [workers, dead] = Layout::horizontal([Constraint::Fill(2), Constraint::Fill(3)]).areas(lists);
    lists::draw_workers(frame, workers, app);
    lists::draw_dead(frame, dead, app);
    frame.render_widget(footer_of(app), footer);
    popups::draw(frame, app);
}

fn draw_title(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let glance = &app.glance;
    let (alive, dead) = glance.alive_and_dead();
    let workers = match alive {
        0 => Span::from("no worker").fg(Color::Red),
        1 => Span::from("1 worker"),
        workers => Span::from(format!("{workers} workers")),
    };
    let workflows = match glance.workflows.number {
        0 => String::new(),
        1 => ", 1 workflow".to_owned(),
        MOST.. => format!(", {MOST} workflows or more"),
        workflows => format!(", {workflows} workflows"),
    };
    let left = Line::from(vec![
        Span::from(" taskmq ").bold().reversed(),
        format!(" {}  ", app.database).into(),
        workers,
        and_dead(dead),
        workflows.into(),
    ]);
    frame.render_widget(left, area);
    frame.render_widget(Line::from(glance.now.format("%F %T UTC ").to_string()).right_aligned().dim(), area);
}

/// Beside how many workers there are.
fn and_dead(dead: usize) -> Span<'static> {
    if dead == 0 { Span::default() } else { Span::from(format!(", {dead} dead")).fg(Color::Red) }
}

fn framed(title: Line<'static>, focused: bool) -> Block<'static> {
    let style = if focused { Style::new().fg(Color::Cyan) } else { Style::new().dim() };
    Block::bordered().border_type(BorderType::Rounded).border_style(style).title(title.bold())
}

/// A column for each second, the newest at the right.
fn draw_chart(
    frame: &mut Frame<'_>,
    area: Rect,
    (what, rate): (&str, f64),
    history: &History,
    color: Color,
    now: DateTime<Utc>,
) {
    let block = framed(format!(" {what} {}/s ", format::rate(rate)).into(), false);
    let seconds = history.seconds(usize::from(block.inner(area).width), now).into_iter();
    let seconds = seconds.map(|second| second.map(|number| number.round() as u64));
    let spark = Sparkline::default().block(block).data(seconds).style(color).absent_value_symbol(" ");
    frame.render_widget(spark, area);
}

/// What goes on, or what was done last, or else what keys do here.
fn footer_of(app: &App) -> Line<'_> {
    if let Some(bulk) = &app.bulk {
        return Line::from(vec![
            format!(" {}  ", bulk.progress()).fg(Color::Yellow),
            "Esc".bold(),
            " stop".into(),
        ]);
    }
    if !app.message.is_empty() {
        return Line::from(format!(" {}", cell(&app.message))).fg(Color::Yellow);
    }
    let keys = match app.pane {
        Pane::Topics => "p pause  r retry  d delete",
        Pane::Workers => "x drain",
        Pane::Dead => "r retry  d delete",
    };
    Line::from(format!(" Tab list  ↑↓ select  Enter more  {keys}  ? help  q quit")).dim()
}
