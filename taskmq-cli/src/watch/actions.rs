//! What is done, and what is asked before.

use std::sync::LazyLock;
use std::time::Duration;

use taskmq_core::broker::{Action, Note, Noted, Selection};
use taskmq_core::overview::Count;
use taskmq_core::{AnyConnection, BrokerConnection, MessageId, State};

use super::app::{App, Pane};
use super::bulk::{Bulk, Outcome};
use crate::commands::actor;
use crate::error::Result;
use crate::output;
use crate::selection::{count_within, counted};

static ACTOR: LazyLock<String> = LazyLock::new(|| actor("taskmq-cli watch"));

/// So long messages are counted before a question.
const COUNTING: Duration = Duration::from_millis(500);

/// What is asked about before it is done.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) text: String,
    deed: Deed,
}

#[derive(Debug)]
enum Deed {
    Change(Action, MessageId),
    /// The dead letters of a topic that were counted.
    ChangeAll(Action, Box<Selection>, Count),
    /// The worker of this id, which is called so.
    Drain(i64, String),
}

impl App {
    pub(super) fn pause(&mut self, conn: &mut AnyConnection) -> Result<()> {
        let Some(at) = self.selected(Pane::Topics) else { return Ok(()) };
        let topic = &self.glance.topics[at];
        let name = output::cell(&topic.name);
        if topic.paused.is_some() {
            conn.broker().resume(&topic.name, &ACTOR)?;
            self.message = format!("{name} is resumed");
        } else {
            conn.broker().pause(&topic.name, &ACTOR)?;
            self.message = format!("{name} is paused: what runs is finished, nothing more is begun");
        }
        self.look(conn)
    }

    /// About the selected dead letter, or about all of the selected topic: says how many these are.
    pub(super) fn ask_to(&mut self, action: Action, conn: &mut AnyConnection) -> Result<()> {
        let Some(at) = self.selected(self.pane) else { return Ok(()) };
        let (deed, what) = match self.pane {
            Pane::Workers => return Ok(()),
            Pane::Dead => {
                let dead = &self.glance.dead[at];
                let what = format!("dead letter {} of {}", dead.id, output::cell(&dead.topic));
                (Deed::Change(action, dead.id), what)
            }
            Pane::Topics => {
                let topic = self.glance.topics[at].name.clone();
                // The question may stay open for long.
                let selection = dead_of(&topic).as_of(conn.broker().now()?);
                let total = count_within(COUNTING, conn, &selection)?;
                let messages = match total {
                    Count { number: 0, or_more: false } => {
                        self.message = format!("{} has no dead letters", output::cell(&topic));
                        return Ok(());
                    }
                    Count { number: 1, or_more: false } => "message",
                    _ => "messages",
                };
                let what =
                    format!("{} {messages}, the dead letters of {}", counted(total), output::cell(&topic));
                (Deed::ChangeAll(action, Box::new(selection), total), what)
            }
        };
        self.question = Some(Question { text: format!("{} {what}?", action.as_str()), deed });
        Ok(())
    }

    pub(super) fn ask_to_drain(&mut self) {
        let Some(at) = self.selected(Pane::Workers) else { return };
        let worker = &self.glance.workers[at].entry;
        let label = output::cell(&worker.label());
        if !worker.alive {
            self.message = format!("{label} is dead: another worker gives back what it held");
            return;
        }
        let text = format!("drain {label}? It takes no more messages, finishes what runs, and ends.");
        self.question = Some(Question { text, deed: Deed::Drain(worker.id, label) });
    }

    pub(super) fn act(&mut self, question: Question, conn: &mut AnyConnection) -> Result<()> {
        match question.deed {
            Deed::Change(action, id) => {
                let note = Note { message_id: Some(id), ..note(&action) };
                let mut outcome = Outcome::of(action);
                outcome.add(&conn.broker().change(&action, &[id], Noted::New(&note))?);
                self.message = outcome.text();
            }
            Deed::ChangeAll(action, selection, total) => {
                let (topic, details) = (selection.topic.as_deref(), selection.to_string());
                let note = conn.broker().note(&Note { topic, details: &details, ..note(&action) })?;
                self.bulk = Some(Bulk::of(&selection, action, total, note));
                return Ok(());
            }
            Deed::Drain(id, label) => {
                let told = conn.broker().drain(id, &ACTOR)?;
                let done = if told { "is told to end" } else { "was told to end already, or has ended" };
                self.message = format!("{label} {done}");
            }
        }
        self.look(conn)
    }

    /// The next page of a change of many, if one is under way.
    pub(super) fn go_on(&mut self, conn: &mut AnyConnection) -> Result<()> {
        let Some(bulk) = &mut self.bulk else { return Ok(()) };
        match bulk.go_on(conn) {
            Ok(true) => return Ok(()),
            Ok(false) => self.message = bulk.done(),
            Err(error) => {
                self.stop();
                return Err(error);
            }
        }
        self.bulk = None;
        self.look(conn)
    }

    /// Breaks a change of many off, between two pages.
    pub(super) fn stop(&mut self) {
        if let Some(bulk) = self.bulk.take() {
            self.message = bulk.stopped();
        }
    }
}

fn note(action: &Action) -> Note<'_> {
    Note { actor: &ACTOR, action: action.as_str(), topic: None, message_id: None, details: "", messages: 0 }
}

fn dead_of(topic: &str) -> Selection {
    Selection { topic: Some(topic.to_owned()), ..Selection::of(State::Dead) }
}
