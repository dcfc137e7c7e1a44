//! A way from the first state to a discovery, told so that a person can follow it.

use std::fmt::Write;

use stateright::Path;

use crate::server::{Row, Server};
use crate::{Action, State};

/// Each step, what is to be said of it, and what the tables hold after it where they changed.
pub fn tell(path: &Path<State, Action>) -> String {
    let steps = path.clone().into_vec();
    let mut story = String::new();
    let mut known = String::new();
    for (step, (state, _)) in steps.iter().enumerate() {
        if let Some((_, Some(action))) = step.checked_sub(1).and_then(|last| steps.get(last)) {
            let said = state.events.to_string();
            let said = if said.is_empty() { said } else { format!("  -- {said}") };
            // Writing to a string cannot fail.
            let _ = writeln!(story, "{step:>3}. {action}{said}");
        }
        let tables = tables(&state.server);
        if tables != known {
            let _ = writeln!(story, "       {tables}");
            known = tables;
        }
    }
    story
}

fn tables(server: &Server) -> String {
    let mut told = Vec::new();
    for (message, row) in server.rows.iter().enumerate() {
        if let Some(row) = row {
            let Row { holder, attempts, suspicions, .. } = row;
            told.push(format!("#{message} {holder} (attempts {attempts}, suspicions {suspicions})"));
        }
        if let Some(archived) = &server.archive[message] {
            told.push(format!("#{message} {}", if archived.done { "done" } else { "DEAD" }));
        }
    }
    for batch in &server.batches {
        told.push(format!("batch {} of {}: {}", batch.id, batch.worker, batch.messages));
    }
    for entry in &server.workers {
        if let Some(message) = entry.alone_with {
            told.push(format!("{} alone with #{message}", entry.id));
        }
        if entry.unproven {
            told.push(format!("the death of {} would prove nothing", entry.id));
        }
    }
    told.join("; ")
}
