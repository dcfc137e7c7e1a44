//! What is selected and shown, and what keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use taskmq_core::broker::Action;
use taskmq_core::message::Message;
use taskmq_core::overview::Throughput;
use taskmq_core::{AnyConnection, BrokerConnection};

use super::actions::Question;
use super::bulk::Bulk;
use super::glance::Glance;
use crate::error::{Error, Result};

/// The list that keys are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pane {
    Topics,
    Workers,
    Dead,
}

/// What is shown above the lists until a key is pressed.
#[derive(Debug)]
pub(super) enum Popup {
    Help,
    /// All figures of a topic.
    Topic(String),
    /// What the worker of this id holds.
    Worker(i64),
    /// A dead letter with all of its error.
    Letter(Box<Message>),
}

#[derive(Debug)]
pub(super) struct App {
    pub(super) database: String,
    pub(super) glance: Glance,
    pub(super) throughput: Throughput,
    pub(super) pane: Pane,
    selected: [usize; 3],
    pub(super) popup: Option<Popup>,
    pub(super) question: Option<Question>,
    /// A change of many that is under way.
    pub(super) bulk: Option<Bulk>,
    /// The last thing that was done or went wrong.
    pub(super) message: String,
    pub(super) ends: bool,
}

impl App {
    pub(super) fn new(database: String) -> Self {
        Self {
            database,
            glance: Glance::default(),
            throughput: Throughput::default(),
            pane: Pane::Topics,
            selected: [0; 3],
            popup: None,
            question: None,
            bulk: None,
            message: String::new(),
            ends: false,
        }
    }

    /// What is selected stays so wherever it stands now; only the newest dead letter gives way to a newer one.
    pub(super) fn look(&mut self, conn: &mut AnyConnection) -> Result<()> {
        let before = std::mem::replace(&mut self.glance, Glance::read(conn, &mut self.throughput)?);
        let (now, [topic, worker, dead]) = (&self.glance, &mut self.selected);
        follow(topic, &before.topics, &now.topics, |topic| &topic.name);
        follow(worker, &before.workers, &now.workers, |worker| &worker.entry.id);
        if *dead > 0 {
            follow(dead, &before.dead, &now.dead, |dead| &dead.id);
        }
        Ok(())
    }

    /// What is selected in a list.
    pub(super) fn selected(&self, pane: Pane) -> Option<usize> {
        let length = self.length(pane);
        (length > 0).then(|| self.selected[pane as usize].min(length - 1))
    }

    fn length(&self, pane: Pane) -> usize {
        match pane {
            Pane::Topics => self.glance.topics.len(),
            Pane::Workers => self.glance.workers.len(),
            Pane::Dead => self.glance.dead.len(),
        }
    }

    pub(super) fn key(&mut self, key: KeyEvent, conn: &mut AnyConnection) -> Result<()> {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return self.leave(conn);
        }
        if let Some(question) = self.question.take() {
            if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                return self.act(question, conn);
            }
            "nothing was changed".clone_into(&mut self.message);
            return Ok(());
        }
        if self.popup.take().is_some() {
            return Ok(());
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return self.leave(conn),
            KeyCode::Char('?' | 'h') => self.popup = Some(Popup::Help),
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(2),
            KeyCode::Down | KeyCode::Char('j') => self.select(|at| at.saturating_add(1)),
            KeyCode::Up | KeyCode::Char('k') => self.select(|at| at.saturating_sub(1)),
            KeyCode::PageDown => self.select(|at| at.saturating_add(10)),
            KeyCode::PageUp => self.select(|at| at.saturating_sub(10)),
            KeyCode::Home => self.select(|_| 0),
            KeyCode::End => self.select(|_| usize::MAX),
            KeyCode::Enter => self.popup = self.open(conn)?,
            // One thing after the other.
            _ if self.bulk.is_some() => {}
            KeyCode::Char('p') if self.pane == Pane::Topics => return self.pause(conn),
            KeyCode::Char('r') => return self.ask_to(Action::Retry, conn),
            KeyCode::Char('d') => return self.ask_to(Action::Delete, conn),
            KeyCode::Char('x') if self.pane == Pane::Workers => self.ask_to_drain(),
            _ => {}
        }
        Ok(())
    }

    /// Whatever is under way is broken off first.
    fn leave(&mut self, conn: &mut AnyConnection) -> Result<()> {
        if self.bulk.is_none() {
            self.ends = true;
            return Ok(());
        }
        self.stop();
        self.look(conn)
    }

    /// What there is to say of what is selected.
    fn open(&self, conn: &mut AnyConnection) -> Result<Option<Popup>> {
        let Some(at) = self.selected(self.pane) else { return Ok(None) };
        Ok(match self.pane {
            Pane::Topics => Some(Popup::Topic(self.glance.topics[at].name.clone())),
            Pane::Workers => Some(Popup::Worker(self.glance.workers[at].entry.id)),
            Pane::Dead => {
                let letter = conn.broker().message(self.glance.dead[at].id)?;
                letter.map(|letter| Popup::Letter(Box::new(letter)))
            }
        })
    }

    /// Says what went wrong, beside what was done until then.
    pub(super) fn complain(&mut self, error: &Error) {
        if !self.message.is_empty() {
            self.message.push_str("; ");
        }
        self.message.push_str(&error.to_string());
    }

    fn turn(&mut self, by: usize) {
        const PANES: [Pane; 3] = [Pane::Topics, Pane::Workers, Pane::Dead];
        self.pane = PANES[(self.pane as usize + by) % PANES.len()];
    }

    fn select(&mut self, to: impl FnOnce(usize) -> usize) {
        if let Some(at) = self.selected(self.pane) {
            self.selected[self.pane as usize] = to(at).min(self.length(self.pane) - 1);
        }
    }
}

fn follow<T, K: Eq>(at: &mut usize, before: &[T], now: &[T], key: fn(&T) -> &K) {
    let selected = before.get(*at).or(before.last());
    let found = selected.and_then(|selected| now.iter().position(|item| key(item) == key(selected)));
    *at = found.unwrap_or(*at);
}
