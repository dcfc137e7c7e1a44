//! `watch`: the queue on a live screen.

mod actions;
mod app;
mod bulk;
mod glance;
mod screen;
#[cfg(test)]
mod tests;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use taskmq_core::{AnyConnection, BrokerConnection};

use self::app::App;
use crate::database;
use crate::error::{Error, Result};

/// The time from one look to the next, at least;
const LOOK: Duration = Duration::from_secs(1);
/// and so many times as long as a look takes, so that the screen is no load on a database with a thousand topics.
const REST: u32 = 10;
/// So long a statement may take; the queue's own work goes first.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn run(url: Option<&str>) -> Result<()> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Error::Refused(
            "watch needs a terminal; `taskmq-cli topics --json` is for programs".to_owned(),
        ));
    }
    let conn = connect(url)?;
    let mut app = App::new(conn.backend().to_string());
    // A panic restores the terminal too.
    let mut terminal = ratatui::try_init().map_err(Error::file("the terminal"))?;
    let ended = live(&mut terminal, &mut app, url, conn);
    ratatui::restore();
    ended
}

fn connect(url: Option<&str>) -> Result<AnyConnection> {
    let mut conn = database::connect(url)?;
    conn.broker().restrict(PATIENCE, false)?;
    Ok(conn)
}

fn live(terminal: &mut DefaultTerminal, app: &mut App, url: Option<&str>, conn: AnyConnection) -> Result<()> {
    let mut conn = conn;
    let mut next = Instant::now();
    while !app.ends {
        let began = Instant::now();
        if next <= began {
            if let Err(error) = app.look(&mut conn) {
                app.message = format!("cannot look, trying again: {error}");
                if let Ok(again) = connect(url) {
                    conn = again;
                }
            }
            next = Instant::now() + LOOK.max(began.elapsed() * REST);
        }
        terminal.draw(|frame| screen::draw(frame, app)).map_err(Error::file("the terminal"))?;
        // A change of many goes on while no key is pressed.
        let wait = match app.bulk {
            Some(_) => Duration::ZERO,
            None => next.saturating_duration_since(Instant::now()),
        };
        let done = if !event::poll(wait).map_err(Error::file("the terminal"))? {
            app.go_on(&mut conn)
        } else if let Event::Key(key) = event::read().map_err(Error::file("the terminal"))?
            && key.kind != KeyEventKind::Release
        {
            app.message.clear();
            app.key(key, &mut conn)
        } else {
            Ok(())
        };
        if let Err(error) = done {
            app.complain(&error);
        }
    }
    Ok(())
}
