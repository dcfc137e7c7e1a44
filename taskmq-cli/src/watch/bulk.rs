//! A change of all dead letters of a topic, a page at a time, so that keys are read meanwhile.

use taskmq_core::broker::{Action, Changed, NoteId, Refusal, Selection};
use taskmq_core::overview::Count;
use taskmq_core::{AnyConnection, MessageId};

use crate::commands::change::messages;
use crate::error::Result;
use crate::selection::{Change, counted};

#[derive(Debug)]
pub(super) struct Bulk {
    change: Change,
    total: Count,
    outcome: Outcome,
}

impl Bulk {
    pub(super) fn of(selection: &Selection, action: Action, total: Count, note: NoteId) -> Self {
        Self { change: Change::of(selection, action, note), total, outcome: Outcome::of(action) }
    }

    /// Changes the next page; `false`: there is none.
    pub(super) fn go_on(&mut self, conn: &mut AnyConnection) -> Result<bool> {
        let Some(changed) = self.change.next(conn)? else { return Ok(false) };
        self.outcome.add(&changed);
        Ok(true)
    }

    /// `retry 12,500 of 100,000`.
    pub(super) fn progress(&self) -> String {
        format!("{} {}", self.outcome.action.as_str(), self.so_far())
    }

    /// Of one that is broken off.
    pub(super) fn stopped(&self) -> String {
        format!("stopped after {} messages: the rest is as it was", self.so_far())
    }

    /// Of one that is through.
    pub(super) fn done(&self) -> String {
        self.outcome.text()
    }

    fn so_far(&self) -> String {
        let Outcome { changed, refused, .. } = self.outcome;
        let so_far = Count { number: i64::try_from(changed + refused).unwrap_or(i64::MAX), or_more: false };
        // Beyond what was counted nobody knows of how many.
        if so_far.number > self.total.number {
            counted(so_far)
        } else {
            format!("{} of {}", counted(so_far), counted(self.total))
        }
    }
}

/// What became of a change so far.
#[derive(Debug)]
pub(super) struct Outcome {
    action: Action,
    changed: usize,
    refused: usize,
    /// The first one that was refused.
    refusal: Option<(MessageId, Refusal)>,
}

impl Outcome {
    pub(super) fn of(action: Action) -> Self {
        Self { action, changed: 0, refused: 0, refusal: None }
    }

    pub(super) fn add(&mut self, changed: &Changed) {
        self.changed += changed.changed.len();
        self.refused += changed.refused.len();
        self.refusal = self.refusal.or(changed.refused.first().copied());
    }

    pub(super) fn text(&self) -> String {
        let done = if self.action == Action::Retry { "made due" } else { "deleted" };
        let text = format!("{done}: {}", messages(self.changed));
        match self.refusal {
            Some((id, why)) => format!("{text}; not {}: message {id}: {why}", self.refused),
            None => text,
        }
    }
}
