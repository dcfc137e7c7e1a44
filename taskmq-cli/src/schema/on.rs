//! With the feature `schema`.

use serde_json::value::RawValue;
use taskmq_admin::schema::{Checker, Unusable};
use taskmq_core::{AnyConnection, BrokerConnection};

use crate::cli::ProduceArgs;
use crate::error::{Error, Result};
use crate::output::cell;

/// What all payloads of one run are checked by.
pub(crate) struct Check {
    topic: String,
    /// `None`: by nothing.
    checker: Option<Checker>,
}

impl Check {
    pub(crate) fn of(conn: &mut AnyConnection, args: &ProduceArgs) -> Result<Self> {
        let schema = if args.unchecked { None } else { conn.broker().schemas(&[&args.topic])?.pop() };
        let checker = schema.and_then(|schema| Checker::new(&schema.definition).map_err(note).ok());
        Ok(Self { topic: args.topic.clone(), checker })
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
            "the consumer of {} could not read {}:{misfits}\nnothing was produced (--unchecked does not look)",
            self.topic,
            place()
        )))
    }
}

fn note(unusable: Unusable) {
    eprintln!("note: payloads are not checked: {}", cell(&unusable.to_string()));
}
