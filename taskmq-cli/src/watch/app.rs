//! What is selected, what keys do, and what is done.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use taskmq_core::broker::{Action, Note, Noted, Selection};
use taskmq_core::message::Message;
use taskmq_core::{AnyConnection, BrokerConnection, MessageId, State};

use super::figures::{Figures, Rates, read};
use crate::commands::actor;
use crate::commands::change::messages;
use crate::error::Result;
use crate::output;
use crate::selection::{self, count};

static ACTOR: LazyLock<String> = LazyLock::new(|| actor("taskmq-cli watch"));

/// The list that keys are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pane {
    Topics,
    Workers,
    Dead,
}

/// What is asked about before it is done.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) text: String,
    action: Action,
    target: Target,
}

#[derive(Clone, Debug)]
enum Target {
    One(MessageId),
    /// The dead letters of a topic that were counted.
    Topic(Box<Selection>),
}

#[derive(Debug)]
pub(super) struct App {
    pub(super) database: String,
    pub(super) figures: Figures,
    pub(super) rates: Rates,
    pub(super) pane: Pane,
    selected: [usize; 3],
    pub(super) question: Option<Question>,
    pub(super) help: bool,
    /// A dead letter with all of its error.
    pub(super) letter: Option<Message>,
    /// The last thing that was done or went wrong.
    pub(super) message: String,
    pub(super) ends: bool,
}

impl App {
    pub(super) fn new(database: String) -> Self {
        Self {
            database,
            figures: Figures::default(),
            rates: Rates::default(),
            pane: Pane::Topics,
            selected: [0; 3],
            question: None,
            help: false,
            letter: None,
            message: String::new(),
            ends: false,
        }
    }

    /// What is selected stays so wherever it stands now; only the newest dead letter gives way to a newer one.
    pub(super) fn look(&mut self, conn: &mut AnyConnection) -> Result<()> {
        let before = std::mem::replace(&mut self.figures, read(conn)?);
        let (now, [topic, worker, dead]) = (&self.figures, &mut self.selected);
        follow(topic, &before.topics, &now.topics, |topic| &topic.name);
        follow(worker, &before.workers, &now.workers, |worker| &worker.entry.id);
        if *dead > 0 {
            follow(dead, &before.dead, &now.dead, |dead| &dead.id);
        }
        self.rates.read(conn, self.figures.now)?;
        Ok(())
    }

    /// What is selected in a list.
    pub(super) fn selected(&self, pane: Pane) -> Option<usize> {
        let length = self.length(pane);
        (length > 0).then(|| self.selected[pane as usize].min(length - 1))
    }

    fn length(&self, pane: Pane) -> usize {
        match pane {
            Pane::Topics => self.figures.topics.len(),
            Pane::Workers => self.figures.workers.len(),
            Pane::Dead => self.figures.dead.len(),
        }
    }

    pub(super) fn key(&mut self, key: KeyEvent, conn: &mut AnyConnection) -> Result<()> {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            self.ends = true;
            return Ok(());
        }
        if let Some(question) = self.question.take() {
            if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                return self.act(question, conn);
            }
            "nothing was changed".clone_into(&mut self.message);
            return Ok(());
        }
        if std::mem::take(&mut self.help) || self.letter.take().is_some() {
            return Ok(());
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => self.ends = true,
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(2),
            KeyCode::Down | KeyCode::Char('j') => self.select(|at| at.saturating_add(1)),
            KeyCode::Up | KeyCode::Char('k') => self.select(|at| at.saturating_sub(1)),
            KeyCode::PageDown => self.select(|at| at.saturating_add(10)),
            KeyCode::PageUp => self.select(|at| at.saturating_sub(10)),
            KeyCode::Home => self.select(|_| 0),
            KeyCode::End => self.select(|_| usize::MAX),
            KeyCode::Enter if self.pane == Pane::Dead => {
                let dead = self.selected(Pane::Dead).map(|at| self.figures.dead[at].id);
                self.letter = dead.map(|id| conn.broker().message(id)).transpose()?.flatten();
            }
            KeyCode::Char('p') => return self.pause(conn),
            KeyCode::Char('r') => return self.ask(Action::Retry, conn),
            KeyCode::Char('d') => return self.ask(Action::Delete, conn),
            _ => {}
        }
        Ok(())
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

    fn pause(&mut self, conn: &mut AnyConnection) -> Result<()> {
        let topics = &mut self.figures.topics;
        let at = self.selected[Pane::Topics as usize].min(topics.len().saturating_sub(1));
        let Some(topic) = topics.get_mut(at).filter(|_| self.pane == Pane::Topics) else { return Ok(()) };
        let name = output::cell(&topic.name);
        if topic.paused {
            conn.broker().resume(&topic.name, &ACTOR)?;
            self.message = format!("{name} is resumed");
        } else {
            conn.broker().pause(&topic.name, &ACTOR)?;
            self.message = format!("{name} is paused: what runs is finished, nothing more is begun");
        }
        topic.paused = !topic.paused;
        Ok(())
    }

    /// Counts exactly what it would be, and asks.
    fn ask(&mut self, action: Action, conn: &mut AnyConnection) -> Result<()> {
        let Some(at) = self.selected(self.pane) else { return Ok(()) };
        let (target, what) = match self.pane {
            Pane::Workers => return Ok(()),
            Pane::Dead => {
                let dead = &self.figures.dead[at];
                (Target::One(dead.id), format!("dead letter {} of {}", dead.id, output::cell(&dead.topic)))
            }
            Pane::Topics => {
                let topic = self.figures.topics[at].name.clone();
                // The question may stay open for long.
                let selection = dead_of(&topic).as_of(conn.broker().now()?);
                let total = count(conn, &selection)?;
                if total == 0 {
                    self.message = format!("{} has no dead letters", output::cell(&topic));
                    return Ok(());
                }
                let what = format!("{}, the dead letters of {}", messages(total), output::cell(&topic));
                (Target::Topic(Box::new(selection)), what)
            }
        };
        self.question = Some(Question { text: format!("{} {what}?", action.as_str()), action, target });
        Ok(())
    }

    fn act(&mut self, question: Question, conn: &mut AnyConnection) -> Result<()> {
        let Question { action, target, .. } = question;
        let mut changed = 0;
        let mut refused = Vec::new();
        let (topic, message_id, details) = match &target {
            Target::One(id) => (None, Some(*id), String::new()),
            Target::Topic(selection) => (selection.topic.as_deref(), None, selection.to_string()),
        };
        let note = Note {
            actor: &ACTOR,
            action: action.as_str(),
            topic,
            message_id,
            details: &details,
            messages: 0,
        };
        match &target {
            Target::One(id) => {
                let result = conn.broker().change(&action, &[*id], Noted::New(&note))?;
                changed += result.changed.len();
                refused.extend(result.refused);
            }
            Target::Topic(selection) => {
                let note = conn.broker().note(&note)?;
                selection::change(conn, &action, selection, note, |result| {
                    changed += result.changed.len();
                    refused.extend(result.refused);
                    ControlFlow::Continue(())
                })?;
            }
        }
        let done = if action == Action::Retry { "made due" } else { "deleted" };
        self.message = format!("{done}: {}", messages(changed));
        if let Some((id, why)) = refused.first() {
            self.message.push_str(&format!("; not {}: message {id}: {why}", refused.len()));
        }
        self.look(conn)
    }
}

fn follow<T, K: Eq>(at: &mut usize, before: &[T], now: &[T], key: fn(&T) -> &K) {
    let selected = before.get(*at).or(before.last());
    let found = selected.and_then(|selected| now.iter().position(|item| key(item) == key(selected)));
    *at = found.unwrap_or(*at);
}

fn dead_of(topic: &str) -> Selection {
    Selection { topic: Some(topic.to_owned()), ..Selection::of(State::Dead) }
}
