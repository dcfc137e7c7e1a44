//! What handlers logged, on its way to `taskmq_logs`.

use std::time::Instant;

use serde_json::Value;

use super::{Outcome, Settlement};
use crate::{Error, LogLevel, MessageId, Result, Retention};

/// A line that a handler logged in the attempt that ends.
#[derive(Clone, Debug)]
pub struct Logged {
    /// When. It is stored as so long before it is written, for time is the database's.
    pub at: Instant,
    /// How much it matters.
    pub level: LogLevel,
    /// Its words.
    pub line: String,
}

/// About so many bytes of lines go into one statement: no server refuses them.
const STATEMENT_BYTES: usize = 1024 * 1024;

impl Settlement {
    /// Whether it writes or deletes lines. Most do neither.
    pub(super) fn touches_log(&self) -> bool {
        self.keeps_log() || self.forgets_log()
    }

    fn keeps_log(&self) -> bool {
        let kept = match self.outcome {
            Outcome::Done { retention, .. } => retention != Retention::None,
            Outcome::Retry { .. } | Outcome::Dead { .. } | Outcome::Cancelled { .. } => true,
            // The attempt does not count, and another one will have its number.
            Outcome::HandBack => false,
        };
        kept && !self.log.is_empty()
    }

    /// The message is done and not kept, so what was logged of earlier attempts is not either.
    fn forgets_log(&self) -> bool {
        self.attempt > 1 && matches!(self.outcome, Outcome::Done { retention: Retention::None, .. })
    }
}

/// Writes what was logged in attempts whose end has just been written, with the database's own statements.
pub(super) fn write<'a, C>(
    conn: &mut C,
    written: impl Iterator<Item = &'a Settlement> + Clone,
    delete: impl FnOnce(&mut C, &[MessageId]) -> Result<()>,
    insert: impl Fn(&mut C, &str) -> Result<()>,
) -> Result<()> {
    let forgotten = forgotten(written.clone());
    if !forgotten.is_empty() {
        delete(conn, &forgotten)?;
    }
    statements(written)?.iter().try_for_each(|lines| insert(conn, lines))
}

/// The messages of which nothing is kept any more.
fn forgotten<'a>(written: impl Iterator<Item = &'a Settlement>) -> Vec<MessageId> {
    written.filter(|settlement| settlement.forgets_log()).map(|settlement| settlement.id).collect()
}

/// The lines to write, as lists of `[message, attempt, microseconds ago, level, line]` in JSON, one for each statement.
fn statements<'a>(written: impl Iterator<Item = &'a Settlement>) -> Result<Vec<String>> {
    let mut statements: Vec<Vec<Value>> = Vec::new();
    let mut bytes = STATEMENT_BYTES;
    for settlement in written.filter(|settlement| settlement.keeps_log()) {
        for Logged { at, level, line } in &settlement.log {
            let ago = i64::try_from(at.elapsed().as_micros()).unwrap_or(i64::MAX);
            let row = serde_json::json!([settlement.id, settlement.attempt, ago, level.as_str(), line]);
            match statements.last_mut() {
                Some(rows) if bytes + line.len() <= STATEMENT_BYTES => {
                    bytes += line.len();
                    rows.push(row);
                }
                _ => {
                    bytes = line.len();
                    statements.push(vec![row]);
                }
            }
        }
    }
    let json =
        |rows| serde_json::to_string(&rows).map_err(|source| Error::Encode { what: "the log", source });
    statements.into_iter().map(json).collect()
}
