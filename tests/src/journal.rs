//! What handlers in real worker processes leave for the test that started them.

use std::fs::OpenOptions;
use std::io::Write;

use taskmq_core::Context;

/// Appends a line to the file that `TEST_JOURNAL` names, if anything does: what happened, to which message, at which
/// attempt, in which process.
pub fn journal(what: &str, number: i64, ctx: &Context) {
    let Ok(path) = std::env::var("TEST_JOURNAL") else { return };
    let line = format!("{what} {number} {} {}\n", ctx.attempt(), std::process::id());
    let file = OpenOptions::new().create(true).append(true).open(path);
    if let Ok(mut file) = file {
        let _ = file.write_all(line.as_bytes());
    }
}
