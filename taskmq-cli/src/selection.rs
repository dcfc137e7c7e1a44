//! The messages that a command is about: named by their ids, or all that are in a state.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use taskmq_core::broker::{Lane, Place, Span};
use taskmq_core::{AnyConnection, BrokerConnection, MessageId, State};

use crate::error::{Error, Result};

/// Messages are read and changed in pages of this many.
const PAGE: i64 = 500;

/// So many lanes (topics times priorities) are looked at; more is no use of topics that anybody has.
const LANES: usize = 100_000;

/// All messages in a state.
pub(crate) struct Selection<'a> {
    pub(crate) state: State,
    pub(crate) topic: Option<&'a str>,
    /// Of finished ones, those that finished before this time.
    pub(crate) finished_before: Option<DateTime<Utc>>,
}

impl Selection<'_> {
    /// Hands the ids over page by page. Each page begins behind the one before, so what is done to a page neither
    /// hides messages nor shows them twice.
    pub(crate) fn each_page(
        &self,
        conn: &mut AnyConnection,
        mut each: impl FnMut(&mut AnyConnection, &[MessageId]) -> Result<()>,
    ) -> Result<()> {
        if self.state == State::Running {
            return Err(Error::Refused("running messages belong to their worker until they end".to_owned()));
        }
        if self.state.is_finished() {
            return self.finished(conn, &mut each);
        }
        for lane in conn.broker().lanes(LANES)? {
            if self.topic.is_none_or(|topic| lane.topic == topic) {
                self.waiting(conn, &lane, &mut each)?;
            }
        }
        Ok(())
    }

    fn finished(
        &self,
        conn: &mut AnyConnection,
        each: &mut dyn FnMut(&mut AnyConnection, &[MessageId]) -> Result<()>,
    ) -> Result<()> {
        let mut span = everything();
        if let Some(at) = self.finished_before {
            span.to = Place::before(at);
        }
        loop {
            let page = conn.broker().finished(self.state, &span)?;
            let Some(last) = page.last() else { return Ok(()) };
            span.to = last.place();
            let of_topic = page.iter().filter(|f| self.topic.is_none_or(|topic| f.topic == topic));
            let ids: Vec<MessageId> = of_topic.map(|f| f.id).collect();
            if !ids.is_empty() {
                each(conn, &ids)?;
            }
        }
    }

    fn waiting(
        &self,
        conn: &mut AnyConnection,
        lane: &Lane,
        each: &mut dyn FnMut(&mut AnyConnection, &[MessageId]) -> Result<()>,
    ) -> Result<()> {
        let mut span = everything();
        let now = conn.broker().now()?;
        // What is made due while this runs is not met again at the place where it waits then.
        if self.state == State::Ready {
            span.to = Place::after(now);
        } else {
            span.from = Place::after(now);
        }
        loop {
            let page = conn.broker().waiting(lane, &span)?;
            let Some(last) = page.last() else { return Ok(()) };
            span.from = *last;
            let ids: Vec<MessageId> = page.iter().map(|place| place.id).collect();
            let states = conn.broker().summaries(&ids, None)?;
            let wanted: HashSet<MessageId> =
                states.iter().filter(|s| s.state == self.state).map(|s| s.id).collect();
            let ids: Vec<MessageId> = ids.into_iter().filter(|id| wanted.contains(id)).collect();
            if !ids.is_empty() {
                each(conn, &ids)?;
            }
        }
    }
}

/// All times that every database can hold.
pub(crate) fn everything() -> Span {
    let at = |seconds| DateTime::<Utc>::from_timestamp(seconds, 0).unwrap_or_default();
    // 1970 to 9999, where the texts of SQLite and the times of MariaDB end.
    Span { from: Place::before(at(0)), to: Place::after(at(253_402_300_799)), limit: PAGE }
}
