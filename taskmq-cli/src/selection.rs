//! Walks through the messages that a command is about.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

#[cfg(feature = "watch")]
use indicatif::HumanCount;
use taskmq_core::broker::{Action, Changed, NoteId, Selection, Walk};
use taskmq_core::overview::Count;
use taskmq_core::{AnyConnection, BrokerConnection};

use crate::error::Result;

/// Messages are read and changed in pages of this many.
pub(crate) const PAGE: i64 = 500;

/// `1,500 or more`.
#[cfg(feature = "watch")]
pub(crate) fn counted(count: Count) -> String {
    let number = HumanCount(count.number.unsigned_abs());
    format!("{number}{}", if count.or_more { " or more" } else { "" })
}

/// How many they are.
pub(crate) fn count(conn: &mut AnyConnection, selection: &Selection) -> Result<usize> {
    let Count { number, .. } = count_within(Duration::MAX, conn, selection)?;
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
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
    while let Some(page) = walk.next(conn.broker(), PAGE)? {
        number += i64::try_from(page.len()).unwrap_or(i64::MAX);
        if began.elapsed() > patience {
            return Ok(Count { number, or_more: true });
        }
    }
    Ok(Count { number, or_more: false })
}

/// A change of them page by page, each behind the one before.
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
        Ok(self.walk.change(conn.broker(), PAGE, &self.action, self.note)?)
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
