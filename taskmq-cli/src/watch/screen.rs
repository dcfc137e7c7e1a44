//! The drawing of it.

use chrono::{DateTime, Utc};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Paragraph, Row, Sparkline, Table, TableState};

use taskmq_core::message::Message;

use super::app::{App, Pane};
use super::figures::{COUNTED, Topic};
use crate::output::cell;

/// So much of a dead letter's payload is shown.
const PAYLOAD_CHARS: usize = 1_000;

const HELP: [&str; 11] = [
    "Tab ← →     the next or the last list",
    "↑ ↓ j k     select; PgUp PgDn Home End",
    "Enter       the whole error of a dead letter",
    "p           pause or resume the selected topic",
    "r           retry: the selected dead letter, or in",
    "            the list of topics all of that topic",
    "d           delete them, likewise",
    "q Esc       leave",
    "",
    "What waits is counted up to 50,000 of all topics.",
    "Finished messages count while they are kept.",
];

pub(super) fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    let lists = if area.height >= 34 { 12 } else { 8 };
    let [title, rates, topics, lists, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(if area.height >= 20 { 5 } else { 0 }),
        Constraint::Min(5),
        Constraint::Length(lists),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_title(frame, title, app);
    let [produced, finished] = Layout::horizontal([Constraint::Fill(1); 2]).areas(rates);
    draw_rate(frame, produced, "produced", &app.rates.produced, Color::Cyan);
    draw_rate(frame, finished, "finished", &app.rates.finished, Color::Green);
    draw_topics(frame, topics, app);
    let [workers, dead] = Layout::horizontal([Constraint::Fill(2), Constraint::Fill(3)]).areas(lists);
    draw_workers(frame, workers, app);
    draw_dead(frame, dead, app);
    let footer = if app.message.is_empty() {
        Line::from(" Tab list  ↑↓ select  p pause/resume  r retry  d delete  ? help  q quit").dim()
    } else {
        Line::from(format!(" {}", cell(&app.message))).fg(Color::Yellow)
    };
    frame.render_widget(footer, keys);
    if app.help {
        let lines: Vec<Line<'_>> = HELP.iter().map(|line| Line::from(*line)).collect();
        popup(frame, " keys ", &lines, Color::Cyan);
    }
    if let Some(letter) = &app.letter {
        draw_letter(frame, letter);
    }
    if let Some(question) = &app.question {
        let answer = Line::from(vec![
            Span::from("y").bold(),
            " yes    ".into(),
            Span::from("any other key").bold(),
            " no".into(),
        ]);
        popup(frame, " sure? ", &[Line::from(question.text.clone()), Line::default(), answer], Color::Red);
    }
}

fn draw_title(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let figures = &app.figures;
    let workers = match figures.workers.len() {
        0 => Span::from("no worker").fg(Color::Red),
        1 => Span::from("1 worker"),
        workers => Span::from(format!("{workers} workers")),
    };
    let workflows = match figures.workflows.number {
        0 => String::new(),
        1 => ", 1 workflow".to_owned(),
        COUNTED.. => format!(", {COUNTED} workflows or more"),
        workflows => format!(", {workflows} workflows"),
    };
    let left = Line::from(vec![
        Span::from(" taskmq ").bold().reversed(),
        format!(" {}  ", app.database).into(),
        workers,
        workflows.into(),
    ]);
    frame.render_widget(left, area);
    frame.render_widget(Line::from(figures.now.format("%F %T UTC ").to_string()).right_aligned().dim(), area);
}

fn framed(title: String, focused: bool) -> Block<'static> {
    let style = if focused { Style::new().fg(Color::Cyan) } else { Style::new().dim() };
    Block::bordered().border_type(BorderType::Rounded).border_style(style).title(Line::from(title).bold())
}

fn draw_rate(frame: &mut Frame<'_>, area: Rect, what: &str, rates: &[u64], color: Color) {
    let now = rates.last().copied().unwrap_or_default();
    let block = framed(format!(" {what} {now}/s "), false);
    let room = usize::from(block.inner(area).width);
    let shown = &rates[rates.len().saturating_sub(room)..];
    // The newest at the right, whatever there is of it.
    let data = std::iter::repeat_n(None, room - shown.len()).chain(shown.iter().copied().map(Some));
    let spark = Sparkline::default()
        .block(block)
        .data(data.collect::<Vec<_>>())
        .style(color)
        .absent_value_symbol(" ");
    frame.render_widget(spark, area);
}

fn draw_topics(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let heading = ["TOPIC", "READY", "SCHEDULED", "RUNNING", "RETRYING", "DEAD", "OLDEST", "WORKERS"];
    let rows = app.figures.topics.iter().map(|topic| topic_row(topic, app.figures.now));
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
    ];
    let header = heading.iter().enumerate().map(|(at, name)| {
        let line = Line::from(*name);
        if at == 0 { line } else { line.right_aligned() }
    });
    let count = app.figures.topics.len();
    let table = Table::new(rows, widths).header(Row::new(header).dim());
    list(frame, area, app, Pane::Topics, table, format!(" topics {count} "));
}

fn topic_row(topic: &Topic, now: DateTime<Utc>) -> Row<'static> {
    let number = |count: i64, more: bool, color: Color| {
        let more = if more && count > 0 { "+" } else { "" };
        let line = Line::from(format!("{count}{more}")).right_aligned();
        if count == 0 { line.dim() } else { line.fg(color) }
    };
    let mut name = Line::from(cell(&topic.name));
    if topic.paused {
        name.push_span(Span::from(" paused").fg(Color::Yellow));
    }
    if topic.limited {
        name.push_span(Span::from(" limited").fg(Color::Blue));
    }
    let oldest = topic.oldest_due.map(|at| (now - at).num_seconds().max(0));
    let consumers = Line::from(topic.workers.to_string()).right_aligned();
    let waits = topic.ready + topic.scheduled + topic.retrying > 0;
    Row::new([
        name,
        number(topic.ready, topic.more_ready, Color::Reset),
        number(topic.scheduled, topic.more_later, Color::Reset),
        number(topic.running, topic.running >= COUNTED, Color::Green),
        number(topic.retrying, topic.more_later, Color::Yellow),
        number(topic.dead, topic.dead >= COUNTED, Color::Red),
        Line::from(oldest.map(short).unwrap_or_default()).right_aligned(),
        if topic.workers == 0 && waits { consumers.fg(Color::Red) } else { consumers },
    ])
}

fn draw_workers(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let rows = app.figures.workers.iter().map(|worker| {
        let entry = &worker.entry;
        Row::new([
            Line::from(cell(&format!("{}:{}", entry.host, entry.pid))),
            Line::from(format!("{}/{}", worker.holds, entry.concurrency)).right_aligned(),
            Line::from(short((app.figures.now - entry.started_at).num_seconds().max(0))).right_aligned(),
        ])
    });
    let widths = [Constraint::Fill(1), Constraint::Length(9), Constraint::Length(4)];
    let heading =
        [Line::from("HOST:PID"), Line::from("HOLDS/OF").right_aligned(), Line::from("UP").right_aligned()];
    let table = Table::new(rows, widths).header(Row::new(heading).dim());
    list(frame, area, app, Pane::Workers, table, format!(" workers {} ", app.figures.workers.len()));
}

fn draw_dead(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let rows = app.figures.dead.iter().map(|dead| {
        let age = short((app.figures.now - dead.finished_at).num_seconds().max(0));
        Row::new([
            Line::from(dead.id.to_string()).right_aligned(),
            Line::from(cell(&dead.topic)),
            Line::from(age).right_aligned(),
            Line::from(cell(dead.error.as_deref().unwrap_or_default())),
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
    let more = if dead >= COUNTED { "+" } else { "" };
    list(frame, area, app, Pane::Dead, table, format!(" dead letters {dead}{more} "));
}

fn draw_letter(frame: &mut Frame<'_>, letter: &Message) {
    let attempts = format!("{} attempts, due {}", letter.attempts, letter.run_at.format("%F %T UTC"));
    let payload: String = letter.payload.get().chars().take(PAYLOAD_CHARS).collect();
    let error =
        letter.error.as_deref().unwrap_or_default().lines().map(|line| Line::from(cell(line)).fg(Color::Red));
    let mut lines = vec![Line::from(attempts).dim(), Line::default()];
    lines.extend(error);
    lines.extend([Line::default(), Line::from(cell(&payload))]);
    popup(frame, &format!(" dead letter {} of {} ", letter.id, cell(&letter.topic)), &lines, Color::Red);
}

fn list(frame: &mut Frame<'_>, area: Rect, app: &App, pane: Pane, table: Table<'_>, title: String) {
    let focused = app.pane == pane;
    let mut state = TableState::new().with_selected(app.selected(pane).filter(|_| focused));
    let chosen = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_stateful_widget(
        table.row_highlight_style(chosen).block(framed(title, focused)),
        area,
        &mut state,
    );
}

/// In the middle of the screen, as large as it needs to be.
fn popup(frame: &mut Frame<'_>, title: &str, lines: &[Line<'_>], color: Color) {
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
        .padding(ratatui::widgets::Padding::horizontal(1));
    let text = Paragraph::new(lines.to_vec()).wrap(ratatui::widgets::Wrap { trim: false }).block(block);
    frame.render_widget(Clear, area);
    frame.render_widget(text, area);
}

/// Seconds in four characters at most, for a while.
fn short(seconds: i64) -> String {
    match seconds {
        0..=99 => format!("{seconds}s"),
        100..=5999 => format!("{}m", seconds / 60),
        6000..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
