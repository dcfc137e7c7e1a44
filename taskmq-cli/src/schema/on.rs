//! With the feature `schema`.

use std::fmt::Display;

use serde_json::value::RawValue;
use taskmq_admin::schema::Checker;
use taskmq_core::{AnyConnection, BrokerConnection};

use crate::error::{Error, Result};
use crate::output::cell;

/// What all payloads of one run are checked by.
pub(crate) struct Check {
    topic: String,
    /// `None`: by nothing.
    checker: Option<Checker>,
}

impl Check {
    /// `unchecked` is the user's wish.
    pub(crate) fn of(conn: &mut AnyConnection, topic: &str, unchecked: bool) -> Self {
        // One that may not be read is like one that cannot be used: what is wrong with the database, producing tells.
        let read = if unchecked { Ok(Vec::new()) } else { conn.broker().schemas(&[topic]) };
        let schema = read.map_err(note).ok().and_then(|mut schemas| schemas.pop());
        let checker = schema.and_then(|schema| Checker::new(&schema.definition).map_err(note).ok());
        Self { topic: topic.to_owned(), checker }
    }

    /// `place` is where the payload stands, for people.
    pub(crate) fn payload(&mut self, payload: &RawValue, place: impl FnOnce() -> String) -> Result<()> {
        let Some(checker) = &mut self.checker else { return Ok(()) };
        let misfits = match checker.check(payload.get()) {
            Ok(misfits) => misfits,
            Err(unusable) => {
                note(unusable);
                self.checker = None;
                return Ok(());
            }
        };
        if misfits.is_empty() {
            return Ok(());
        }
        let misfits: String =
            misfits.iter().map(|misfit| format!("\n  {}", cell(&misfit.to_string()))).collect();
        Err(Error::Refused(format!(
            "the consumer of {} could not read {}:{misfits}\nnothing was stored (--unchecked does not look)",
            self.topic,
            place()
        )))
    }
}

fn note(why: impl Display) {
    eprintln!("note: payloads are not checked: {}", cell(&why.to_string()));
}
