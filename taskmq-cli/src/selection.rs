//! Walks through the messages that a command is about.

use std::fmt;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use indicatif::HumanCount;
use taskmq_core::broker::{Action, Changed, NoteId, Noted, Selection, Walk};
use taskmq_core::{AnyConnection, BrokerConnection, MessageId};

use crate::error::Result;

/// Messages are read and changed in pages of this many.
pub(crate) const PAGE: usize = 500;

/// A number that may have been counted in part only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) number: usize,
    pub(crate) or_more: bool,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = HumanCount(u64::try_from(self.number).unwrap_or(u64::MAX));
        write!(f, "{number}{}", if self.or_more { " or more" } else { "" })
    }
}

/// How many they are.
pub(crate) fn count(conn: &mut AnyConnection, selection: &Selection) -> Result<usize> {
    Ok(count_within(Duration::MAX, conn, selection)?.number)
}

/// How many they are, as far as they can be counted in this time.
pub(crate) fn count_within(
    patience: Duration,
    conn: &mut AnyConnection,
    selection: &Selection,
) -> Result<Count> {
    let began = Instant::now();
    let mut number = 0;
    let mut walk = selection.clone().walk();
    while let Some(page) = next_page(&mut walk, conn)? {
        number += page.len();
        if began.elapsed() > patience {
            return Ok(Count { number, or_more: true });
        }
    }
    Ok(Count { number, or_more: false })
}

/// A change of them page by page, each behind the one before. Each page is a transaction, and noted by it: to stop between
/// two loses nothing.
#[derive(Debug)]
pub(crate) struct Change {
    action: Action,
    walk: Walk,
    note: NoteId,
}

impl Change {
    pub(crate) fn of(selection: &Selection, action: Action, note: NoteId) -> Self {
        Self { action, walk: selection.clone().walk(), note }
    }

    /// Changes those of the next page, perhaps none of them; `None` at the end.
    pub(crate) fn next(&mut self, conn: &mut AnyConnection) -> Result<Option<Changed>> {
        let Some(ids) = next_page(&mut self.walk, conn)? else { return Ok(None) };
        if ids.is_empty() {
            return Ok(Some(Changed::default()));
        }
        Ok(Some(conn.broker().change(&self.action, &ids, Noted::Under(self.note))?))
    }

    /// Changes all of them, until `told` breaks off; `false`: it did.
    pub(crate) fn all(
        mut self,
        conn: &mut AnyConnection,
        mut told: impl FnMut(Changed) -> ControlFlow<()>,
    ) -> Result<bool> {
        while let Some(changed) = self.next(conn)? {
            if told(changed).is_break() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn next_page(walk: &mut Walk, conn: &mut AnyConnection) -> Result<Option<Vec<MessageId>>> {
    let page = walk.next(conn.broker(), i64::try_from(PAGE).unwrap_or(i64::MAX))?;
    Ok(page.map(|page| page.iter().map(|found| found.id).collect()))
}
